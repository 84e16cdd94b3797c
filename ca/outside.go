package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"bollard/internal/curve448"
	"bollard/ledger"
)

// Request is a key of ours that others are asked to certify as the topmost CA a
// hierarchy has here.
type Request struct {
	Kind       Kind
	Generation int    // 1, and one more with each new key
	Profile    string // of that CA
	KeyURI     string
	KeyHash    string // of the key, from its being made on; "" before that
	CreatedAt  time.Time
	// Waiting: the key is in a mount that hasn't shown its certificate yet. It issues nothing.
	Waiting bool
}

// OutsideChain is what others made of a CA of ours: its certificate first, then those
// above it, the root last.
type OutsideChain struct {
	Kind    Kind
	Hash    string // SHA-256 of DER, lower-case hex
	DER     []byte // of all, one after the other
	AddedAt time.Time
}

// OutsideStore keeps them. Its methods are bound as Store's are.
type OutsideStore interface {
	// Requests returns a hierarchy's, the newest generation first.
	Requests(ctx context.Context, kind Kind) ([]Request, error)
	// PutRequest is ErrHierarchyExists if the hierarchy has one of the generation.
	PutRequest(ctx context.Context, r Request, events ...ledger.Event) error
	// SetRequestKey notes the key that was made for one, and whether it waits; idempotent.
	SetRequestKey(ctx context.Context, r Request, events ...ledger.Event) error
	// OutsideChains returns a hierarchy's, newest first.
	OutsideChains(ctx context.Context, kind Kind) ([]OutsideChain, error)
	AddOutsideChain(ctx context.Context, c OutsideChain, events ...ledger.Event) error            // idempotent
	RemoveOutsideChain(ctx context.Context, kind Kind, hash string, events ...ledger.Event) error // idempotent
	// TakeIn records issued certificates that an offline root signed, its newest revocation
	// list, and the step of a root change that this is, as PutRollover does; both of them may
	// be nil. It is all or none. Certificates that are known stay.
	TakeIn(ctx context.Context, records []Record, list *RootList, next *Rollover, events ...ledger.Event) error
	// RootList returns an offline root's, the zero value without one.
	RootList(ctx context.Context, issuer string) (RootList, error)
}

// profileOutside marks CAs and roots of others in what is loaded.
const profileOutside = "outside"

// outsideChain is one as it counts now.
type outsideChain struct {
	hash    string
	chain   []*x509.Certificate
	trusted bool // its root still is
	over    bool // one of its certificates has ended
}

// counts: something may be given out along it.
func (c outsideChain) counts() bool { return c.trusted && !c.over }

// outsideChains are those of a hierarchy, newest first, those last that count no more.
func (a *Authority) outsideChains(ctx context.Context, h hierarchy) ([]outsideChain, error) {
	list, err := a.cfg.Store.OutsideChains(ctx, h.kind)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	anchors, err := a.cfg.Store.Anchors(ctx, h.use)
	if err != nil {
		return nil, err
	}
	var good, rest []outsideChain
	now := a.cfg.Clock()
	for _, c := range list {
		chain, err := curve448.ParseCertificates(c.DER)
		if err != nil || len(chain) < 2 {
			return nil, fmt.Errorf("couldn't read a chain of %s; restore the database from the backup: %w", h.kind, err)
		}
		o := outsideChain{
			hash: c.Hash, chain: chain,
			trusted: slices.ContainsFunc(anchors, func(t TrustAnchor) bool { return bytes.Equal(t.DER, chain[len(chain)-1].Raw) }),
			over:    slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return now.After(c.NotAfter) }),
		}
		if o.counts() {
			good = append(good, o)
		} else {
			rest = append(rest, o)
		}
	}
	return append(good, rest...), nil
}

// readOutside reads a hierarchy whose topmost CA here others certified: the newest
// generation of keys that is whole, and the older ones for what they issued.
// ErrNoHierarchy if none is whole.
func (a *Authority) readOutside(ctx context.Context, h hierarchy) (*loadedHierarchy, error) {
	requests, err := a.cfg.Store.Requests(ctx, h.kind)
	if err != nil {
		return nil, err
	}
	chains, err := a.outsideChains(ctx, h)
	if err != nil {
		return nil, err
	}
	var l *loadedHierarchy
	for _, request := range requests {
		g, err := a.readGeneration(ctx, h, request, chains)
		switch {
		case errors.Is(err, ErrNoHierarchy): // it waits for its chain
		case err != nil && l != nil:
			a.cfg.Log.Error("a CA that issued before can't be read: nobody learns of what it issued", "hierarchy", h.kind, "generation", request.Generation, "err", err)
		case err != nil:
			return nil, err
		case l == nil:
			l = g
		default:
			l.keep(g, a.cfg.Clock())
		}
	}
	if l == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoHierarchy, h.kind)
	}
	return l, nil
}

