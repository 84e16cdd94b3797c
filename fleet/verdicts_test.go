package fleet_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
)

// newVerdictRig has two stations with certificates, and a key for verdicts.
func newVerdictRig(t *testing.T) (r *rig, first, second []*x509.Certificate) {
	t.Helper()
	r = newRig(t)
	r.verdictKey = bytes.Repeat([]byte{7}, fleet.VerdictKeySize)
	r.start()
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	r.add(fleet.Enrolment{Identity: "CS-2", Serial: "SN-2", Profile: 3})
	return r, r.issue("CS-1", "SN-1"), r.issue("CS-2", "SN-2")
}

func (r *rig) verdict(leaf *x509.Certificate) []byte {
	r.t.Helper()
	record, err := r.store.Certificate(r.t.Context(), serialOf(leaf))
	if err != nil {
		r.t.Fatal(err)
	}
	return record.Verdict
}

// keepVerdicts has the verdict on the second station's certificate on record, in a new
// process that knows the issuing CA.
func (r *rig) keepVerdicts(first, second []*x509.Certificate) {
	r.t.Helper()
	r.admit(withCertificates(claim(r.t, "CS-1"), first...))
	r.admit(withCertificates(claim(r.t, "CS-2"), second...))
	fleet.FlushVerdicts(r.svc) // others may follow
	fleet.FlushVerdicts(r.svc)
	r.restart()
	if want := fleet.VerdictOf(r.verdictKey, second); !bytes.Equal(r.verdict(second[0]), want) {
		r.t.Fatalf("on record: %x, not %x", r.verdict(second[0]), want)
	}
	r.admit(withCertificates(claim(r.t, "CS-1"), first...))
}

func TestVerdictOutlivesAStart(t *testing.T) {
	t.Parallel()
	r, first, second := newVerdictRig(t)
	r.keepVerdicts(first, second)
	r.admit(withCertificates(claim(t, "CS-2"), second...))
	if n := len(fleet.TakeVerdicts(r.svc)) + len(fleet.TakeVerdicts(r.svc)); n != 0 {
		t.Errorf("%d signatures were verified that are known to be good", n)
	}
	// Another seal key: as if there was none, and kept anew.
	r.verdictKey = bytes.Repeat([]byte{8}, fleet.VerdictKeySize)
	r.restart()
	r.admit(withCertificates(claim(t, "CS-1"), first...))
	r.admit(withCertificates(claim(t, "CS-2"), second...))
	fleet.FlushVerdicts(r.svc)
	fleet.FlushVerdicts(r.svc)
	r.restart()
	if want := fleet.VerdictOf(r.verdictKey, second); !bytes.Equal(r.verdict(second[0]), want) {
		t.Error("the verdict under another key stayed")
	}
}

// Only the signature is spared.
func TestVerdictIsOfTheSignatureAlone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, want string
		change     func(r *rig, leaf *x509.Certificate)
	}{
		{"A00.FR.705 revoked", "revoked", func(r *rig, leaf *x509.Certificate) {
			if _, err := r.svc.Revoke(r.t.Context(), "operator", serialOf(leaf), "keyCompromise"); err != nil {
				r.t.Fatal(err)
			}
		}},
		{"expired", "expired", func(r *rig, leaf *x509.Certificate) { r.advance(leaf.NotAfter.Sub(r.clock()) + time.Minute) }},
		{"not valid yet", "not valid before", func(r *rig, leaf *x509.Certificate) { r.advance(leaf.NotBefore.Sub(r.clock()) - time.Minute) }},
		{"station lost", "lost", func(r *rig, _ *x509.Certificate) {
			if _, err := r.svc.Lose(r.t.Context(), "operator", "CS-2", "stolen"); err != nil {
				r.t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, first, second := newVerdictRig(t)
			r.keepVerdicts(first, second)
			tt.change(r, second[0])
			if reason := r.refusal(withCertificates(claim(t, "CS-2"), second...)).Reason; !strings.Contains(reason, tt.want) {
				t.Errorf("refused: %s", reason)
			}
		})
	}
}

