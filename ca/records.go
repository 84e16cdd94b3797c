package ca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"bollard/internal/curve448"
	"bollard/ledger"
)

// reasons are RFC 5280's (§5.3.1) that an operator may give, with their codes.
// certificateHold and removeFromCRL are left out: revocation is for good.
var reasons = []struct {
	name string
	code int
}{
	{"unspecified", 0},
	{"keyCompromise", 1},
	{"cACompromise", 2},
	{"affiliationChanged", 3},
	{"superseded", 4},
	{"cessationOfOperation", 5},
	{"privilegeWithdrawn", 9},
	{"aACompromise", 10},
}

// Reasons returns the names of revocation reasons.
func Reasons() []string {
	var names []string
	for _, r := range reasons {
		names = append(names, r.name)
	}
	return names
}

// HoldersReason is the name of a reason that whoever holds a certificate may give, by its
// code: not those of CAs and attribute authorities (RFC 5280 §5.3.1).
func HoldersReason(code int) (name string, ok bool) {
	for _, r := range reasons {
		if r.code == code {
			return r.name, r.name != "cACompromise" && r.name != "aACompromise"
		}
	}
	return "", false
}

func reasonCode(name string) (int, bool) {
	for _, r := range reasons {
		if r.name == name {
			return r.code, true
		}
	}
	return 0, false
}

// Lookup returns an issued certificate with its chain again, for redelivery.
func (a *Authority) Lookup(ctx context.Context, serial string) (*Issued, error) {
	record, err := a.cfg.Store.Certificate(ctx, serial)
	if err != nil {
		return nil, err
	}
	if record.DER == nil {
		return nil, fmt.Errorf("%w: %s was never finished", ErrUnknownSerial, serial)
	}
	return a.issued(record)
}

// LookupReference is Lookup by the requester's own reference; nil without one. What is
// revoked is found too: its State says so.
func (a *Authority) LookupReference(ctx context.Context, reference string) (*Issued, error) {
	if reference == "" {
		return nil, nil
	}
	record, ok, err := a.cfg.Store.CertificateByReference(ctx, reference)
	if err != nil || !ok {
		return nil, err
	}
	return a.issued(record)
}

func (a *Authority) issued(record Record) (*Issued, error) {
	cert, err := curve448.ParseCertificate(record.DER)
	if err != nil {
		return nil, fmt.Errorf("couldn't read certificate %s: %w", record.Serial, err)
	}
	return &Issued{Record: record, Certificate: cert, Chain: a.chainOf(record, cert)}, nil
}

// Revoke revokes an issued certificate; reason has RFC 5280's name. Revoking
// twice keeps the first time and reason. Of CAs it takes those of mounts that wait.
func (a *Authority) Revoke(ctx context.Context, serial, reason, actor string) (Record, error) {
	if _, ok := reasonCode(reason); !ok {
		if reason == "certificateHold" || reason == "removeFromCRL" {
			return Record{}, fmt.Errorf("%w: %s isn't used, since revocation is for good; remove or block the station meanwhile, or give another (%s)", ErrUnknownReason, reason, strings.Join(Reasons(), ", "))
		}
		return Record{}, fmt.Errorf("%w: %q (known: %s)", ErrUnknownReason, reason, strings.Join(Reasons(), ", "))
	}
	serial = strings.ToLower(strings.TrimSpace(serial))
	record, err := a.cfg.Store.Certificate(ctx, serial)
	if err != nil {
		return Record{}, err
	}
	if record.State == StateRevoked || record.State == StateOrphaned {
		return record, nil
	}
	if !record.External && profiles[record.Profile].CA {
		a.building.Lock() // it doesn't begin to issue meanwhile
		defer a.building.Unlock()
		switch waits, err := a.waits(ctx, record); {
		case err != nil:
			return Record{}, err
		case !waits:
			return Record{}, fmt.Errorf("certificate %s is the CA %s itself; revoking it would lock every station out", serial, record.Profile)
		}
	}
	event := ledger.Event{Kind: "certificate.revoked", Subject: serial, Actor: actor, Data: map[string]string{"reason": reason}}
	if record.Station != "" {
		event.Data["station"] = record.Station
	}
	if err := a.cfg.Store.SetRevoked(ctx, serial, reason, a.cfg.Clock().UTC(), event); err != nil {
		return Record{}, fmt.Errorf("%w %s: %w", ErrNotRevoked, serial, err)
	}
	a.revoked(record)
	a.errand()
	return a.cfg.Store.Certificate(ctx, serial)
}

