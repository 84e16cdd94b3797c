package fleet_test

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ocpp"
)

// operators makes an outside certificate with the operator's organisation, as a back
// end's CA and an operator's former one issue them.
func (m *maker) operators(r *rig, cn string) *x509.Certificate {
	return m.Leaf(r.clock(), cn, func(c *x509.Certificate) { c.Subject.Organization = []string{organisation} })
}

func (r *rig) record(cert *x509.Certificate) ca.Record {
	r.t.Helper()
	rec, known, err := r.auth.Status(r.t.Context(), cert)
	if err != nil || !known {
		r.t.Fatalf("not on record: %v", err)
	}
	return rec
}

// What a back end's CA issued to a station goes with the rest, also what the station
// wasn't seen with, or not last (promise 9).
func TestOutsideCertificatesOfALostStation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := newMaker(t, r.clock())
	r.trust(m)
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	var certs []*x509.Certificate
	for range 3 {
		cert := m.operators(r, "SN-CS-1")
		if err := r.auth.RecordExternal(t.Context(), cert, "cs-1", "backend"); err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert)
	}
	for _, cert := range certs[:2] { // the third was never used
		r.open(r.admit(withCertificates(claim(t, "CS-1"), cert)), ocpp.V201)
	}
	if _, err := r.svc.Lose(t.Context(), "operator", "CS-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.svc.Find(t.Context(), "operator", "CS-1", 0); err != nil {
		t.Fatal(err)
	}
	for i, cert := range certs {
		if rec := r.record(cert); rec.State != ca.StateRevoked || rec.Reason != "keyCompromise" {
			t.Errorf("certificate %d: %s %s", i, rec.State, rec.Reason)
		}
		if _, err := r.svc.Admit(t.Context(), withCertificates(claim(t, "CS-1"), cert)); err == nil {
			t.Errorf("certificate %d lets who stole it in again", i)
		}
	}
}

// CAs give out the same serial numbers: one station's outside certificate, which isn't on
// record, revokes nobody else's (promise 4).
func TestSerialNumberOfAnotherStation(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(r *rig) error{
		"superseded": func(r *rig) error {
			r.open(r.admit(withCertificates(claim(r.t, "CS-2"), r.issue("CS-2", "SN-CS-2")...)), ocpp.V201)
			return nil
		},
		"removed": func(r *rig) error { return r.svc.Remove(r.t.Context(), "operator", "CS-2") },
		"lost": func(r *rig) error {
			_, err := r.svc.Lose(r.t.Context(), "operator", "CS-2", "stolen")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.revoke = true
			r.start()
			one, two := newMaker(t, r.clock()), newMaker(t, r.clock())
			r.trust(one)
			r.trust(two)
			r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
			r.add(fleet.Enrolment{Identity: "CS-2", Profile: 3})
			first, second := one.operators(r, "SN-CS-1"), two.operators(r, "SN-CS-2")
			if serialOf(first) != serialOf(second) {
				t.Fatalf("serial numbers %s and %s", serialOf(first), serialOf(second))
			}
			if err := r.auth.RecordExternal(t.Context(), first, "cs-1", "backend"); err != nil {
				t.Fatal(err)
			}
			r.open(r.admit(withCertificates(claim(t, "CS-2"), second)), ocpp.V201)
			if err := end(r); err != nil {
				t.Fatal(err)
			}
			if rec := r.record(first); rec.State != ca.StateIssued {
				t.Errorf("the other station's certificate is %s (%s)", rec.State, rec.Reason)
			}
			r.admit(withCertificates(claim(t, "CS-1"), first))
		})
	}
}

// An outside certificate that nobody put on record is revoked by itself: its session ends,
// and it lets nobody in again, with or without the operator's name in it (promise 9).
func TestOutsideCertificateOffTheRecordIsRevoked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := newMaker(t, r.clock())
	r.trust(m)
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	for name, cert := range map[string]*x509.Certificate{"the operator's": m.operators(r, "SN-CS-1"), "the maker's": m.Leaf(r.clock(), "SN-CS-1", nil)} {
		session := r.open(r.admit(withCertificates(claim(t, "CS-1"), cert)), ocpp.V201)
		if _, err := r.svc.RevokeCertificate(t.Context(), "operator", cert, "no such reason"); !errors.Is(err, ca.ErrUnknownReason) {
			t.Errorf("%s for no reason: %v", name, err)
		}
		if _, known, err := r.auth.Status(t.Context(), cert); known || err != nil {
			t.Errorf("%s is on record by a refusal: %v", name, err)
		}
		for range 2 { // idempotent
			if rec, err := r.svc.RevokeCertificate(t.Context(), "operator", cert, "keyCompromise"); err != nil || rec.State != ca.StateRevoked || !rec.External {
				t.Fatalf("%s: %+v, %v", name, rec, err)
			}
		}
		if session.endedWith() == "" {
			t.Errorf("%s: its session goes on", name)
		}
		if got := r.refusal(withCertificates(claim(t, "CS-1"), cert)); !strings.Contains(got.Reason, "is revoked") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if _, err := r.svc.RevokeCertificate(t.Context(), "operator", m.Cert, "keyCompromise"); err == nil || !strings.Contains(err.Error(), "ca trust remove") {
		t.Errorf("the root: %v", err)
	}
	own := r.issue("CS-1", "SN-CS-1")[0]
	if rec, err := r.svc.RevokeCertificate(t.Context(), "operator", own, "superseded"); err != nil || rec.State != ca.StateRevoked || rec.External {
		t.Errorf("an own one: %+v, %v", rec, err)
	}
}
