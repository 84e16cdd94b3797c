package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bollard/internal/curve448"
	"bollard/ledger"
)

// anchorUses are what an outside root may be trusted for.
var anchorUses = []string{"station", "v2g", "mo", "oem", "manufacturer", "tpm"}

// AnchorUses returns them.
func AnchorUses() []string { return slices.Clone(anchorUses) }

// AnchorUse is what a root of others over a hierarchy here is trusted for; "": no such
// root counts for it.
func AnchorUse(kind Kind) string {
	h, err := hierarchyOf(kind)
	if err != nil {
		return ""
	}
	return h.use
}

// Pools are the trust of one use. Own roots are never mixed with outside ones:
// a chain is judged against one pool at a time.
type Pools struct {
	Own           *x509.CertPool
	Outside       *x509.CertPool
	Intermediates *x509.CertPool
	Subjects      *x509.CertPool // all of them, for the TLS CertificateRequest's list
}

// cachedPools are the pools made from a set of anchors.
type cachedPools struct {
	anchors string
	pools   Pools
}

// AddAnchor trusts an outside root for one use, from exactly one PEM block. It
// is idempotent.
func (a *Authority) AddAnchor(ctx context.Context, use string, data []byte, actor string) (TrustAnchor, error) {
	if err := checkUse(use); err != nil {
		return TrustAnchor{}, err
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return TrustAnchor{}, errors.New("couldn't read the root: it isn't a PEM certificate")
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return TrustAnchor{}, errors.New("couldn't read the root: there is something after the certificate; give one root at a time")
	}
	cert, err := curve448.ParseCertificate(block.Bytes)
	if err != nil {
		return TrustAnchor{}, fmt.Errorf("couldn't read the root: %w", err)
	}
	now := a.cfg.Clock().UTC()
	if err := CheckRoot(cert, now); err != nil {
		return TrustAnchor{}, err
	}
	anchor := TrustAnchor{Use: use, Hash: hashHex(cert.Raw), Subject: cert.Subject.String(), DER: cert.Raw, AddedAt: now}
	event := ledger.Event{Kind: "trust.added", Subject: anchor.Hash, Actor: actor, Data: map[string]string{"use": use}}
	if err := a.cfg.Store.AddAnchor(ctx, anchor, event); err != nil {
		return TrustAnchor{}, fmt.Errorf("couldn't record the root: %w", err)
	}
	if err := a.reconsider(ctx, use, nil); err != nil {
		return TrustAnchor{}, fmt.Errorf("the root is recorded, but not in force yet; add it once more: %w", err)
	}
	return anchor, nil
}

// CheckRoot refuses what could never anchor a chain (RFC 5280 §6.1.1 d): no CA,
// not self-signed, expired, or signed with MD5 or SHA-1. Real roots begin in
// the past; one that doesn't yet is taken, it only starts to count later.
func CheckRoot(cert *x509.Certificate, now time.Time) error {
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return fmt.Errorf("%s is no CA certificate; give the root of the chain", cert.Subject)
	case !bytes.Equal(cert.RawIssuer, cert.RawSubject):
		return fmt.Errorf("%s is an intermediate, not a root; give the root of the chain", cert.Subject)
	case !strongSignature(cert):
		return fmt.Errorf("%s is signed with %s, which isn't allowed (A00.FR.504)", cert.Subject, cert.SignatureAlgorithm)
	case curve448.CheckSignatureFrom(cert, cert) != nil:
		return fmt.Errorf("%s isn't signed by itself; give the root of the chain", cert.Subject)
	case now.After(cert.NotAfter):
		return fmt.Errorf("%s expired on %s; ask its maker for the root in force", cert.Subject, cert.NotAfter.Format(time.DateOnly))
	}
	return nil
}

// Anchors returns the outside roots of one use, all for "".
func (a *Authority) Anchors(ctx context.Context, use string) ([]TrustAnchor, error) {
	if use != "" {
		if err := checkUse(use); err != nil {
			return nil, err
		}
	}
	return a.cfg.Store.Anchors(ctx, use)
}

