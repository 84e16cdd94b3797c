package fleet_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
)

// lose puts the records of a snapshot back, as a restored backup does; mark
// says that it is one.
func (r *rig) lose(snapshot string, backedUp time.Time, mark bool) {
	r.t.Helper()
	if err := r.store.Close(); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(snapshot, r.path); err != nil {
		r.t.Fatal(err)
	}
	r.openStore()
	if mark {
		if _, err := r.store.MarkRestored(r.t.Context(), ca.Restoration{BackedUp: backedUp, Restored: r.clock()}); err != nil {
			r.t.Fatal(err)
		}
	}
	r.start()
}

func (r *rig) snapshot() (string, time.Time) {
	r.t.Helper()
	path := filepath.Join(r.dir, "snapshot")
	if _, err := r.store.Snapshot(r.t.Context(), path); err != nil {
		r.t.Fatal(err)
	}
	return path, r.clock()
}

func TestCertificateIssuedAfterTheBackupIsRecordedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	r.add(fleet.Enrolment{Identity: "CS-2", Serial: "SN-2", Profile: 3})
	before := r.issue("CS-1", "SN-1")
	r.advance(24 * time.Hour)
	snapshot, at := r.snapshot()
	r.advance(48 * time.Hour)
	lost := r.issue("CS-1", "SN-1")
	r.advance(time.Hour)
	r.lose(snapshot, at, true)

	// Of another station it proves nothing, also where the name only warns.
	if refused := r.refusal(withCertificates(claim(t, "CS-2"), lost...)); !strings.Contains(refused.Reason, "registered serial number") {
		t.Errorf("another station's: %s", refused.Reason)
	}
	if _, err := r.svc.SetCheck(t.Context(), "test", "CS-2", fleet.CheckCommonName, true); err != nil {
		t.Fatal(err)
	}
	if refused := r.refusal(withCertificates(claim(t, "CS-2"), lost...)); !strings.Contains(refused.Reason, "lost with a restored backup") {
		t.Errorf("another station's, only warned about: %s", refused.Reason)
	}
	if got := r.events("certificate.recovered"); len(got) != 0 {
		t.Fatalf("recorded already: %v", got)
	}

	adm := r.admit(withCertificates(claim(t, "CS-1"), lost...))
	if adm.Profile != 3 || adm.Factory {
		t.Errorf("admitted as %+v", adm)
	}
	events := r.events("certificate.recovered")
	if len(events) != 1 || events[0].Subject != serialOf(lost[0]) || events[0].Actor != "station:cs-1" {
		t.Errorf("ledger: %+v", events)
	}
	r.admit(withCertificates(claim(t, "CS-1"), lost...)) // now it is on record
	r.admit(withCertificates(claim(t, "CS-1"), before...))
	list, err := r.store.Certificates(t.Context(), ca.Filter{Station: "cs-1", Profile: ca.ProfileStation})
	if err != nil || len(list) != 2 || list[0].Serial != serialOf(lost[0]) || list[0].External || list[0].State != ca.StateIssued {
		t.Fatalf("listed: %+v, %v", list, err)
	}
	if len(r.events("certificate.recovered")) != 1 {
		t.Error("recorded twice")
	}
	// It is revoked like any other, and stands on the CRL.
	if _, err := r.auth.Revoke(t.Context(), serialOf(lost[0]), "keyCompromise", "test"); err != nil {
		t.Fatal(err)
	}
	if refused := r.refusal(withCertificates(claim(t, "CS-1"), lost...)); !strings.Contains(refused.Reason, "revoked") {
		t.Errorf("revoked: %s", refused.Reason)
	}
	der, err := r.auth.CRL(t.Context(), ca.KindCSMS)
	if err != nil {
		t.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(crl.RevokedCertificateEntries); n != 1 || crl.RevokedCertificateEntries[0].SerialNumber.Cmp(lost[0].SerialNumber) != 0 {
		t.Errorf("CRL has %d entries", n)
	}
}

// Only what can have been issued in the gap is believed: a signature of ours
// under anything else is the work of somebody who has the CA's key.
func TestCertificateOutsideTheGapIsRefused(t *testing.T) {
	t.Parallel()
	const notOnRecord = "our signature but is not on record"
	t.Run("never restored", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
		snapshot, at := r.snapshot()
		lost := r.issue("CS-1", "SN-1")
		r.lose(snapshot, at, false)
		if refused := r.refusal(withCertificates(claim(t, "CS-1"), lost...)); !strings.Contains(refused.Reason, notOnRecord) {
			t.Errorf("got %s", refused.Reason)
		}
	})
	t.Run("before the backup", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
		snapshot, _ := r.snapshot()
		forged := r.issue("CS-1", "SN-1")
		r.advance(24 * time.Hour)
		at := r.clock()
		r.advance(24 * time.Hour)
		r.lose(snapshot, at, true)
		if refused := r.refusal(withCertificates(claim(t, "CS-1"), forged...)); !strings.Contains(refused.Reason, notOnRecord) {
			t.Errorf("got %s", refused.Reason)
		}
	})
	t.Run("after the restore", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
		snapshot, at := r.snapshot()
		r.advance(24 * time.Hour)
		restored := r.clock()
		r.advance(24 * time.Hour)
		forged := r.issue("CS-1", "SN-1")
		r.lose(snapshot, at, false)
		if _, err := r.store.MarkRestored(t.Context(), ca.Restoration{BackedUp: at, Restored: restored}); err != nil {
			t.Fatal(err)
		}
		if refused := r.refusal(withCertificates(claim(t, "CS-1"), forged...)); !strings.Contains(refused.Reason, notOnRecord) {
			t.Errorf("got %s", refused.Reason)
		}
	})
}
