package fleet_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
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

// Such a certificate becomes its station's record, where that is known: by its key, by a pin
// or by its common name. A station's key is never nobody's, or the station got none for it.
func TestOutsideCertificateIsRevokedAsItsStations(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := newMaker(t, r.clock())
	r.trust(m)
	of := func(cn string, key crypto.Signer) *x509.Certificate {
		return m.Issue(&x509.Certificate{
			Subject: pkix.Name{CommonName: cn, Organization: []string{"Maker"}}, NotBefore: r.clock().AddDate(0, -1, 0),
			NotAfter: r.clock().AddDate(5, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		}, key)
	}
	keys := map[string]crypto.Signer{}
	for _, name := range []string{"own", "backend", "cn", "hash", "key", "other pin", "nobody"} {
		keys[name] = newKey(t)
	}
	pinned, keyPinned := of("SN-CS-5", keys["hash"]), of("x", keys["key"])
	sum := sha256.Sum256(keyPinned.RawSubjectPublicKeyInfo)
	for _, e := range []fleet.Enrolment{
		{Identity: "CS-1"}, {Identity: "CS-2"}, {Identity: "CS-3"}, {Identity: "CS-4", FactoryHash: fingerprint(pinned)},
		{Identity: "CS-5", FactoryKey: hex.EncodeToString(sum[:])},
	} {
		e.Profile = 3
		r.add(e)
	}
	certify := func(identity, key string) (*ca.Issued, error) {
		csr, err := ca.ParseCSR(csrDER(t, keys[key], "SN-"+identity, organisation))
		if err != nil {
			t.Fatal(err)
		}
		p, err := r.auth.Prepare(t.Context(), ca.Order{Profile: ca.ProfileStation, Key: csr.Key, Subject: ca.Subject{CommonName: "SN-" + identity},
			Station: keyOf(identity), Requester: "test"})
		if err != nil {
			return nil, err
		}
		return r.auth.Issue(t.Context(), p)
	}
	if _, err := certify("CS-1", "own"); err != nil {
		t.Fatal(err)
	}
	if err := r.auth.RecordExternal(t.Context(), of("SN-CS-2", keys["backend"]), "cs-2", "backend"); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cert    *x509.Certificate
		station string
	}{
		"a factory certificate with the key of an own one":               {of("factory", keys["own"]), "cs-1"},
		"one with the key of the back end's":                             {of("factory", keys["backend"]), "cs-2"},
		"the common name is a station's":                                 {of("SN-CS-3", keys["cn"]), "cs-3"},
		"pinned, with the common name of one that another is pinned for": {pinned, "cs-4"},
		"its key is pinned":                                              {keyPinned, "cs-5"},
		"the common name of a station that another is pinned to":         {of("SN-CS-4", keys["other pin"]), ""},
		"nobody's": {of("SN-77", keys["nobody"]), ""},
	} {
		rec, err := r.svc.RevokeCertificate(t.Context(), "operator", tt.cert, "superseded")
		if err != nil || rec.State != ca.StateRevoked || rec.Station != tt.station {
			t.Errorf("%s: %+v, %v", name, rec, err)
		}
	}
	for identity, key := range map[string]string{"CS-1": "own", "CS-2": "backend", "CS-3": "cn", "CS-4": "hash", "CS-5": "key"} {
		if _, err := certify(identity, key); err != nil {
			t.Errorf("%s gets no certificate for the key it has: %v", identity, err)
		}
	}
}
