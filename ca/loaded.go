package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bollard/internal/curve448"
)

// caRecord is a CA certificate and where its key is.
type caRecord struct {
	name    string
	profile string
	cert    *x509.Certificate
	keyURI  string
	retired bool // a root no longer trusted here, whose revocation list goes on
	// borrowed: a root of another hierarchy, which speaks for it.
	borrowed bool
	// former: of an older generation of keys that others certified. It issues no more.
	former bool
}

// keyReference marks the Reference of a CA's record: what follows is the URI
// of its private key.
const keyReference = "key:"

// loadedHierarchy is a hierarchy as one set of records says. It never changes.
type loadedHierarchy struct {
	cas      []caRecord // the served root's first
	issuing  *issuer
	former   []*issuer // what issued before it, and answers for that
	unread   []string  // CAs that would, and whose keys don't open
	rollover Rollover
	// Chains of the issuing CA up to the present root and, during a change, to
	// the next one; without the roots.
	old, next []*x509.Certificate
	cross     *x509.Certificate // the next root's key under the present root
	// paths has the served one first. As loaded, several over others may lead to one root,
	// each of them until it ends.
	paths []Path
}

// hierarchy returns what is loaded and counts now; empty if there is none.
func (a *Authority) hierarchy(kind Kind) *loadedHierarchy {
	a.hierarchies.RLock()
	defer a.hierarchies.RUnlock()
	if l := a.loaded[kind]; l != nil {
		return l.inForce(a.cfg.Clock())
	}
	return &loadedHierarchy{}
}

// issuers are what issues and what issued leaves, the present one first.
func (l *loadedHierarchy) issuers() []*issuer {
	if l.issuing == nil {
		return nil
	}
	return append([]*issuer{l.issuing}, l.former...)
}

// load reads a hierarchy and puts it in force. ErrNoHierarchy if it isn't
// whole.
func (a *Authority) load(ctx context.Context, h hierarchy) error {
	l, err := a.read(ctx, h)
	if err != nil {
		return err
	}
	a.hierarchies.Lock()
	a.loaded[h.kind] = l
	a.hierarchies.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pools = nil // made of the roots
	return nil
}

func (a *Authority) read(ctx context.Context, h hierarchy) (*loadedHierarchy, error) {
	l, err := a.readOwn(ctx, h)
	if errors.Is(err, ErrNoHierarchy) && h.use != "" {
		l, err = a.readOutside(ctx, h)
	}
	if err != nil || h.use == "" {
		return l, err
	}
	return l, a.addOutside(ctx, h, l)
}

// readOwn reads a hierarchy under a root of ours.
func (a *Authority) readOwn(ctx context.Context, h hierarchy) (*loadedHierarchy, error) {
	change, err := a.cfg.Store.Rollover(ctx, h.kind)
	if err != nil {
		return nil, fmt.Errorf("couldn't read how far the root change of %s is: %w", h.kind, err)
	}
	l := &loadedHierarchy{rollover: change}
	present := change.present()
	cas, chain, err := a.generation(ctx, h, present)
	if err != nil {
		return nil, err
	}
	l.cas, l.old, l.paths = cas, chain, []Path{{Root: cas[0].cert, Chain: chain}}
	issuing := cas[len(cas)-1]
	if change.underWay() {
		cross, err := findCA(ctx, a.cfg.Store, h, h.rootName(change.Generation), h.cross, h.rootName(present))
		if err != nil {
			return nil, err
		}
		further, chain, err := a.generation(ctx, h, change.Generation)
		if err != nil {
			return nil, err
		}
		l.cross, l.next = cross.cert, chain
		following := Path{Root: further[0].cert, Chain: chain}
		if change.Phase == PhaseSwitched {
			issuing = further[len(further)-1]
			l.cas, l.paths = append(further, l.cas...), append([]Path{following}, l.paths...)
		} else {
			l.cas, l.paths = append(l.cas, further...), append(l.paths, following)
		}
	}
	if h.anchored {
		anchor, err := findCA(ctx, a.cfg.Store, h, h.caName(ProfileAnchor), ProfileAnchor, h.caName(h.issuing()))
		if err != nil {
			return nil, err
		}
		l.cas = append(l.cas, anchor)
	}
	if cas[0].borrowed {
		if l.paths, err = a.borrowedPaths(ctx, h, chain); err != nil {
			return nil, err
		}
	}
	for g := 1; g < present; g++ {
		root, err := findCA(ctx, a.cfg.Store, h, h.rootName(g), h.root, h.rootName(g))
		if err != nil {
			return nil, err
		}
		root.retired = true
		l.cas = append(l.cas, root)
	}
	if l.issuing, err = a.openAgain(ctx, h.kind, issuing); err != nil {
		return nil, err
	}
	l.issuing.chain = l.served()
	return l, a.keepFormer(ctx, h, l, l.issuing.name)
}

