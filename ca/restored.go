package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"bollard/ledger"
)

// Restoration is the gap in the memory of an authority that was restored from a
// backup: what happened between the two times isn't recorded.
type Restoration struct {
	BackedUp time.Time
	Restored time.Time
}

// restoredStore is a Store that can have been restored from a backup.
type restoredStore interface {
	Restoration(ctx context.Context) (Restoration, bool, error)
	// PutRecovered records an issued certificate, in one write.
	// ErrDuplicateSerial if the serial number is known.
	PutRecovered(ctx context.Context, record Record, events ...ledger.Event) error
}

// ErrNotRecoverable says that a certificate with our signature that isn't on
// record can't have been issued in the gap a restored backup left.
var ErrNotRecoverable = errors.New("the certificate is not on record and wasn't lost with a restored backup")

// Recoverable says whether a certificate that has our signature but isn't on
// record may have been issued after the backup this authority was restored
// from was made, and before it was restored. Without a restore nothing is.
func (a *Authority) Recoverable(ctx context.Context, cert *x509.Certificate) (bool, error) {
	gap, restored, err := a.restoration(ctx)
	if err != nil || !restored {
		return false, err
	}
	begin := cert.NotBefore.Add(profiles[ProfileStation].Backdate)
	if begin.Before(gap.BackedUp.Add(-clockTolerance)) || begin.After(gap.Restored.Add(clockTolerance)) {
		return false, nil
	}
	return !cert.IsCA && len(SerialOf(cert)) == 32, nil // as newSerial draws them
}

func (a *Authority) restoration(ctx context.Context) (Restoration, bool, error) {
	store, ok := a.cfg.Store.(restoredStore)
	if !ok {
		return Restoration{}, false, nil
	}
	gap, restored, err := store.Restoration(ctx)
	if err != nil {
		return Restoration{}, false, fmt.Errorf("couldn't read whether the records were restored from a backup: %w", err)
	}
	return gap, restored, nil
}

// Recover records such a certificate again as what it is, an issued one of the
// station: it can be listed, revoked and put on the CRL. The caller has verified
// its chain and that the station holds its key. ErrNotRecoverable, ErrKeyInUse.
func (a *Authority) Recover(ctx context.Context, cert *x509.Certificate, station string) (Record, error) {
	ok, err := a.Recoverable(ctx, cert)
	if err != nil {
		return Record{}, err
	}
	if !ok || station == "" {
		return Record{}, fmt.Errorf("%w: %s", ErrNotRecoverable, SerialOf(cert))
	}
	by, ok := a.issuerOf(cert)
	if !ok {
		return Record{}, fmt.Errorf("%w: %s isn't signed by an issuing CA of ours", ErrNotRecoverable, SerialOf(cert))
	}
	hash := hashHex(cert.RawSubjectPublicKeyInfo)
	known, err := a.cfg.Store.CertificatesByKey(ctx, hash)
	if err != nil {
		return Record{}, err
	}
	for _, r := range known {
		if r.Station != station || r.Profile != ProfileStation {
			return Record{}, fmt.Errorf("%w: certificate %s has it", ErrKeyInUse, r.Serial)
		}
	}
	now := a.cfg.Clock().UTC()
	record := Record{
		Intent: Intent{
			Serial: SerialOf(cert), Issuer: by, Profile: ProfileStation, Station: station, Requester: "recovered",
			TBSHash: hashHex(cert.RawTBSCertificate), KeyHash: hash, Subject: cert.Subject.String(),
			NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, CreatedAt: now,
		},
		State: StateIssued, DER: cert.Raw, IssuedAt: now,
	}
	event := ledger.Event{Kind: "certificate.recovered", Subject: record.Serial, Actor: "station:" + station, Data: map[string]string{
		"station": station, "fingerprint": hashHex(cert.Raw), "key": hash,
	}}
	err = a.cfg.Store.(restoredStore).PutRecovered(ctx, record, event)
	if errors.Is(err, ErrDuplicateSerial) {
		// Two connections of one station at once: what the first recorded is right.
		if have, found, lookErr := a.Status(ctx, cert); lookErr == nil && found && have.Station == station {
			return have, nil
		}
	}
	if err != nil {
		return Record{}, err
	}
	a.cfg.Log.Warn("certificate issued after the backup recorded again", "station", station, "serial", record.Serial)
	return record, nil
}

// issuerOf names the issuing CA whose signature a certificate has.
func (a *Authority) issuerOf(cert *x509.Certificate) (string, bool) {
	h, err := hierarchyFor(ProfileStation)
	if err != nil {
		return "", false
	}
	for _, by := range a.Intermediates(h.kind) {
		if cert.CheckSignatureFrom(by) == nil {
			return h.caName(h.issuing()), true
		}
	}
	return "", false
}
