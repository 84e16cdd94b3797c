package ca

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"bollard/internal/curve448"
	"bollard/internal/failpoint"
	"bollard/keys"
	"bollard/ledger"
)

// Migration is what becomes of a hierarchy's keys when they move.
type Migration struct {
	Kind Kind      `json:"kind"`
	CAs  []MovedCA `json:"cas,omitempty"`  // those whose keys are made anew; the roots' stay
	Kept string    `json:"kept,omitempty"` // why none is
	// Root is the one that has to certify the successor, its key being offline; "": it is
	// here, and did. Request is what it is asked by, PEM of PKCS#10; "" in a dry run.
	Root    string `json:"root,omitempty"`
	Request string `json:"request,omitempty"`
}

// MovedCA is a CA that gets a successor with a key elsewhere. Once that issues, it issues
// no more, and answers for what it issued until its own end.
type MovedCA struct {
	Name string `json:"name"`
	Key  string `json:"key"`  // where it is, and stays
	Next string `json:"next"` // its successor
}

// MigrateKeys makes new keys below a URI for the CAs below own roots, of all hierarchies,
// has the roots certify them, and issues with them from then on; one whose root is offline
// waits for its certificate (ImportChain). What was issued keeps its chain, lists and OCSP.
// An interrupted run is gone on with, and nothing is made twice. With dry it tells what
// would be.
func (a *Authority) MigrateKeys(ctx context.Context, to string, dry bool, actor string) ([]Migration, error) {
	a.building.Lock()
	defer a.building.Unlock()
	if _, err := keys.Join(to, "probe.key"); err != nil {
		return nil, err
	}
	if a.cfg.Keeper == nil {
		return nil, errors.New("internal error: ca.Config.Keeper is missing")
	}
	var list []Migration
	for _, h := range hierarchies {
		l := a.hierarchy(h.kind)
		if l.issuing == nil {
			continue
		}
		m, err := a.planMigration(ctx, h, l, to)
		if err != nil {
			return list, err
		}
		list = append(list, m)
	}
	if dry {
		return list, nil
	}
	for i, m := range list {
		if len(m.CAs) == 0 {
			continue
		}
		h, err := hierarchyOf(m.Kind)
		if err != nil {
			return list, err
		}
		asked, err := a.migrate(ctx, h, to, actor)
		if err != nil {
			return list, fmt.Errorf("couldn't move the keys of %s; the same command goes on: %w", h.kind, err)
		}
		if m.Root != "" {
			list[i].Request = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: asked}))
			continue // nothing issues yet with the new key
		}
		if err := a.load(ctx, h); err != nil {
			return list, err
		}
		a.changed()
	}
	return list, nil
}

// planMigration says what is to be done for a hierarchy.
func (a *Authority) planMigration(ctx context.Context, h hierarchy, l *loadedHierarchy, to string) (Migration, error) {
	m := Migration{Kind: h.kind}
	moving, under, err := a.rekeying(ctx, h, to)
	if err != nil {
		return m, err
	}
	change := l.rollover
	if l.cas[0].borrowed {
		change = a.hierarchy(h.under).rollover
	}
	elsewhere := func(c caRecord) bool {
		return slices.Contains(h.subs, c.profile) && !c.former && !keys.Below(to, c.keyURI)
	}
	switch {
	case !slices.ContainsFunc(l.cas, elsewhere):
		m.Kept = "its keys are there already"
	case l.cas[0].profile == profileOutside:
		m.Kept = fmt.Sprintf("others certify it: with keys.uri changed in bollard.yaml, bollard ca request %s --new-key makes the key there and prints the request for it", h.kind)
	case h.anchored:
		m.Kept = "stations hold its issuing CA as their root: its key can't be another"
	case !change.over():
		m.Kept = fmt.Sprintf("its root is being changed: bollard ca rollover %s show", change.Kind)
	case h.class == ClassEd448 && keys.Held(to):
		m.Kept = "keys on Ed448 are made in files only"
	case !keys.Held(to) && slices.ContainsFunc(l.cas, func(c caRecord) bool {
		return elsewhere(c) && keys.Held(c.keyURI) && !keys.IsMount(c.keyURI) // a mount that is lost has a way back
	}):
		m.Kept = "its keys are where they never leave, and aren't made anew in files"
	}
	if m.Kept != "" {
		return m, nil
	}
	if l.cas[0].keyURI == "" {
		m.Root = l.cas[0].name
	}
	generation := a.nextGeneration(moving, under)
	for _, c := range l.cas {
		if slices.Contains(h.subs, c.profile) && !c.former {
			m.CAs = append(m.CAs, MovedCA{Name: c.name, Key: c.keyURI, Next: h.generationName(c.profile, generation)})
		}
	}
	return m, nil
}