// generation reads a root and the issuing CA's certificate under it.
func (a *Authority) generation(ctx context.Context, h hierarchy, n int) ([]caRecord, []*x509.Certificate, error) {
	name := h.rootName(n)
	root, err := findCA(ctx, a.cfg.Store, h, name, h.root, name)
	if errors.Is(err, ErrNoHierarchy) && h.under != "" {
		root, err = a.borrowedRoot(ctx, h)
	}
	if err != nil {
		return nil, nil, err
	}
	cas, chain, err := a.newestUnder(ctx, h, root)
	return append([]caRecord{root}, cas...), chain, err
}

// borrowedRoot is the root of another hierarchy that this one was made under;
// that one is loaded before.
func (a *Authority) borrowedRoot(ctx context.Context, h hierarchy) (caRecord, error) {
	other, err := hierarchyOf(h.under)
	if err != nil {
		return caRecord{}, err
	}
	for _, root := range a.hierarchy(h.under).cas {
		if root.profile != other.root {
			continue
		}
		if _, err := findCA(ctx, a.cfg.Store, h, h.caName(h.subs[0]), h.subs[0], root.name); err == nil {
			root.borrowed = true
			return root, nil
		} else if !errors.Is(err, ErrNoHierarchy) {
			return caRecord{}, err
		}
	}
	return caRecord{}, fmt.Errorf("%w: %s", ErrNoHierarchy, h.kind)
}

// borrowedPaths are the ways to the roots of the hierarchy that this one is under, the
// served one's first; chain is the first of them.
func (a *Authority) borrowedPaths(ctx context.Context, h hierarchy, chain []*x509.Certificate) ([]Path, error) {
	other, err := hierarchyOf(h.under)
	if err != nil {
		return nil, err
	}
	below, top := chain[:len(chain)-1], hashHex(chain[len(chain)-1].RawSubjectPublicKeyInfo)
	var paths []Path
	for _, root := range a.hierarchy(h.under).cas {
		if root.profile != other.root || root.retired && len(paths) > 0 {
			continue
		}
		sub, err := a.findKey(ctx, h, h.caName(h.subs[0]), h.subs[0], root.name, func(hash string) bool { return hash == top })
		if errors.Is(err, ErrNoHierarchy) {
			continue
		}
		if err != nil {
			return nil, err
		}
		paths = append(paths, Path{Root: root.cert, Chain: append(below[:len(below):len(below)], sub.cert)})
	}
	return paths, nil
}

// served is the chain given out below a leaf: under the present root until
// the switch, then under the next root with the bridge from the old one, so
// that holders of either root can follow it.
func (l *loadedHierarchy) served() []*x509.Certificate {
	if l.rollover.Phase == PhaseSwitched {
		return append(slices.Clip(slices.Clone(l.next)), l.cross)
	}
	return l.old
}

// findCA returns the newest certificate of a CA. ErrNoHierarchy if there is none.
func findCA(ctx context.Context, store Store, h hierarchy, name, profile, issuedBy string) (caRecord, error) {
	return findRecord(ctx, store, h, name, profile, issuedBy, func(Record) bool { return true })
}

