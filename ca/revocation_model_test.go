package ca_test

import (
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bollard/ca"
)

// RFC 5280 §5.3.1 and §3.3: revocation is for good, hold is refused.
func TestCertificateHoldIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	issued := r.issue(t, order(t, newKey(t)))
	for _, reason := range []string{"certificateHold", "removeFromCRL"} {
		if _, err := r.Revoke(t.Context(), issued.Serial, reason, "operator"); err == nil || !strings.Contains(err.Error(), "for good") {
			t.Errorf("%s: %v", reason, err)
		}
	}
	if rec, err := r.Record(t.Context(), issued.Serial); err != nil || rec.State != ca.StateIssued {
		t.Errorf("%s, %v", rec.State, err)
	}
}

// Threat D2: over random revocations, expiries, crashes and restarts every list
// names all that was ever revoked, and its number rises.
func TestListsNeverForget(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t)
		key := newKey(t)
		var issued []string
		gone := map[string]bool{}
		last := new(big.Int)
		rt.Repeat(map[string]func(*rapid.T){
			"issue": func(rt *rapid.T) {
				if len(issued) < 12 {
					o := order(t, key)
					o.Key = mustProve(t, r)
					issued = append(issued, r.issue(t, o).Serial)
				}
			},
			"crash between the phases": func(rt *rapid.T) {
				o := order(t, key)
				o.Key = mustProve(t, r)
				p, err := r.Prepare(t.Context(), o)
				if err != nil {
					rt.Fatal(err)
				}
				r.open(t)
				gone[p.Intent().Serial] = true
			},
			"revoke": func(rt *rapid.T) {
				if len(issued) == 0 {
					return
				}
				serial := rapid.SampledFrom(issued).Draw(rt, "serial")
				if _, err := r.Revoke(t.Context(), serial, rapid.SampledFrom(ca.Reasons()).Draw(rt, "reason"), "operator"); err != nil {
					rt.Fatal(err)
				}
				gone[serial] = true
			},
			"restart": func(*rapid.T) { r.open(t) },
			"time passes": func(rt *rapid.T) {
				r.now = r.now.Add(time.Duration(rapid.IntRange(1, 200).Draw(rt, "days")) * 24 * time.Hour)
				if r.now.After(start.AddDate(8, 0, 0)) {
					r.now = start.AddDate(8, 0, 0)
				}
			},
			"": func(rt *rapid.T) {
				der, err := r.CRL(t.Context(), ca.KindCSMS)
				if err != nil {
					rt.Fatal(err)
				}
				list, err := x509.ParseRevocationList(der)
				if err != nil {
					rt.Fatal(err)
				}
				if list.Number.Cmp(last) <= 0 {
					rt.Fatalf("number %s after %s", list.Number, last)
				}
				last = list.Number
				named := map[string]bool{}
				for _, e := range list.RevokedCertificateEntries {
					named[e.SerialNumber.Text(16)] = true
				}
				for serial := range gone {
					if !named[serial] {
						rt.Fatalf("the list doesn't name %s", serial)
					}
				}
				if len(named) != len(gone) {
					rt.Fatalf("%d entries for %d revoked", len(named), len(gone))
				}
			},
		})
	})
}

func mustProve(t *testing.T, _ *rig) ca.ProvenKey {
	t.Helper()
	proven, err := ca.GeneratedKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return proven
}