// rekeying is the newest generation of keys of a hierarchy under a root here, the zero
// value before the first change; under way to a place while it is to be there and doesn't
// issue. One that was to be elsewhere is given up with that: nothing depends on it.
func (a *Authority) rekeying(ctx context.Context, h hierarchy, to string) (r Request, under bool, err error) {
	list, err := a.cfg.Store.Requests(ctx, h.kind)
	if err != nil || len(list) == 0 {
		return Request{}, false, err
	}
	issues := a.hierarchy(h.kind).issuing.name == h.generationName(h.issuing(), list[0].Generation)
	return list[0], !issues && keys.Below(to, list[0].KeyURI), nil
}

func (a *Authority) nextGeneration(newest Request, under bool) int {
	if under {
		return newest.Generation
	}
	return max(newest.Generation, 1) + 1
}

// migrate gives the CAs of a hierarchy below its root successors with keys of their own. For
// one whose root is offline it returns the request (PKCS#10, DER) that asks it for that.
func (a *Authority) migrate(ctx context.Context, h hierarchy, to, actor string) ([]byte, error) {
	l := a.hierarchy(h.kind)
	request, under, err := a.rekeying(ctx, h, to)
	if err != nil {
		return nil, err
	}
	if !under {
		if request, err = a.recordRekeying(ctx, h, request, to, actor); err != nil {
			return nil, err
		}
	}
	failpoint.Hit("ca.rekeying")
	b := builder{a: a, h: h, actor: actor, algorithm: algorithmLike(l.issuing.cert.PublicKey)}
	if l.cas[0].keyURI == "" {
		asked, err := b.ask(ctx, request)
		failpoint.Hit("ca.rekeyed")
		return asked, err
	}
	return nil, b.succeed(ctx, l.cas[0], request, to)
}

// succeed has a root that is here certify the successors.
func (b builder) succeed(ctx context.Context, root caRecord, request Request, to string) error {
	a, h := b.a, b.h
	signer, err := b.key(ctx, request.KeyURI, true)
	if err != nil {
		return err
	}
	if request.KeyHash, err = keyHash(signer.Public()); err != nil {
		return err
	}
	if err := a.cfg.Store.SetRequestKey(ctx, request); err != nil {
		return err
	}
	failpoint.Hit("ca.rekeyed")
	by, err := a.openIssuer(ctx, root)
	if err != nil {
		return err
	}
	for i, profile := range h.subs {
		w := wantedCA{name: h.generationName(profile, request.Generation), profile: profile, issuedBy: by.name, by: by, uri: request.KeyURI, adopt: true}
		if i > 0 {
			// Its name comes from the one that was drawn: nobody else has it.
			if w.uri, err = keys.Join(to, fmt.Sprintf("%s-%s.key", w.name, hashHex([]byte(request.KeyURI))[:12])); err != nil {
				return err
			}
			by, err = b.ensure(ctx, w)
		} else {
			by, err = b.ensureKey(ctx, w, request.KeyHash)
		}
		if err != nil {
			return err
		}
		failpoint.Hit("ca.rekeyed-" + fmt.Sprint(i+1))
	}
	return nil
}

// recordRekeying puts the name of a key on record before there is one.
func (a *Authority) recordRekeying(ctx context.Context, h hierarchy, newest Request, to, actor string) (Request, error) {
	generation := a.nextGeneration(newest, false)
	tag, err := newSerial(a.random)
	if err != nil {
		return Request{}, err
	}
	name := h.generationName(h.subs[0], generation)
	uri, err := keys.Join(to, fmt.Sprintf("%s-%s.key", name, tag.Text(16)[:12]))
	if err != nil {
		return Request{}, err
	}
	// A place that can't be looked into gets no key.
	if _, err := a.cfg.Keeper.Open(ctx, uri, keys.RoleCA); !errors.Is(err, keys.ErrNotFound) {
		return Request{}, errors.Join(err, errors.New("nothing was changed"))
	}
	r := Request{Kind: h.kind, Generation: generation, Profile: h.subs[0], KeyURI: uri, CreatedAt: a.cfg.Clock().UTC()}
	return r, a.replace(ctx, h, newest, r, ledger.Event{Kind: "ca.rekeyed", Subject: string(h.kind), Actor: actor, Data: map[string]string{
		"ca": name, "holder": keys.Holder(uri), "before": keys.Holder(a.hierarchy(h.kind).issuing.keyURI),
	}})
}

