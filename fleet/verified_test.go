package fleet_test

import (
	"crypto/x509"
	"testing"
	"time"

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
			if err := r.store.RemoveStation(r.t.Context(), keyOf("CS-1")); err != nil {
				r.t.Fatal(err)
			}
		}},
		{"root expired before the leaf", func(r *rig, m *maker, _ *x509.Certificate) {
			r.advance(m.cert.NotAfter.Sub(r.clock()) + time.Minute)
		}},
		{"the clock went back", func(r *rig, m *maker, _ *x509.Certificate) {
			r.advance(m.cert.NotBefore.Sub(r.clock()) - time.Minute)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
			m := newMaker(t, r.clock())
			r.trust(m)
			certs := []*x509.Certificate{m.leaf(r.clock(), "SN-1", func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = m.cert.NotBefore.AddDate(-1, 0, 0), m.cert.NotAfter.AddDate(1, 0, 0)
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