// Who can write the database, and no more, makes no certificate good; with the key a
// verdict decides, which shows that it is asked.
func TestVerdictsAreNotForged(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		good bool
		mac  func(r *rig, forged, first, second []*x509.Certificate) []byte
	}{
		{"by the key", true, func(r *rig, forged, _, _ []*x509.Certificate) []byte { return fleet.VerdictOf(r.verdictKey, forged) }},
		{"none", false, func(*rig, []*x509.Certificate, []*x509.Certificate, []*x509.Certificate) []byte { return nil }},
		{"empty", false, func(*rig, []*x509.Certificate, []*x509.Certificate, []*x509.Certificate) []byte { return []byte{} }},
		{"cut short", false, func(r *rig, forged, _, _ []*x509.Certificate) []byte {
			return fleet.VerdictOf(r.verdictKey, forged)[:31]
		}},
		{"by no key", false, func(_ *rig, forged, _, _ []*x509.Certificate) []byte { return fleet.VerdictOf(nil, forged) }},
		{"by another key", false, func(_ *rig, forged, _, _ []*x509.Certificate) []byte {
			return fleet.VerdictOf(bytes.Repeat([]byte{8}, fleet.VerdictKeySize), forged)
		}},
		{"moved from another's record", false, func(r *rig, _, _, second []*x509.Certificate) []byte { return fleet.VerdictOf(r.verdictKey, second) }},
		{"under another issuer", false, func(r *rig, forged, first, _ []*x509.Certificate) []byte {
			return fleet.VerdictOf(r.verdictKey, []*x509.Certificate{forged[0], first[0]})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, first, second := newVerdictRig(t)
			r.admit(withCertificates(claim(t, "CS-1"), first...))
			// The second station's certificate, but its serial number and its signature.
			template, key := *second[0], newKey(t)
			template.SerialNumber = newMaker(t, r.clock()).Cert.SerialNumber
			parent := *second[1]
			parent.PublicKey = key.Public()
			der, err := x509.CreateCertificate(rand.Reader, &template, &parent, newKey(t).Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			forged := []*x509.Certificate{leaf, second[1]}
			r.recordForged(leaf, tt.mac(r, forged, first, second))
			if c := withCertificates(claim(t, "CS-2"), forged...); tt.good {
				r.admit(c)
			} else if reason := r.refusal(c).Reason; !strings.Contains(reason, "no root trusted") {
				t.Errorf("refused: %s", reason)
			}
		})
	}
}

// recordForged writes as one who has the database.
func (r *rig) recordForged(leaf *x509.Certificate, mac []byte) {
	r.t.Helper()
	ctx, serial := r.t.Context(), serialOf(leaf)
	err := r.store.PutIntent(ctx, ca.Intent{Serial: serial, Profile: ca.ProfileStation, Station: "cs-2", NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, CreatedAt: r.clock()})
	if err == nil {
		err = r.store.PutIssued(ctx, serial, leaf.Raw, r.clock())
	}
	if err == nil && mac != nil {
		err = r.store.PutVerdicts(ctx, map[string][]byte{serial: mac})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// Where stations never stop coming, verdicts wait a minute.
func TestVerdictsWaitForAQuietSecond(t *testing.T) {
	t.Parallel()
	r, first, second := newVerdictRig(t)
	r.admit(withCertificates(claim(t, "CS-1"), first...))
	for seconds := 0; ; seconds++ {
		certs := r.issue("CS-2", "SN-2")
		r.admit(withCertificates(claim(t, "CS-2"), certs...))
		if len(fleet.TakeVerdicts(r.svc)) > 0 {
			if seconds != 2 {
				t.Errorf("taken at look %d", seconds)
			}
			break
		}
		r.advance(30 * time.Second)
	}
	r.admit(withCertificates(claim(t, "CS-2"), second...))
	if len(fleet.TakeVerdicts(r.svc)) != 0 || len(fleet.TakeVerdicts(r.svc)) != 1 || len(fleet.TakeVerdicts(r.svc)) != 0 {
		t.Error("not taken once, at the second look")
	}
}