// keep takes the CAs of an older generation along: they issue no more, but answer for
// what they issued, which ends no later than they do.
func (l *loadedHierarchy) keep(older *loadedHierarchy, now time.Time) {
	if now.After(older.issuing.cert.NotAfter) {
		return
	}
	l.former = append(l.former, older.issuing)
	for _, c := range older.cas {
		if c.profile != profileOutside {
			c.former = true
			l.cas = append(l.cas, c)
		}
	}
}

// readGeneration reads what is certified of one generation.
func (a *Authority) readGeneration(ctx context.Context, h hierarchy, request Request, chains []outsideChain) (*loadedHierarchy, error) {
	name := h.generationName(request.Profile, request.Generation)
	hash := a.requestedKey(ctx, request, chains)
	i := slices.IndexFunc(chains, func(c outsideChain) bool { return hashHex(c.chain[0].RawSubjectPublicKeyInfo) == hash })
	if i < 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoHierarchy, h.kind)
	}
	chain := chains[i].chain
	l := &loadedHierarchy{rollover: Rollover{Kind: h.kind}}
	for j := len(chain) - 1; j > 0; j-- {
		l.cas = append(l.cas, caRecord{name: fmt.Sprintf("%s-outside-%d", h.kind, j), profile: profileOutside, cert: chain[j]})
	}
	top := caRecord{name: name, profile: request.Profile, cert: chain[0], keyURI: request.KeyURI}
	cas, below, err := a.below(ctx, h, top, request.Generation)
	if err != nil {
		return nil, err
	}
	l.cas = append(l.cas, cas...)
	l.old = append(below, chain[:len(chain)-1]...)
	if chains[i].counts() {
		l.paths = []Path{{Root: chain[len(chain)-1], Chain: l.old, outside: len(chain) - 1}}
	}
	if l.issuing, err = a.openAgain(ctx, h.kind, cas[len(cas)-1]); err != nil {
		return nil, err
	}
	l.issuing.chain = l.old
	return l, nil
}

// requestedKey is the hash of a request's key; "" for one that isn't made or can't be
// opened, which nobody has certified: a request is given out once the hash is on record.
// Those of a database from before that are asked themselves, if there may be a chain.
func (a *Authority) requestedKey(ctx context.Context, request Request, chains []outsideChain) string {
	if request.KeyHash != "" || len(chains) == 0 {
		return request.KeyHash
	}
	signer, err := a.cfg.Keys(ctx, request.KeyURI)
	if err != nil {
		a.cfg.Log.Warn("a key that others are asked to certify can't be opened: it waits", "hierarchy", request.Kind, "generation", request.Generation, "err", err)
		return ""
	}
	hash, err := keyHash(signer.Public())
	if err != nil {
		return ""
	}
	return hash
}

// below reads the CAs of a hierarchy from one of its sub-CAs on: their records, that
// one first, and the certificates below it, the issuing CA's first.
func (a *Authority) below(ctx context.Context, h hierarchy, top caRecord, generation int) ([]caRecord, []*x509.Certificate, error) {
	cas, chain := []caRecord{top}, []*x509.Certificate(nil)
	for _, profile := range h.subs[slices.Index(h.subs, top.profile)+1:] {
		above := cas[len(cas)-1]
		sub, err := findCA(ctx, a.cfg.Store, h, h.generationName(profile, generation), profile, above.name)
		if err != nil {
			return nil, nil, err
		}
		if err := curve448.CheckSignatureFrom(sub.cert, above.cert); err != nil {
			return nil, nil, fmt.Errorf("%s isn't signed by %s; restore the database from the backup: %w", sub.name, above.name, err)
		}
		cas, chain = append(cas, sub), append([]*x509.Certificate{sub.cert}, chain...)
	}
	return cas, chain, nil
}

// addOutside adds the ways to roots of others that certified a CA of a hierarchy, be
// it beside the own root or beside another outside one.
func (a *Authority) addOutside(ctx context.Context, h hierarchy, l *loadedHierarchy) error {
	chains, err := a.outsideChains(ctx, h)
	if err != nil {
		return err
	}
	for _, c := range chains {
		if path, ok := l.over(c.chain); ok && c.counts() {
			l.paths = append(l.paths, path)
		}
	}
	return nil
}

// over is the way over an outside chain: from the issuing CA up to the one of ours it
// certifies, and on along it.
func (l *loadedHierarchy) over(chain []*x509.Certificate) (Path, bool) {
	own := slices.Clone(l.old)
	if len(l.paths) > 0 {
		own = append(own, l.paths[0].Root)
	}
	i := slices.IndexFunc(own, func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawSubjectPublicKeyInfo, chain[0].RawSubjectPublicKeyInfo) && bytes.Equal(c.RawSubject, chain[0].RawSubject)
	})
	if i < 0 {
		return Path{}, false
	}
	last := len(chain) - 1
	return Path{Root: chain[last], Chain: append(own[:i:i], chain[:last]...), outside: last}, true
}
