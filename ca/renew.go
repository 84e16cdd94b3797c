package ca

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bollard/internal/curve448"
)

// worthwhile is how much longer a CA must live with another certificate.
const worthwhile = 30 * 24 * time.Hour

// Renewed is a CA that got another certificate for the key it has.
type Renewed struct {
	Kind     Kind
	Name     string
	Serial   string
	NotAfter time.Time
}

// DueCA is a CA whose certificate has to be renewed by somebody.
type DueCA struct {
	Kind     Kind
	Name     string
	Profile  string
	NotAfter time.Time
	// Outside: others have to certify it (RequestCA, ImportChain). Root: it is a root,
	// which is changed (Rollover). Neither: RenewCAs does it.
	Outside, Root bool
}

// DueCAs are the CAs of ours whose certificates are due.
func (a *Authority) DueCAs() []DueCA {
	var due []DueCA
	now := a.cfg.Clock()
	for _, h := range hierarchies {
		l := a.hierarchy(h.kind)
		for _, c := range l.cas {
			if c.profile == profileOutside || c.borrowed || c.retired || c.former || now.Before(profiles[c.profile].RenewAt(c.cert)) {
				continue
			}
			d := DueCA{Kind: h.kind, Name: c.name, Profile: c.profile, NotAfter: c.cert.NotAfter, Root: c.profile == h.root}
			d.Outside = l.cas[0].keyURI == "" && l.topOurs().name == c.name
			due = append(due, d)
		}
	}
	return due
}

// topOurs is the topmost CA of a hierarchy whose key is here.
func (l *loadedHierarchy) topOurs() caRecord {
	for _, c := range l.cas {
		if c.keyURI != "" && !c.borrowed {
			return c
		}
	}
	return caRecord{}
}

// RenewCAs certifies CAs below the roots again, with the names and keys they have, so
// that what they issued, their lists and OCSP go on: those that are due, or all of one
// hierarchy. Roots, and CAs that others certify, are left out.
func (a *Authority) RenewCAs(ctx context.Context, kind Kind, actor string) ([]Renewed, error) {
	a.building.Lock()
	defer a.building.Unlock()
	if kind != "" {
		if _, err := hierarchyOf(kind); err != nil {
			return nil, err
		}
		if a.hierarchy(kind).issuing == nil {
			return nil, fmt.Errorf("%w: %s; make it with bollard ca create %s", ErrNoHierarchy, kind, kind)
		}
	}
	if a.cfg.Keeper == nil {
		return nil, errors.New("internal error: ca.Config.Keeper is missing")
	}
	var all []Renewed
	var errs []error
	for _, h := range hierarchies {
		// Stations hold the issuing CA of an anchored one itself.
		if h.anchored || a.hierarchy(h.kind).issuing == nil || kind != "" && kind != h.kind {
			continue
		}
		renewed, err := a.renewHierarchy(ctx, h, kind != "", actor)
		errs = append(errs, err)
		all = append(all, renewed...)
	}
	if len(all) > 0 {
		// In this order, since some are under roots of others.
		for _, h := range hierarchies {
			if a.hierarchy(h.kind).issuing != nil {
				errs = append(errs, a.load(ctx, h))
			}
		}
		a.changed()
	}
	return all, errors.Join(errs...)
}

// renewHierarchy goes from above: a CA lives no longer than the one that certifies it.
func (a *Authority) renewHierarchy(ctx context.Context, h hierarchy, asked bool, actor string) ([]Renewed, error) {
	var renewed []Renewed
	now := a.cfg.Clock()
	l := a.hierarchy(h.kind)
	above := map[string]*issuer{} // by name, as renewed
	seen := map[string]bool{}     // while a root is changed, what is below both is there twice
	for i, c := range l.cas {
		if seen[SerialOf(c.cert)] {
			continue
		}
		seen[SerialOf(c.cert)] = true
		if c.former || !slices.Contains(h.subs, c.profile) || !asked && now.Before(profiles[c.profile].RenewAt(c.cert)) {
			continue
		}
		by, err := a.certifierOf(ctx, l, i, above)
		if err != nil {
			return renewed, err
		}
		if by == nil { // others'
			continue
		}
		end := profiles[c.profile].end(now)
		if by.cert.NotAfter.Before(end) {
			end = by.cert.NotAfter
		}
		if end.Sub(c.cert.NotAfter) < worthwhile {
			continue // nothing is won; if the one above ends as soon that is due itself
		}
		like, err := a.openIssuer(ctx, c)
		if err != nil {
			return renewed, err
		}
		b := builder{a: a, h: h, actor: actor}
		next, err := b.certify(ctx, wantedCA{name: c.name, profile: c.profile, issuedBy: by.name, by: by, like: like})
		if err != nil {
			return renewed, err
		}
		above[c.name] = next
		renewed = append(renewed, Renewed{Kind: h.kind, Name: c.name, Serial: SerialOf(next.cert), NotAfter: next.cert.NotAfter})
		a.cfg.Log.Info("a CA's certificate renewed", "ca", c.name, "serial", SerialOf(next.cert), "not_after", next.cert.NotAfter)
	}
	return renewed, nil
}

// certifierOf opens the CA that signed one, nil if its key isn't here.
func (a *Authority) certifierOf(ctx context.Context, l *loadedHierarchy, i int, renewed map[string]*issuer) (*issuer, error) {
	for _, c := range l.cas {
		if curve448.CheckSignatureFrom(l.cas[i].cert, c.cert) != nil || c.keyURI == "" {
			continue
		}
		if by := renewed[c.name]; by != nil {
			return by, nil
		}
		return a.openIssuer(ctx, c)
	}
	return nil, nil
}

// MaintainCAs renews what is due until the context ends. Trouble is logged and tried
// again.
func (a *Authority) MaintainCAs(ctx context.Context) error {
	for {
		err := a.catchUp(ctx)
		_, failed := a.RenewCAs(ctx, "", "bollard")
		if err = errors.Join(err, failed, a.refresh(ctx)); err != nil && ctx.Err() == nil {
			a.cfg.Log.Error("a CA's certificate isn't renewed", "err", err, "retry", renewCheck)
		}
		timer := time.NewTimer(renewCheck)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}
