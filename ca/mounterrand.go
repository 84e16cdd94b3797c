package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"bollard/keys"
	"bollard/ledger"
)

const (
	// mountBatch is how many records are settled before what was learned is looked at anew.
	mountBatch = 200
	// mountRetry is how soon a mount is told again; each failure doubles it up to
	// mountRetryMost.
	mountRetry     = 5 * time.Second
	mountRetryMost = 5 * time.Minute
	// mountLook is how often it is looked for what nobody woke up for.
	mountLook = time.Minute
	// mountAnswer is how long after a call ended without an answer the mount has issued, or
	// won't any more, what it was asked for: Vault gives up a request after 90 s
	// (default_max_request_duration).
	mountAnswer = 2 * time.Minute
	// mountStale is how old an intent is that nobody finishes any more; half of it, that
	// the mount isn't asked for any more.
	mountStale = 10 * time.Minute
)

// errNotYet says that a mount may still be issuing what has to be looked for.
var errNotYet = errors.New("the mount is still being asked")

// errand has mounts told soon.
func (a *Authority) errand() {
	select {
	case a.errands <- struct{}{}:
	default: // it was asked for
	}
}

// MaintainMounts tells mounts what is revoked, and has certificates revoked there whose
// issuing wasn't finished, until the context ends. What has to be told is on record, and
// is told until the mount takes it.
func (a *Authority) MaintainMounts(ctx context.Context) error {
	retry := mountRetry
	for {
		wait := mountLook
		switch err := a.SettleMounts(ctx); {
		case err == nil:
			retry = mountRetry
		case ctx.Err() == nil:
			wait, retry = retry, min(2*retry, mountRetryMost)
			if !errors.Is(err, errNotYet) || retry == mountRetryMost { // or it lasts
				a.cfg.Log.Error("a PKI mount hasn't taken every revocation yet; our OCSP says revoked all the same", "err", err, "retry", wait)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-a.errands:
			timer.Stop()
		}
	}
}

// SettleMounts does once what MaintainMounts does again and again.
func (a *Authority) SettleMounts(ctx context.Context) error {
	var errs []error
	for _, h := range hierarchies {
		for _, by := range a.mountsOf(ctx, h) {
			errs = append(errs, a.settle(ctx, by))
		}
	}
	return errors.Join(errs...)
}

// mountsOf are the CAs of a hierarchy that are mounts, one that waits included: its OCSP
// signer may have been tried.
func (a *Authority) mountsOf(ctx context.Context, h hierarchy) []*issuer {
	l := a.hierarchy(h.kind)
	list := slices.DeleteFunc(l.issuers(), func(by *issuer) bool { return by.mount() == nil })
	if l.issuing == nil || h.kind != KindCSMS {
		return list
	}
	requests, err := a.cfg.Store.Requests(ctx, h.kind)
	if err != nil {
		return list
	}
	for _, r := range requests {
		if !r.Waiting {
			continue
		}
		c, err := a.findKey(ctx, h, h.generationName(r.Profile, r.Generation), r.Profile, l.cas[0].name, func(hash string) bool { return hash == r.KeyHash })
		if err != nil {
			continue
		}
		if by, err := a.openIssuer(ctx, c); err == nil {
			list = append(list, by)
		}
	}
	return list
}

// settle tells one mount all it doesn't know.
func (a *Authority) settle(ctx context.Context, by *issuer) error {
	store, err := a.mounts()
	if err != nil {
		return err
	}
	if err := a.giveUpStale(ctx, store, by); err != nil {
		return err
	}
	for {
		records, err := store.Unsettled(ctx, by.name, mountBatch)
		if err != nil || len(records) == 0 {
			return err
		}
		var missing []Record // that the mount has nothing of under their serial numbers
		var errs []error
		for _, r := range records {
			known, err := a.passOn(ctx, store, by, r)
			switch {
			case errors.Is(err, keys.ErrUnfit): // of this one; the others don't wait for it
				errs = append(errs, err)
			case err != nil:
				return err
			case !known:
				missing = append(missing, r)
			}
		}
		if err := errors.Join(append(errs, a.missed(ctx, store, by, missing))...); err != nil {
			return err
		}
	}
}

// giveUpStale orphans intents whose end couldn't be recorded: what the mount issued for
// them may be good there, and what was lost before for their keys isn't looked for meanwhile.
func (a *Authority) giveUpStale(ctx context.Context, store MountStore, by *issuer) error {
	list, err := store.Intended(ctx, by.name, a.cfg.Clock().Add(-mountStale))
	for _, r := range list {
		err = errors.Join(err, a.giveUp(ctx, store, r.Intent, nil))
	}
	return err
}

// passOn has a mount revoke what a record is of; known is false if the mount has nothing
// under its serial number.
func (a *Authority) passOn(ctx context.Context, store MountStore, by *issuer, r Record) (known bool, err error) {
	serial, ok := parseSerial(r.Serial)
	if !ok {
		return false, fmt.Errorf("record %q has no serial number; restore the database from the backup", r.Serial)
	}
	der, err := by.mount().Certificate(ctx, serial.Bytes())
	said := "revoked"
	switch {
	case errors.Is(err, keys.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	default:
		cert, err := x509.ParseCertificate(der)
		if err != nil || hashHex(cert.RawTBSCertificate) != r.TBSHash {
			said = "another" // of that number: not ours to revoke
			break
		}
		if err := by.mount().Revoke(ctx, serial.Bytes()); err != nil {
			return false, err
		}
	}
	return true, a.settled(ctx, store, by, r.Serial, said)
}

// missed deals with what a mount has nothing of under its serial number. A certificate
// that is here is shown to it (a role with no_store keeps none); what was tidied away
// after its end needs nothing; the rest are orphans, to be looked for.
func (a *Authority) missed(ctx context.Context, store MountStore, by *issuer, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	// Where the mount isn't at its path nothing is found either.
	if err := checkMount(ctx, by.mount(), by.name, by.cert); err != nil {
		return fmt.Errorf("%d certificates aren't at the mount, which isn't the one it was: %w", len(records), err)
	}
	var lost []Record
	var errs []error
	for _, r := range records {
		said := "unknown"
		switch {
		case r.DER == nil:
			lost = append(lost, r)
			continue
		case a.cfg.Clock().Before(r.NotAfter):
			said = "revoked"
			if err := by.mount().RevokeShown(ctx, r.DER); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		errs = append(errs, a.settled(ctx, store, by, r.Serial, said))
	}
	return errors.Join(append(errs, a.find(ctx, store, by, lost))...)
}

func (a *Authority) settled(ctx context.Context, store MountStore, by *issuer, serial, said string) error {
	err := store.Settle(ctx, serial, a.cfg.Clock().UTC(), ledger.Event{Kind: "mount.settled", Subject: serial, Actor: "bollard", Data: map[string]string{"issuer": by.name, "found": said}})
	if err != nil || said != "revoked" {
		return err
	}
	for _, w := range a.watchers() {
		w.Revoked(by.name, serial) // the mount's list is another now
	}
	return nil
}

// find looks through what a mount issued for certificates with the keys of orphans, whose
// answers never arrived: they are put on record as orphans too, which is passed on next.
func (a *Authority) find(ctx context.Context, store MountStore, by *issuer, orphans []Record) error {
	if len(orphans) == 0 {
		return nil
	}
	now := a.cfg.Clock()
	serials, err := by.mount().Serials(ctx)
	if err != nil {
		return err
	}
	byKey := map[string]Record{}
	var ready []Record
	for _, r := range orphans {
		same, err := a.cfg.Store.CertificatesByKey(ctx, r.KeyHash)
		if err != nil {
			return err
		}
		// What is being issued for the key now isn't what was lost.
		if now.Sub(r.RevokedAt) < mountAnswer || slices.ContainsFunc(same, func(r Record) bool { return r.State == StateIntended }) {
			continue
		}
		byKey[r.KeyHash] = r
		ready = append(ready, r)
	}
	for _, serial := range serials {
		if len(byKey) == 0 {
			break
		}
		if err := a.takeFound(ctx, store, by, serial, byKey); err != nil {
			return err
		}
	}
	for _, r := range ready {
		if err := a.settled(ctx, store, by, r.Serial, "searched"); err != nil {
			return err
		}
	}
	if len(ready) < len(orphans) {
		return errNotYet
	}
	return nil
}

// signed tells whether a certificate is of this CA.
func (by *issuer) signed(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, by.cert.RawSubject) && cert.CheckSignatureFrom(by.cert) == nil
}

// takeFound records one certificate of a mount if it isn't, and has the key of an orphan.
func (a *Authority) takeFound(ctx context.Context, store MountStore, by *issuer, serial []byte, orphans map[string]Record) error {
	name := serialText(serial)
	if _, err := a.cfg.Store.Certificate(ctx, name); !errors.Is(err, ErrUnknownSerial) {
		return err
	}
	der, err := by.mount().Certificate(ctx, serial)
	if errors.Is(err, keys.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	cert, _ := x509.ParseCertificate(der) // nil if it can't be read
	if cert == nil || SerialOf(cert) != name || !by.signed(cert) {
		return nil // of another issuer in the mount
	}
	orphan, ours := orphans[hashHex(cert.RawSubjectPublicKeyInfo)]
	if !ours {
		return nil
	}
	at := a.cfg.Clock().UTC()
	// Nobody was given it: its key may have another.
	record := Record{Intent: orphan.Intent, State: StateOrphaned, DER: cert.Raw, RevokedAt: at, Reason: "unspecified"}
	record.Serial, record.TBSHash, record.CreatedAt = name, hashHex(cert.RawTBSCertificate), at
	record.NotBefore, record.NotAfter, record.Subject = cert.NotBefore, cert.NotAfter, cert.Subject.String()
	err = store.PutFound(ctx, record, ledger.Event{Kind: "certificate.refused", Subject: name, Actor: "bollard", Data: map[string]string{
		"issuer": by.name, "intent": orphan.Serial, "faults": "its issuing wasn't finished; it was found at the mount", "fingerprint": hashHex(cert.Raw), "key": orphan.KeyHash,
	}})
	if errors.Is(err, ErrDuplicateSerial) {
		return nil
	}
	return err
}
