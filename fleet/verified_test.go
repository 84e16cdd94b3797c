package fleet_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"

	"bollard/ca/catest"
	"bollard/fleet"
	"bollard/ledger"
	"bollard/ocpp"
)

// A chain is verified once; what can change is judged at every connection.
func TestRememberedChain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(r *rig, m *maker, leaf *x509.Certificate)
	}{
		{"A00.FR.705 revoked", func(r *rig, _ *maker, leaf *x509.Certificate) {
			if _, err := r.svc.Revoke(r.t.Context(), "operator", serialOf(leaf), "keyCompromise"); err != nil {
				r.t.Fatal(err)
			}
		}},
		{"trust ended", func(r *rig, m *maker, _ *x509.Certificate) {
			anchors, err := r.auth.Anchors(r.t.Context(), "station")
			if err == nil {
				_, err = r.auth.RemoveAnchor(r.t.Context(), "station", anchors[0].Hash, "operator")
			}
			if err != nil {
				r.t.Fatal(err)
			}
		}},
		{"another serial number", func(r *rig, _ *maker, _ *x509.Certificate) {
			_, err := r.store.UpdateStation(r.t.Context(), keyOf("CS-1"), func(st *fleet.Station) ([]ledger.Event, error) {
				st.Serial = "SN-2"
				return nil, nil
			})
			if err != nil {
				r.t.Fatal(err)
			}
		}},
		{"station removed", func(r *rig, _ *maker, _ *x509.Certificate) {
			if err := r.store.RemoveStation(r.t.Context(), keyOf("CS-1"), func(*fleet.Station) []ledger.Event { return nil }); err != nil {
				r.t.Fatal(err)
			}
		}},
		{"root expired before the leaf", func(r *rig, m *maker, _ *x509.Certificate) {
			r.advance(m.Cert.NotAfter.Sub(r.clock()) + time.Minute)
		}},
		{"the clock went back", func(r *rig, m *maker, _ *x509.Certificate) {
			r.advance(m.Cert.NotBefore.Sub(r.clock()) - time.Minute)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
			m := newMaker(t, r.clock())
			r.trust(m)
			certs := []*x509.Certificate{m.Leaf(r.clock(), "SN-1", func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = m.Cert.NotBefore.AddDate(-1, 0, 0), m.Cert.NotAfter.AddDate(1, 0, 0)
			})}
			if tt.name == "A00.FR.705 revoked" {
				certs = r.issue("CS-1", "SN-1")
			}
			c := withCertificates(claim(t, "CS-1"), certs...)
			r.admit(c)
			r.admit(c)
			if n := fleet.Remembered(r.svc); n != 1 {
				t.Fatalf("%d chains are remembered", n)
			}
			tt.change(r, m, certs[0])
			r.refusal(c)
		})
	}
}

// Of another station's chain only the leaf is new, and what a CA didn't sign it
// doesn't vouch for, however well it is known.
func TestRememberedIssuer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	r.add(fleet.Enrolment{Identity: "CS-2", Serial: "SN-2", Profile: 3})
	first, second := r.issue("CS-1", "SN-1"), r.issue("CS-2", "SN-2")
	r.admit(withCertificates(claim(t, "CS-1"), first...))
	if n := fleet.Issuers(r.svc); n != 1 {
		t.Fatalf("%d issuers are remembered", n)
	}
	key, parent := newKey(t), *first[1]
	parent.PublicKey = key.Public()
	der, err := x509.CreateCertificate(rand.Reader, second[0], &parent, newKey(t).Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if reason := r.refusal(withCertificates(claim(t, "CS-2"), forged, first[1])).Reason; !strings.Contains(reason, "no root trusted") {
		t.Errorf("refused: %s", reason)
	}
	if fleet.Verify(r.svc, second[1:], second[0]) != true || fleet.Verify(r.svc, first[1:], forged) != false {
		t.Error("the remembered issuer vouches for what it didn't sign, or not for what it did")
	}
	if fleet.Verify(r.svc, second[1:], second[0], "00") {
		t.Error("it vouches where other roots are trusted")
	}
	elsewhere := withCertificates(claim(t, "CS-2"), second...)
	elsewhere.Trust = []string{"00"}
	r.refusal(elsewhere)
	r.admit(withCertificates(claim(t, "CS-2"), second...))

	m := newMaker(t, r.clock())
	for limit, want := range map[string]bool{"": true, "names": false} {
		c := m.Leaf(r.clock(), "A CA", func(c *x509.Certificate) {
			c.IsCA = true
			if limit == "names" {
				c.PermittedDNSDomains = []string{"a.example"}
			}
		})
		if fleet.Learns(r.svc, []*x509.Certificate{second[0], c}) != want {
			t.Errorf("a CA that limits %q is remembered: %t", limit, !want)
		}
	}
}

