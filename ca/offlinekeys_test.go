package ca_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bollard/ca"
)

// takenRig is one whose root is offline already.
func takenRig(t *testing.T) (*rig, *offline) {
	t.Helper()
	r := mobilityRig(t)
	o := newOffline(t, r, nil)
	if _, err := r.RolloverTo(t.Context(), ca.KindCSMS, ca.RootElsewhere{Chain: files(o.certify(t, r)), List: file(o.list(t, listLife))}, "operator"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() (ca.Rollover, error){
		func() (ca.Rollover, error) { return r.SwitchRollover(t.Context(), ca.KindCSMS, "operator") },
		func() (ca.Rollover, error) { return r.FinishRollover(t.Context(), ca.KindCSMS, "operator") },
	} {
		if _, err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return r, o
}

// asked is the request by which a key below an offline root waits.
func asked(t *testing.T, r *rig, to string) []byte {
	t.Helper()
	list, err := r.MigrateKeys(t.Context(), to, false, "operator")
	if err != nil || list[0].Kind != ca.KindCSMS || list[0].Root != "csms-root-2" || list[0].Request == "" {
		t.Fatalf("%+v: %v", list, err)
	}
	block, _ := pem.Decode([]byte(list[0].Request))
	return block.Bytes
}

// Below an offline root a key moves once the root has answered: until then all is as it
// was, from then on the successor issues, and both answer for what they issued.
func TestKeysMoveBelowAnOfflineRoot(t *testing.T) {
	t.Parallel()
	r, o := takenRig(t)
	before := r.issue(t, order(t, newKey(t)))
	issues := func(name string) *ca.Issued {
		t.Helper()
		issued := r.issue(t, leaf2(t))
		if issued.Issuer != name {
			t.Errorf("%s issues, want %s", issued.Issuer, name)
		}
		return issued
	}
	plan, err := r.MigrateKeys(t.Context(), "softkms:moved", true, "operator")
	want := []ca.MovedCA{{Name: "csms-issuing", Key: "softkms:csms-issuing.key", Next: "csms-issuing-2"}}
	if err != nil || plan[0].Root != "csms-root-2" || plan[0].Request != "" || !slices.Equal(plan[0].CAs, want) {
		t.Fatalf("planned %+v: %v", plan, err)
	}
	given := o.answer(t, asked(t, r, "softkms:given"))
	csr := asked(t, r, "softkms:moved") // elsewhere: the one before is given up
	events := len(r.store.Events)
	again, err := x509.ParseCertificateRequest(asked(t, r, "softkms:moved"))
	if err != nil {
		t.Fatal(err)
	}
	if first, err := x509.ParseCertificateRequest(csr); err != nil || string(first.RawSubjectPublicKeyInfo) != string(again.RawSubjectPublicKeyInfo) || len(r.store.Events) != events {
		t.Errorf("asked again, for another key or with another entry: %v", err)
	}
	foreign := newOffline(t, r, nil)
	for what, tt := range map[string]struct {
		chain []byte
		want  string
	}{
		"by another root":   {foreign.answer(t, csr), "isn't signed by a root"},
		"of one given up":   {given, "for no key of csms here"},
		"the root":          {pemOf(o.Certificate()), "one CA here"},
		"not a certificate": {[]byte("paper"), "PEM"},
	} {
		if err := r.ImportChain(t.Context(), ca.KindCSMS, tt.chain, "operator"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want one with %q", what, err, tt.want)
		}
	}
	chain := o.answer(t, csr)
	r.store.FailWith("TakeIn", errors.New("full"))
	if err := r.ImportChain(t.Context(), ca.KindCSMS, chain, "operator"); err == nil {
		t.Error("nothing was full")
	}
	r.store.FailWith("TakeIn", nil)
	r.reopen(t)
	issues("csms-issuing")
	for range 2 { // idempotent
		if err := r.ImportChain(t.Context(), ca.KindCSMS, chain, "operator"); err != nil {
			t.Fatal(err)
		}
	}
	for _, when := range []string{"moved", "restarted"} {
		for _, leaf := range []*ca.Issued{before, issues("csms-issuing-3")} {
			found, err := r.Lookup(t.Context(), leaf.Serial)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := r.opensslVerify(t, found.Certificate, found.Chain, []*x509.Certificate{o.Certificate()}); err != nil {
				t.Errorf("%s: a leaf of %s: %v: %s", when, leaf.Issuer, err, out)
			}
			if signer, err := r.OCSPSigner(t.Context(), leaf.Issuer); err != nil || signer.Certificate.CheckSignatureFrom(found.Chain[0]) != nil {
				t.Errorf("%s: the OCSP signer of %s: %v", when, leaf.Issuer, err)
			}
			der, err := r.SignCRL(t.Context(), leaf.Issuer)
			if err != nil {
				t.Fatal(err)
			}
			if list, err := x509.ParseRevocationList(der); err != nil || list.CheckSignatureFrom(found.Chain[0]) != nil {
				t.Errorf("%s: the list of %s: %v", when, leaf.Issuer, err)
			}
		}
		if err := r.CheckKeys(t.Context()); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		r.reopen(t)
	}
	if plan, err := r.MigrateKeys(t.Context(), "softkms:moved", true, "operator"); err != nil || plan[0].Kept == "" {
		t.Errorf("there is something left to move: %+v, %v", plan, err)
	}
	if _, err := r.Revoke(t.Context(), before.Serial, "superseded", "operator"); err != nil {
		t.Fatal(err)
	}
	der, err := r.SignCRL(t.Context(), "csms-issuing")
	if err != nil {
		t.Fatal(err)
	}
	if list, err := x509.ParseRevocationList(der); err != nil || len(list.RevokedCertificateEntries) != 1 {
		t.Errorf("the former CA's list: %v", err)
	}
}

// A successor whose key isn't there isn't taken in: the server would issue nothing.
func TestSuccessorWithoutItsKey(t *testing.T) {
	t.Parallel()
	r, o := takenRig(t)
	chain := o.answer(t, asked(t, r, "softkms:moved"))
	if err := os.RemoveAll(filepath.Join(r.dir, "moved")); err != nil {
		t.Fatal(err)
	}
	if err := r.ImportChain(t.Context(), ca.KindCSMS, chain, "operator"); err == nil || !strings.Contains(err.Error(), "couldn't open the key") {
		t.Errorf("%v", err)
	}
	r.reopen(t)
	if issued := r.issue(t, leaf2(t)); issued.Issuer != "csms-issuing" {
		t.Errorf("%s issues", issued.Issuer)
	}
}

// One that moved, and that the root has on its list, gets another certificate as the one
// that issues does: what it issued is followed again.
func TestFormerCAIsCertifiedAgain(t *testing.T) {
	t.Parallel()
	r, o := takenRig(t)
	before := r.issue(t, order(t, newKey(t)))
	former := r.Intermediates(ca.KindCSMS)[0]
	if err := r.ImportChain(t.Context(), ca.KindCSMS, o.answer(t, asked(t, r, "softkms:moved")), "operator"); err != nil {
		t.Fatal(err)
	}
	if err := o.Revoke(t.Context(), ca.SerialOf(former), "superseded"); err != nil {
		t.Fatal(err)
	}
	csr, err := r.RequestNamed(t.Context(), ca.KindCSMS, "csms-issuing", "operator")
	if err != nil {
		t.Fatal(err)
	}
	again := o.answer(t, csr)
	if err := r.ImportChain(t.Context(), ca.KindCSMS, again, "operator"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ImportList(t.Context(), ca.KindCSMS, o.list(t, listLife), false, "operator"); err != nil {
		t.Errorf("the list that revokes the one before: %v", err)
	}
	r.reopen(t)
	found, err := r.Lookup(t.Context(), before.Serial)
	if err != nil || !bytes.Equal(pemOf(found.Chain[0], o.Certificate()), again) {
		t.Errorf("it is given out by the certificate before: %v", err)
	}
	if issued := r.issue(t, leaf2(t)); issued.Issuer != "csms-issuing-2" {
		t.Errorf("%s issues", issued.Issuer)
	}
}