// ensureKey is ensure for a CA that has a sister with another key under the same root.
func (b builder) ensureKey(ctx context.Context, w wantedCA, key string) (*issuer, error) {
	have, err := b.a.findKey(ctx, b.h, w.name, w.profile, w.issuedBy, func(hash string) bool { return hash == key })
	if errors.Is(err, ErrNoHierarchy) {
		return b.certify(ctx, w)
	}
	if err != nil {
		return nil, err
	}
	return b.a.openIssuer(ctx, have)
}

// findKey is findCA among the CAs with certain keys.
func (a *Authority) findKey(ctx context.Context, h hierarchy, name, profile, issuedBy string, of func(hash string) bool) (caRecord, error) {
	return findRecord(ctx, a.cfg.Store, h, name, profile, issuedBy, func(r Record) bool { return of(r.KeyHash) })
}

// keyGenerations are those of a hierarchy under a root here that are made, newest first;
// the first of all has no request, and is last.
func (a *Authority) keyGenerations(ctx context.Context, h hierarchy) ([]Request, error) {
	list, err := a.cfg.Store.Requests(ctx, h.kind)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(r Request) bool { return r.KeyHash == "" || r.Generation < 2 })
	return append(list, Request{Kind: h.kind, Generation: 1}), nil
}

// topOf is the topmost CA of a generation of keys under a root.
func (a *Authority) topOf(ctx context.Context, h hierarchy, generations []Request, g Request, root string) (caRecord, error) {
	return a.findKey(ctx, h, h.generationName(h.subs[0], g.Generation), h.subs[0], root, func(hash string) bool {
		if g.Generation > 1 {
			return hash == g.KeyHash
		}
		return !slices.ContainsFunc(generations, func(r Request) bool { return r.KeyHash == hash })
	})
}

// newestUnder is the newest generation that is whole below a root: its CAs, from above,
// and their certificates, the issuing CA's first.
func (a *Authority) newestUnder(ctx context.Context, h hierarchy, root caRecord) (cas []caRecord, chain []*x509.Certificate, err error) {
	generations, err := a.keyGenerations(ctx, h)
	if err != nil {
		return nil, nil, err
	}
	for _, g := range generations {
		if g.Waiting {
			continue
		}
		cas, chain, err = a.under(ctx, h, generations, g, root)
		if !errors.Is(err, ErrNoHierarchy) {
			break
		}
	}
	return cas, chain, err
}

// under reads one generation of keys below a root.
func (a *Authority) under(ctx context.Context, h hierarchy, generations []Request, g Request, root caRecord) ([]caRecord, []*x509.Certificate, error) {
	top, err := a.topOf(ctx, h, generations, g, root.name)
	if err != nil {
		return nil, nil, err
	}
	if err := curve448.CheckSignatureFrom(top.cert, root.cert); err != nil {
		return nil, nil, fmt.Errorf("%s isn't signed by %s; restore the database from the backup: %w", top.name, root.name, err)
	}
	cas, chain, err := a.below(ctx, h, top, g.Generation)
	return cas, append(chain, top.cert), err
}

// Unread are the CAs of a hierarchy whose keys moved and that can't answer for what they
// issued, since the key they had doesn't open. A next root doesn't certify them.
func (a *Authority) Unread(kind Kind) []string { return a.hierarchy(kind).unread }

// keepFormer takes along the CAs whose keys moved, for what they issued.
func (a *Authority) keepFormer(ctx context.Context, h hierarchy, l *loadedHierarchy, issuing string) error {
	generations, err := a.keyGenerations(ctx, h)
	if err != nil {
		return err
	}
	roots := slices.Concat(l.cas, a.hierarchy(h.under).cas)
	roots = slices.DeleteFunc(roots, func(c caRecord) bool { return c.profile != h.root })
	for _, g := range generations {
		if g.Waiting || h.generationName(h.issuing(), g.Generation) == issuing {
			continue
		}
		for _, root := range roots {
			cas, chain, err := a.under(ctx, h, generations, g, root)
			if errors.Is(err, ErrNoHierarchy) {
				continue
			}
			if err != nil {
				return err
			}
			by, err := a.openAgain(ctx, h.kind, cas[len(cas)-1])
			if err != nil {
				a.cfg.Log.Error("a CA that issued before can't be read: nobody learns of what it issued", "hierarchy", h.kind, "generation", g.Generation, "err", err)
				if last := cas[len(cas)-1]; !a.cfg.Clock().After(last.cert.NotAfter) {
					l.unread = append(l.unread, last.name)
				}
				break
			}
			by.chain = chain
			if l.rollover.Phase == PhaseSwitched && root.name == l.cas[0].name {
				by.chain = append(chain, l.cross) // as served has it
			}
			l.keep(&loadedHierarchy{cas: cas, issuing: by}, a.cfg.Clock())
			break
		}
	}
	return nil
}