func findRecord(ctx context.Context, store Store, h hierarchy, name, profile, issuedBy string, fits func(Record) bool) (caRecord, error) {
	records, err := store.Certificates(ctx, Filter{Profile: profile, State: StateIssued})
	if err != nil {
		return caRecord{}, fmt.Errorf("couldn't read the CA certificates: %w", err)
	}
	for _, r := range records {
		if r.Issuer != issuedBy || r.External || !fits(r) {
			continue
		}
		cert, err := curve448.ParseCertificate(r.DER)
		if err != nil {
			return caRecord{}, fmt.Errorf("couldn't read the certificate of %s; restore the database from the backup: %w", name, err)
		}
		return caRecord{
			name: name, profile: profile, cert: cert,
			keyURI: strings.TrimPrefix(r.Reference, keyReference),
		}, nil
	}
	return caRecord{}, fmt.Errorf("%w: %s of %s", ErrNoHierarchy, name, h.kind)
}

// Roots returns the hierarchy's own root certificates that are trusted, the
// one whose chain is served first. There are two while the root is changed.
func (a *Authority) Roots(kind Kind) []*x509.Certificate {
	h, err := hierarchyOf(kind)
	if err != nil {
		return nil
	}
	return a.certificates(kind, h.root)
}

// Intermediates returns the hierarchy's CA certificates below the root, from
// above.
func (a *Authority) Intermediates(kind Kind) []*x509.Certificate {
	h, err := hierarchyOf(kind)
	if err != nil {
		return nil
	}
	return a.certificates(kind, h.subs...)
}

// Installable returns what stations install as the root of this hierarchy:
// its roots, those of others that it leads to included, or the anchor of the issuing CA
// where nothing may stand between an installed root and what it signs.
func (a *Authority) Installable(kind Kind) []*x509.Certificate {
	if h, err := hierarchyOf(kind); err == nil && h.anchored {
		return a.certificates(kind, ProfileAnchor)
	}
	return a.PathRoots(kind)
}

// PathRoots returns the roots that the hierarchy's certificates lead to, own ones and
// others', the served one first.
func (a *Authority) PathRoots(kind Kind) []*x509.Certificate {
	var roots []*x509.Certificate
	for _, p := range a.Paths(kind) {
		roots = append(roots, p.Root)
	}
	return roots
}

// RetiredRoots returns the hierarchy's roots from before its last change.
func (a *Authority) RetiredRoots(kind Kind) []*x509.Certificate {
	var certs []*x509.Certificate
	for _, ca := range a.hierarchy(kind).cas {
		if ca.retired {
			certs = append(certs, ca.cert)
		}
	}
	return certs
}

func (a *Authority) certificates(kind Kind, of ...string) []*x509.Certificate {
	var certs []*x509.Certificate
	for _, ca := range a.hierarchy(kind).cas {
		if slices.Contains(of, ca.profile) && !ca.retired {
			certs = append(certs, ca.cert)
		}
	}
	return certs
}

// chainOf returns the chain below which a certificate of ours is given out.
func (a *Authority) chainOf(record Record, cert *x509.Certificate) []*x509.Certificate {
	if record.External || profiles[record.Profile].CA {
		return nil
	}
	for _, h := range hierarchies {
		for _, by := range a.hierarchy(h.kind).issuers() {
			if by.name == record.Issuer && bytes.Equal(by.cert.SubjectKeyId, cert.AuthorityKeyId) {
				return by.chain
			}
		}
	}
	return nil
}

// Create makes a further hierarchy in a running authority; see Init.
func (a *Authority) Create(ctx context.Context, kind Kind, actor string) error {
	a.building.Lock()
	defer a.building.Unlock()
	h, err := hierarchyOf(kind)
	if err != nil {
		return err
	}
	if a.cfg.Keeper == nil {
		return errors.New("internal error: ca.Config.Keeper is missing")
	}
	if err := a.countsHere(h); err != nil {
		return err
	}
	if err := (builder{a: a, h: h, actor: actor, algorithm: a.defaultAlgorithm(h)}).build(ctx); err != nil {
		return err
	}
	if err := a.load(ctx, h); err != nil {
		return err
	}
	a.changed()
	return nil
}