// Status returns what is recorded of a presented certificate: own ones by
// serial and DER equality, outside ones as External. A certificate that was
// signed but never recorded as issued is found by its to-be-signed bytes; its
// State is not StateIssued.
func (a *Authority) Status(ctx context.Context, cert *x509.Certificate) (Record, bool, error) {
	return a.status(ctx, SerialOf(cert), func() string { return hashHex(cert.RawSubjectPublicKeyInfo) },
		func(r Record) bool { return same(r, cert) })
}

// StatusOf is Status of a certificate that was presented before.
func (a *Authority) StatusOf(ctx context.Context, l *Leaf) (Record, bool, error) {
	return a.status(ctx, l.Serial, func() string { return hex.EncodeToString(l.key[:]) }, func(r Record) bool {
		if r.DER == nil {
			return r.TBSHash == hex.EncodeToString(l.tbs[:])
		}
		return sha256.Sum256(r.DER) == l.Sum
	})
}

func (a *Authority) status(ctx context.Context, serial string, key func() string, same func(Record) bool) (Record, bool, error) {
	record, err := a.cfg.Store.Certificate(ctx, serial)
	switch {
	case errors.Is(err, ErrUnknownSerial):
	case err != nil:
		return Record{}, false, err
	case same(record):
		return record, true, nil
	}
	// Serial numbers of different CAs may be equal; keys aren't.
	records, err := a.cfg.Store.CertificatesByKey(ctx, key())
	if err != nil {
		return Record{}, false, err
	}
	for _, r := range records {
		if same(r) {
			return r, true, nil
		}
	}
	return Record{}, false, nil
}

// Verdict is what is kept of the judgement on a presented certificate; nil: nothing is,
// or it can't be read.
func (a *Authority) Verdict(ctx context.Context, cert *x509.Certificate) []byte {
	record, err := a.cfg.Store.Certificate(ctx, SerialOf(cert))
	if err != nil {
		return nil
	}
	return record.Verdict
}

// Epoch changes with every change in the records of certificates, before the
// write returns that makes it. counted is false for a store that doesn't count.
func (a *Authority) Epoch() (epoch uint64, counted bool) {
	counting, counted := a.cfg.Store.(interface{ CertificatesEpoch() uint64 })
	if !counted {
		return 0, false
	}
	return counting.CertificatesEpoch(), true
}

func same(record Record, cert *x509.Certificate) bool {
	if record.DER == nil {
		return record.TBSHash == hashHex(cert.RawTBSCertificate)
	}
	return bytes.Equal(record.DER, cert.Raw)
}

// StationOfKey returns the station that a certificate's key is on record for, "" if it is
// nobody's; known is false without such a record.
func (a *Authority) StationOfKey(ctx context.Context, cert *x509.Certificate) (station string, known bool, err error) {
	records, err := a.cfg.Store.CertificatesByKey(ctx, hashHex(cert.RawSubjectPublicKeyInfo))
	if err != nil || len(records) == 0 {
		return "", false, err
	}
	return records[0].Station, true, nil
}

// RecordExternal records a certificate another CA issued to a station, so that
// it can be listed and revoked here. Its record's serial is the certificate's,
// with the issuer's hash behind a dot if the plain one is taken. Idempotent.
// ErrKeyInUse if the key is another station's.
func (a *Authority) RecordExternal(ctx context.Context, cert *x509.Certificate, station, actor string) error {
	hash := hashHex(cert.RawSubjectPublicKeyInfo)
	records, err := a.cfg.Store.CertificatesByKey(ctx, hash)
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.Station != station || !r.External && r.Profile != ProfileStation {
			return fmt.Errorf("%w: certificate %s has it", ErrKeyInUse, r.Serial)
		}
		if same(r, cert) {
			return nil
		}
	}
	serial := SerialOf(cert)
	if _, err := a.cfg.Store.Certificate(ctx, serial); err == nil {
		serial += "." + hashHex(cert.RawIssuer)[:16]
	} else if !errors.Is(err, ErrUnknownSerial) {
		return err
	}
	now := a.cfg.Clock().UTC()
	record := Record{
		Intent: Intent{
			Serial: serial, Issuer: cert.Issuer.String(), Station: station, Requester: actor,
			Profile: ProfileExternal,
			TBSHash: hashHex(cert.RawTBSCertificate), KeyHash: hash, Subject: cert.Subject.String(),
			NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, CreatedAt: now,
		},
		State: StateIssued, DER: cert.Raw, IssuedAt: now, External: true,
	}
	event := ledger.Event{Kind: "certificate.external", Subject: serial, Actor: actor, Data: map[string]string{
		"station": station, "fingerprint": hashHex(cert.Raw), "key": hash,
	}}
	if err := a.cfg.Store.PutExternal(ctx, record, event); err != nil {
		return fmt.Errorf("couldn't record the certificate of another CA: %w", err)
	}
	return nil
}
