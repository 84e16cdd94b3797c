package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bollard/ledger"
)

// ImportedChain is a chain that others made for a CA of ours.
type ImportedChain struct {
	Kind Kind
	Hash string            // SHA-256 of its DER, lower-case hex
	CA   *x509.Certificate // of ours
	Root *x509.Certificate
	// Trusted: its root still is. Over: one of its certificates has ended. Without the
	// one, or with the other, nothing is given out along it.
	Trusted, Over bool
}

// Chains returns a hierarchy's chains, in the order in which they count.
func (a *Authority) Chains(ctx context.Context, kind Kind) ([]ImportedChain, error) {
	h, err := hierarchyOf(kind)
	if err != nil {
		return nil, err
	}
	chains, err := a.outsideChains(ctx, h)
	var list []ImportedChain
	for _, c := range chains {
		list = append(list, ImportedChain{Kind: kind, Hash: c.hash, CA: c.chain[0], Root: c.chain[len(c.chain)-1], Trusted: c.trusted, Over: c.over})
	}
	return list, err
}

// ErrOnlyChain refuses to take out what a CA of ours has its certificate from.
var ErrOnlyChain = errors.New("it is the only chain of its CA here")

// RemoveChain takes a chain out again; leaves are given out along it no more. Eight
// digits of its hash suffice if they are unique. ErrOnlyChain for the last one of a CA
// that others certify, while it issues or answers for what it issued.
func (a *Authority) RemoveChain(ctx context.Context, kind Kind, prefix, actor string) (ImportedChain, error) {
	a.building.Lock()
	defer a.building.Unlock()
	h, err := hierarchyOf(kind)
	if err != nil {
		return ImportedChain{}, err
	}
	if prefix = strings.ToLower(strings.TrimSpace(prefix)); len(prefix) < 8 {
		return ImportedChain{}, fmt.Errorf("give at least eight digits of the chain's hash (bollard ca chains %s)", kind)
	}
	all, err := a.Chains(ctx, kind)
	if err != nil {
		return ImportedChain{}, err
	}
	matches := slices.DeleteFunc(slices.Clone(all), func(c ImportedChain) bool { return !strings.HasPrefix(c.Hash, prefix) })
	if len(matches) != 1 {
		return ImportedChain{}, fmt.Errorf("%d chains of %s begin with %s; bollard ca chains %s lists them", len(matches), kind, prefix, kind)
	}
	gone := matches[0]
	same := func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawSubjectPublicKeyInfo, gone.CA.RawSubjectPublicKeyInfo)
	}
	others := slices.ContainsFunc(all, func(c ImportedChain) bool { return c.Hash != gone.Hash && same(c.CA) })
	if needed := slices.ContainsFunc(a.hierarchy(kind).cas, func(c caRecord) bool { return c.cert.Equal(gone.CA) }); needed && !others {
		return ImportedChain{}, fmt.Errorf("%w, %s: take in another one first; ending the trust in its root has nothing given out along it", ErrOnlyChain, gone.CA.Subject)
	}
	event := ledger.Event{Kind: "ca.chain-removed", Subject: string(kind), Actor: actor, Data: map[string]string{
		"serial": SerialOf(gone.CA), "root": hashHex(gone.Root.Raw),
	}}
	if err := a.cfg.Store.RemoveOutsideChain(ctx, kind, gone.Hash, event); err != nil {
		return ImportedChain{}, fmt.Errorf("couldn't record that the chain is gone: %w", err)
	}
	if a.hierarchy(kind).issuing == nil {
		return gone, nil
	}
	if err := a.load(ctx, h); err != nil {
		return gone, err
	}
	a.changed()
	return gone, nil
}

// reconsider has hierarchies judge their chains anew when the trust in roots of others
// has changed, which is on record. Nothing is given out any more along chains to one that
// is gone, be the database or a key readable or not.
func (a *Authority) reconsider(ctx context.Context, use string, gone []byte) error {
	ctx = context.WithoutCancel(ctx)
	a.building.Lock()
	defer a.building.Unlock()
	var errs []error
	loaded := false
	for _, h := range hierarchies {
		if h.use != use || a.hierarchy(h.kind).issuing == nil {
			continue
		}
		loaded = true
		a.hierarchies.Lock()
		a.loaded[h.kind] = a.loaded[h.kind].along(func(p Path) bool { return p.outside == 0 || !bytes.Equal(p.Root.Raw, gone) })
		a.hierarchies.Unlock()
		errs = append(errs, a.load(ctx, h))
	}
	if loaded {
		a.changed()
	}
	return errors.Join(errs...)
}

// refresh reads hierarchies anew with a way that has ended: another may lead on.
func (a *Authority) refresh(ctx context.Context) error {
	a.building.Lock()
	defer a.building.Unlock()
	var errs []error
	now, ended := a.cfg.Clock(), false
	for _, h := range hierarchies {
		a.hierarchies.RLock()
		l := a.loaded[h.kind]
		a.hierarchies.RUnlock()
		if l != nil && slices.ContainsFunc(l.paths, func(p Path) bool { return p.over(now) }) {
			ended = true
			errs = append(errs, a.load(ctx, h))
		}
	}
	if ended {
		a.changed()
	}
	return errors.Join(errs...)
}

// leads is ErrNoHierarchy for one that leads to no root: the trust in all of them, or
// what leads there, has ended. It goes on answering for what it issued.
func (l *loadedHierarchy) leads(kind Kind) error {
	if len(l.paths) == 0 {
		return fmt.Errorf("%w: %s leads to no root that is still trusted, along a chain in force; `bollard ca chains %s` shows which, `bollard ca trust add` trusts one again, `bollard ca request %s` asks for another certificate", ErrNoHierarchy, kind, kind, kind)
	}
	return nil
}
