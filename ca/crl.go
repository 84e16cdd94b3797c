package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"time"

	"bollard/ledger"
)

// crlValidity is how long a list may be relied on.
const crlValidity = 24 * time.Hour

// CRL signs the full revocation list of a hierarchy's issuing CA and returns
// its DER. Revoked and orphaned certificates stay on it for ever.
func (a *Authority) CRL(ctx context.Context, kind Kind) ([]byte, error) {
	by := a.issuing[kind]
	if by == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoHierarchy, kind)
	}
	return a.crl(ctx, by)
}

// RootCRL is CRL for the root: the list of revoked issuing CAs. It opens the
// root's key, which may be kept away from day to day.
func (a *Authority) RootCRL(ctx context.Context, kind Kind) ([]byte, error) {
	for _, ca := range a.cas[kind] {
		if ca.profile != ProfileRoot {
			continue
		}
		signer, err := a.openCA(ctx, ca)
		if err != nil {
			return nil, err
		}
		by, err := newIssuer(ca.name, ProfileRoot, ca.cert, signer)
		if err != nil {
			return nil, err
		}
		return a.crl(ctx, by)
	}
	return nil, fmt.Errorf("%w: %s", ErrNoHierarchy, kind)
}

func (a *Authority) crl(ctx context.Context, by *issuer) ([]byte, error) {
	now := a.cfg.Clock().UTC()
	if err := a.checkClock(ctx, now); err != nil {
		return nil, err
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
		Number: number, ThisUpdate: now.Truncate(time.Second), NextUpdate: now.Truncate(time.Second).Add(crlValidity),
		SignatureAlgorithm: by.algorithm,
	}
	for _, r := range records {
		entry, err := crlEntry(r)
		if err != nil {
			return nil, err
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, entry)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, by.cert, by.signer)
	if err != nil {
		return nil, fmt.Errorf("couldn't sign the CRL of %s: %w", by.name, err)
	}
	return der, nil
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
