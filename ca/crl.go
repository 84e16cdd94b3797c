package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"bollard/internal/curve448"
	"bollard/ledger"
)

// crlValidity is how long a list may be relied on.
const crlValidity = 24 * time.Hour

// StatusIssuer is a CA whose certificates' status is served.
type StatusIssuer struct {
	Name        string // such as csms-issuing: /<name>.crl, /<name>.crt
	Kind        Kind
	Certificate *x509.Certificate
	Issuing     bool // of leaves
	Root        bool // certifies CAs only: no OCSP, its list tells
}

// StatusIssuers returns every CA that ever issued, also roots retired since.
func (a *Authority) StatusIssuers() []StatusIssuer {
	var list []StatusIssuer
	for _, h := range hierarchies {
		l := a.hierarchy(h.kind)
		if l.issuing == nil {
			continue
		}
		for _, by := range l.issuers() {
			list = append(list, StatusIssuer{Name: by.name, Kind: h.kind, Certificate: by.cert, Issuing: true})
		}
		for _, ca := range l.cas {
			if ca.certifiesCAs(h) && !ca.borrowed {
				list = append(list, StatusIssuer{Name: ca.name, Kind: h.kind, Certificate: ca.cert, Root: !h.statusOfCAs})
			}
		}
	}
	return list
}

// certifiesCAs: a root, or a CA between it and the issuing one.
func (ca caRecord) certifiesCAs(h hierarchy) bool {
	return ca.profile == h.root || slices.Contains(h.subs[:len(h.subs)-1], ca.profile)
}

// CRL signs the full revocation list of a hierarchy's issuing CA and returns
// its DER. Revoked and orphaned certificates stay on it for ever, which is more
// than RFC 5280 §3.3 demands (until one list after their expiry).
func (a *Authority) CRL(ctx context.Context, kind Kind) ([]byte, error) {
	by := a.hierarchy(kind).issuing
	if by == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoHierarchy, kind)
	}
	return a.crl(ctx, by)
}

// SignCRL is CRL by the name of the CA, as StatusIssuers has it; that of an offline root
// is the newest that was taken in.
func (a *Authority) SignCRL(ctx context.Context, name string) ([]byte, error) {
	for _, h := range hierarchies {
		l := a.hierarchy(h.kind)
		for _, by := range l.issuers() {
			if by.name == name {
				return a.crl(ctx, by)
			}
		}
		for _, ca := range l.cas {
			if !ca.certifiesCAs(h) || ca.name != name {
				continue
			}
			if ca.keyURI == "" && !ca.borrowed {
				list, err := a.rootList(ctx, name)
				if err != nil {
					return nil, err
				}
				return list.Raw, nil
			}
			by, err := a.openIssuer(ctx, ca)
			if err != nil {
				return nil, err
			}
			return a.crl(ctx, by)
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNoHierarchy, name)
}

// Record returns what is recorded of a serial number, or ErrUnknownSerial.
func (a *Authority) Record(ctx context.Context, serial string) (Record, error) {
	return a.cfg.Store.Certificate(ctx, serial)
}

// ActiveSerials returns the certificates of an issuing CA that are neither
// revoked nor expired.
func (a *Authority) ActiveSerials(ctx context.Context, issuer string) ([]string, error) {
	return a.cfg.Store.ActiveSerials(ctx, issuer, a.cfg.Clock().UTC())
}

// CheckClock is ErrClock if the clock is behind what is recorded.
func (a *Authority) CheckClock(ctx context.Context) error {
	return a.checkClock(ctx, a.cfg.Clock().UTC())
}

// ReasonCode returns the code of a recorded reason (RFC 5280 §5.3.1);
// unspecified (0) for one it doesn't know.
func ReasonCode(reason string) int {
	code, _ := reasonCode(reason)
	return code
}

func (a *Authority) crl(ctx context.Context, by *issuer) ([]byte, error) {
	return a.crlFor(ctx, by, crlValidity)
}

func (a *Authority) crlFor(ctx context.Context, by *issuer, validity time.Duration) ([]byte, error) {
	now := a.cfg.Clock().UTC()
	if err := a.checkClock(ctx, now); err != nil {
		return nil, err
	}
	if at := by.mount(); at != nil {
		return mountList(ctx, at, by, now)
	}
	// The number before the records: a list with a higher number never knows less.
	number, err := a.cfg.Store.NextCRLNumber(ctx, by.name, ledger.Event{Kind: "crl.intent", Subject: by.name, Actor: "bollard"})
	if err != nil {
		return nil, fmt.Errorf("couldn't take a CRL number; nothing was signed: %w", err)
	}
	records, err := a.cfg.Store.Revoked(ctx, by.name)
	if err != nil {
		return nil, fmt.Errorf("couldn't read what is revoked: %w", err)
	}
	list := &x509.RevocationList{
		Number: number, ThisUpdate: now.Truncate(time.Second), NextUpdate: now.Truncate(time.Second).Add(validity),
		SignatureAlgorithm: by.algorithm,
	}
	for _, r := range records {
		entry, err := crlEntry(r)
		if err != nil {
			return nil, err
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, entry)
	}
	der, err := by.signList(list)
	if err != nil {
		return nil, fmt.Errorf("couldn't sign the CRL of %s: %w", by.name, err)
	}
	return der, nil
}

func (by *issuer) signList(list *x509.RevocationList) ([]byte, error) {
	if !by.isEd448() {
		return x509.CreateRevocationList(rand.Reader, list, by.cert, by.signer)
	}
	listener := &outline{public: standIn}
	if _, err := x509.CreateRevocationList(rand.Reader, list, by.cert, listener); listener.tbs == nil {
		return nil, err
	}
	tbs, err := curve448.Replace(listener.tbs, map[int][]byte{1: curve448.Algorithm()}) // RFC 5280 §5.1: signature
	if err != nil {
		return nil, err
	}
	signature, err := by.sign(tbs)
	if err != nil {
		return nil, err
	}
	return joined(tbs, curve448.Algorithm(), signature), nil
}

func crlEntry(r Record) (x509.RevocationListEntry, error) {
	serial, ok := parseSerial(r.Serial)
	if !ok {
		return x509.RevocationListEntry{}, fmt.Errorf("record %q has no serial number; restore the database from the backup", r.Serial)
	}
	// An orphaned intent was never given out; it counts from its beginning.
	at := r.RevokedAt
	if at.IsZero() {
		at = r.CreatedAt
	}
	// RFC 5280 §5.3.1: the code is left out instead of unspecified (0).
	code, _ := reasonCode(r.Reason)
	return x509.RevocationListEntry{SerialNumber: serial, RevocationTime: at.UTC().Truncate(time.Second), ReasonCode: code}, nil
}