// RemoveAnchor ends the trust in an outside root: what others verify here, and what is
// given out along chains to it. Eight digits of its hash
// suffice if they are unique.
func (a *Authority) RemoveAnchor(ctx context.Context, use, prefix, actor string) (TrustAnchor, error) {
	if err := checkUse(use); err != nil {
		return TrustAnchor{}, err
	}
	prefix = strings.ToLower(strings.TrimSpace(prefix))
	if len(prefix) < 8 {
		return TrustAnchor{}, errors.New("give at least eight digits of the root's hash (bollard ca trust list)")
	}
	anchors, err := a.cfg.Store.Anchors(ctx, use)
	if err != nil {
		return TrustAnchor{}, err
	}
	matches := slices.DeleteFunc(anchors, func(t TrustAnchor) bool { return !strings.HasPrefix(t.Hash, prefix) })
	switch len(matches) {
	case 0:
		return TrustAnchor{}, fmt.Errorf("%w: %s for use %s", ErrUnknownAnchor, prefix, use)
	case 1:
	default:
		return TrustAnchor{}, fmt.Errorf("%d roots begin with %s; give more digits", len(matches), prefix)
	}
	event := ledger.Event{Kind: "trust.removed", Subject: matches[0].Hash, Actor: actor, Data: map[string]string{"use": use}}
	if err := a.cfg.Store.RemoveAnchor(ctx, use, matches[0].Hash, event); err != nil {
		return TrustAnchor{}, err
	}
	if err := a.reconsider(ctx, use, matches[0].DER); err != nil {
		a.cfg.Log.Error("the trust in a root has ended; its hierarchies couldn't be read anew", "use", use, "root", matches[0].Hash, "err", err)
	}
	return matches[0], nil
}

func checkUse(use string) error {
	if !slices.Contains(anchorUses, use) {
		return fmt.Errorf("roots can't be trusted for use %q (uses: %s)", use, strings.Join(anchorUses, ", "))
	}
	return nil
}

// StationPools returns own roots + intermediates and outside roots for station
// certificates. The pools are shared: callers only read them. They are made
// anew when the list of anchors has changed, whoever changed it.
func (a *Authority) StationPools(ctx context.Context) (Pools, error) {
	anchors, err := a.cfg.Store.Anchors(ctx, "station")
	if err != nil {
		return Pools{}, fmt.Errorf("couldn't read the trusted roots: %w", err)
	}
	var list strings.Builder
	for _, t := range anchors {
		list.WriteString(t.Hash)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pools != nil && a.pools.anchors == list.String() {
		return a.pools.pools, nil
	}
	pools, err := a.stationPools(anchors)
	if err != nil {
		return Pools{}, err
	}
	a.pools = &cachedPools{anchors: list.String(), pools: pools}
	return pools, nil
}

func (a *Authority) stationPools(anchors []TrustAnchor) (Pools, error) {
	p := Pools{Own: x509.NewCertPool(), Outside: x509.NewCertPool(), Intermediates: x509.NewCertPool(), Subjects: x509.NewCertPool()}
	for _, h := range hierarchies {
		if !slices.Contains(h.leaves, ProfileStation) {
			continue
		}
		for _, cert := range a.Roots(h.kind) {
			p.Own.AddCert(cert)
			p.Subjects.AddCert(cert)
		}
		for _, cert := range a.Intermediates(h.kind) {
			p.Intermediates.AddCert(cert)
			p.Subjects.AddCert(cert)
		}
	}
	for _, t := range anchors {
		cert, err := curve448.ParseCertificate(t.DER)
		if err != nil {
			return Pools{}, fmt.Errorf("couldn't read trusted root %s; remove it and add it again: %w", t.Hash, err)
		}
		p.Outside.AddCert(cert)
		p.Subjects.AddCert(cert)
	}
	return p, nil
}