// An issuer is remembered for as long as what is above it is valid, however long it is
// itself.
func TestRememberedIssuerEndsWithTheCAAbove(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := newMaker(t, r.clock())
	long := func(ca bool) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = root.Cert.NotBefore.AddDate(-1, 0, 0), root.Cert.NotAfter.AddDate(1, 0, 0)
			if c.IsCA = ca; ca {
				c.KeyUsage = x509.KeyUsageCertSign
			}
		}
	}
	sub := &maker{catest.NewUncertified(t)}
	template := x509.Certificate{Subject: pkix.Name{CommonName: "Maker Sub-CA"}, BasicConstraintsValid: true}
	long(true)(&template)
	sub.Cert = root.Issue(&template, sub.Key)
	leaf := sub.Leaf(r.clock(), "SN-1", long(false))
	if !fleet.Learns(r.svc, []*x509.Certificate{leaf, sub.Cert, root.Cert}) {
		t.Fatal("its issuer isn't remembered")
	}
	for _, tt := range []struct {
		at   time.Time
		want bool
	}{
		{root.Cert.NotBefore.Add(-time.Minute), false}, {root.Cert.NotBefore, true}, {r.clock(), true}, {root.Cert.NotAfter, true}, {root.Cert.NotAfter.Add(time.Minute), false},
	} {
		r.advance(tt.at.Sub(r.clock()))
		if got := fleet.Verify(r.svc, []*x509.Certificate{sub.Cert}, leaf); got != tt.want {
			t.Errorf("at %s it verifies: %t, want %t", tt.at, got, tt.want)
		}
	}
}

// What the handshake finds out spares Admit the work and decides nothing but that
// a chain isn't trusted.
func TestJudge(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	certs := r.issue("CS-1", "SN-1")
	c := withCertificates(claim(t, "CS-1"), certs...)
	if reason := r.svc.Judge(t.Context(), certs, nil); reason != "" {
		t.Fatalf("not trusted: %s", reason)
	}
	if chains, standings := fleet.Remembered(r.svc), fleet.Standings(r.svc); chains != 1 || standings != 1 {
		t.Errorf("%d chains and %d standings are remembered", chains, standings)
	}
	r.admit(c)
	if _, err := r.svc.Revoke(t.Context(), "operator", serialOf(certs[0]), "keyCompromise"); err != nil {
		t.Fatal(err)
	}
	r.refusal(c) // revoked between handshake and request
	if reason := r.svc.Judge(t.Context(), certs, nil); reason != "" {
		t.Errorf("a revoked certificate's chain isn't trusted: %s", reason)
	}
	if n := fleet.Standings(r.svc); n != 0 {
		t.Errorf("%d standings of a revoked certificate", n)
	}

	stranger := []*x509.Certificate{newMaker(t, r.clock()).Leaf(r.clock(), "SN-1", nil)}
	c = withCertificates(claim(t, "CS-1"), stranger...)
	if c.Untrusted = r.svc.Judge(t.Context(), stranger, nil); c.Untrusted == "" {
		t.Fatal("a stranger's chain is trusted")
	}
	r.refusal(c)
	// The reason stands, whatever the certificates: it is about this connection.
	r.add(fleet.Enrolment{Identity: "CS-2", Serial: "SN-2", Profile: 3})
	c.Certificates, c.Identity = r.issue("CS-2", "SN-2"), claim(t, "CS-2").Identity
	r.refusal(c)
}

// An issued certificate's standing is remembered until any record changes.
func TestStandingEndsWithItsEpoch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	r.add(fleet.Enrolment{Identity: "CS-2", Serial: "SN-2", Profile: 3})
	first := r.issue("CS-1", "SN-1")
	r.admit(withCertificates(claim(t, "CS-1"), first...))
	epoch, counted := r.auth.Epoch()
	if n := fleet.Standings(r.svc); n != 1 || !counted {
		t.Fatalf("%d standings, counted %t", n, counted)
	}
	second := r.issue("CS-2", "SN-2")
	if now, _ := r.auth.Epoch(); now == epoch {
		t.Error("the epoch is that from before the issue")
	}
	r.admit(withCertificates(claim(t, "CS-2"), second...))
	if n := fleet.Standings(r.svc); n != 1 {
		t.Errorf("%d standings, want that of the new epoch", n)
	}
}

// A listener that trusts other roots is another question.
func TestRememberedChainOfAnotherListener(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	c := withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-1")...)
	r.admit(c)
	c.Trust = []string{"00"}
	r.refusal(c)
}

// A station that comes back with nothing new costs no write of its own; when it
// was seen is written later, and told at once.
func TestSightingsAreWrittenTogether(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	c := withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-1")...)
	r.open(r.admit(c), ocpp.V16).close()
	first := r.station("CS-1").SeenAt
	r.advance(time.Hour)
	r.open(r.admit(c), ocpp.V16).close()
	if st, err := r.store.Station(t.Context(), keyOf("CS-1")); err != nil || !st.SeenAt.Equal(first) {
		t.Fatalf("on disk: seen at %v, %v; want %v still", st.SeenAt, err, first)
	}
	shown, err := r.svc.Station(t.Context(), "CS-1")
	if err != nil || !shown.SeenAt.Equal(r.clock()) {
		t.Errorf("shown: seen at %v, %v; want %v", shown.SeenAt, err, r.clock())
	}
	fleet.FlushSightings(t.Context(), r.svc)
	if st, err := r.store.Station(t.Context(), keyOf("CS-1")); err != nil || !st.SeenAt.Equal(r.clock()) {
		t.Errorf("on disk after the flush: seen at %v, %v", st.SeenAt, err)
	}
}
