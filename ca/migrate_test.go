package ca_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"bollard/ca"
)

// Keys move: what was issued and what is issued then verify to the same roots, each CA
// answers for its own by list and OCSP, also after a restart and under the next root.
func TestKeysMove(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t, ca.KindV2G, ca.KindCPS, ca.KindManufacturer)
	station := func(name string) *ca.Issued {
		o := order(t, newKey(t))
		o.Station, o.Requester = name, "station:"+name
		return r.issue(t, o)
	}
	before := []*ca.Issued{station("cs1"), r.issue(t, leafOf(t, ca.ProfileSECC, "DE*ABC*E*1")), r.issue(t, leafOf(t, ca.ProfileCPS, "CPS"))}
	roots := []*x509.Certificate{r.Roots(ca.KindCSMS)[0], r.Roots(ca.KindV2G)[0]}

	plan, err := r.MigrateKeys(t.Context(), "softkms:moved", true, "operator")
	if err != nil {
		t.Fatal(err)
	}
	kept := func(list []ca.Migration) (kinds []string) {
		for _, m := range list {
			if m.Kept != "" {
				kinds = append(kinds, string(m.Kind))
			}
		}
		return kinds
	}
	if got := kept(plan); !slices.Equal(got, []string{"manufacturer"}) || len(plan) != 4 {
		t.Fatalf("planned %+v", plan)
	}
	if again := station("cs0"); again.Issuer != before[0].Issuer {
		t.Errorf("after a dry run %s issues", again.Issuer)
	}
	for range 2 { // idempotent
		if _, err := r.MigrateKeys(t.Context(), "softkms:moved", false, "operator"); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string) {
		t.Helper()
		after := []*ca.Issued{station("cs-" + strings.ReplaceAll(what, " ", "")), r.issue(t, leafOf(t, ca.ProfileSECC, "DE*ABC*E*2")), r.issue(t, leafOf(t, ca.ProfileCPS, "CPS"))}
		for i, leaf := range slices.Concat(before, after) {
			if i >= len(before) && leaf.Issuer != before[i-len(before)].Issuer+"-2" {
				t.Errorf("%s: %s issues", what, leaf.Issuer)
			}
			found, err := r.Lookup(t.Context(), leaf.Serial)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := r.opensslVerify(t, found.Certificate, found.Chain, roots); err != nil {
				t.Errorf("%s: a leaf of %s: %v: %s", what, leaf.Issuer, err, out)
			}
			der, err := r.SignCRL(t.Context(), leaf.Issuer)
			if err != nil {
				t.Fatal(err)
			}
			if list, err := x509.ParseRevocationList(der); err != nil || list.CheckSignatureFrom(found.Chain[0]) != nil {
				t.Errorf("%s: the list of %s: %v", what, leaf.Issuer, err)
			}
			if signer, err := r.OCSPSigner(t.Context(), leaf.Issuer); err != nil || signer.Certificate.CheckSignatureFrom(found.Chain[0]) != nil {
				t.Errorf("%s: the OCSP signer of %s: %v", what, leaf.Issuer, err)
			}
			if !slices.ContainsFunc(r.StatusIssuers(), func(s ca.StatusIssuer) bool { return s.Name == leaf.Issuer && s.Issuing }) {
				t.Errorf("%s: the status of %s isn't served", what, leaf.Issuer)
			}
		}
		if err := r.CheckKeys(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("moved")
	r.reopen(t)
	check("restarted")
	if plan, err := r.MigrateKeys(t.Context(), "softkms:moved", true, "operator"); err != nil || len(kept(plan)) != 4 {
		t.Errorf("there is something left to move: %+v, %v", plan, err)
	}
	if _, err := r.RenewCAs(t.Context(), ca.KindV2G, "operator"); err != nil {
		t.Error(err)
	}
	check("renewed")
	for _, kind := range []ca.Kind{ca.KindCSMS, ca.KindV2G} {
		if _, err := r.Rollover(t.Context(), kind, "operator"); err != nil {
			t.Fatal(err)
		}
	}
	if plan, err := r.MigrateKeys(t.Context(), "softkms:further", true, "operator"); err != nil || len(kept(plan)) != 4 {
		t.Errorf("keys would move while roots change: %+v, %v", plan, err)
	}
	check("roots change")
	old := roots
	roots = nil
	for i, kind := range []ca.Kind{ca.KindCSMS, ca.KindV2G} {
		for _, step := range []func() (ca.Rollover, error){
			func() (ca.Rollover, error) { return r.SwitchRollover(t.Context(), kind, "operator") },
			func() (ca.Rollover, error) { return r.FinishRollover(t.Context(), kind, "operator") },
		} {
			change, err := step()
			if err != nil {
				t.Fatal(err)
			}
			// Whoever has only the old root gets there over the bridge.
			found, err := r.Lookup(t.Context(), before[i].Serial)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := r.opensslVerify(t, found.Certificate, found.Chain, old); err != nil && change.Phase == ca.PhaseSwitched {
				t.Errorf("switched: a leaf of %s under the old root: %v: %s", before[i].Issuer, err, out)
			}
		}
		roots = append(roots, r.Roots(kind)...)
	}
	check("roots changed")
	r.reopen(t)
	check("roots changed, restarted")
	if _, err := r.MigrateKeys(t.Context(), "softkms:further", false, "operator"); err != nil {
		t.Fatal(err)
	}
	if third := station("cs9"); third.Issuer != before[0].Issuer+"-3" {
		t.Errorf("moved once more, %s issues", third.Issuer)
	}
	// A place that was given up, with the key that was to be there, holds nobody back.
	given := ca.Request{Kind: ca.KindCSMS, Generation: 4, Profile: ca.ProfileIssuing, KeyURI: "softkms:gone/csms-issuing-4.key", CreatedAt: r.now}
	if err := r.store.PutRequest(t.Context(), given); err != nil {
		t.Fatal(err)
	}
	if _, err := r.MigrateKeys(t.Context(), "softkms:last", false, "operator"); err != nil {
		t.Fatal(err)
	}
	if fifth := station("cs10"); fifth.Issuer != before[0].Issuer+"-5" {
		t.Errorf("after a place that was given up, %s issues", fifth.Issuer)
	}
}
