package ca_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bollard/ca"
)

// opensslVerify checks a leaf with real openssl: trusted roots, the chain a
// peer would send, at the rig's time.
func (r *rig) opensslVerify(t *testing.T, leaf *x509.Certificate, chain, roots []*x509.Certificate, more ...string) (string, error) {
	t.Helper()
	file := func(name string, certs []*x509.Certificate) string {
		path := filepath.Join(t.TempDir(), name)
		var data []byte
		for _, c := range certs {
			data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	args := []string{
		"verify", "-no-CApath", "-no-CAstore", "-attime", fmt.Sprint(r.now.Unix()),
		"-CAfile", file("roots.pem", roots),
	}
	if len(chain) > 0 {
		args = append(args, "-untrusted", file("chain.pem", chain))
	}
	args = append(append(args, more...), file("leaf.pem", []*x509.Certificate{leaf}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "openssl", args...).CombinedOutput()
	return string(out), err
}

func (r *rig) verifies(t *testing.T, what string, want bool, leaf *x509.Certificate, chain, roots []*x509.Certificate) {
	t.Helper()
	if out, err := r.opensslVerify(t, leaf, chain, roots); (err == nil) != want {
		t.Errorf("%s: verifies is %t: %s", what, err == nil, out)
	}
}

// M05 and §2.6: whoever has one of the two roots can follow what is served,
// until the operator ends it.
func TestRollover(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := r.Roots(ca.KindCSMS)
	before := r.issue(t, order(t, newKey(t)))
	servers, err := r.ServerCertificates(t.Context(), serverNames, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	served := func() []*x509.Certificate { return parseChain(t, servers.Current()[0]) }
	leaf := servers.Current()[0].Leaf

	state, err := r.Rollover(t.Context(), ca.KindCSMS, "operator")
	if err != nil || state.Phase != ca.PhaseStarted || state.Generation != 2 {
		t.Fatalf("%+v, %v", state, err)
	}
	roots := r.Roots(ca.KindCSMS)
	if len(roots) != 2 || !roots[0].Equal(old[0]) {
		t.Fatalf("%d roots", len(roots))
	}
	next := roots[1:]
	cross := r.CrossRoot(ca.KindCSMS)
	if string(cross.RawSubject) != string(next[0].RawSubject) || string(cross.RawSubjectPublicKeyInfo) != string(next[0].RawSubjectPublicKeyInfo) || cross.CheckSignatureFrom(old[0]) != nil {
		t.Error("the cross-signed root isn't the new one's key and name under the old root (M05.FR.10)")
	}
	oldChain, newChain := r.Chain(ca.KindCSMS, ca.UnderOld), r.Chain(ca.KindCSMS, ca.UnderNew)
	r.verifies(t, "old chain, old root", true, before.Certificate, oldChain, old)
	r.verifies(t, "old chain, new root", false, before.Certificate, oldChain, next)
	r.verifies(t, "new chain, new root", true, before.Certificate, newChain, next)
	r.verifies(t, "new chain, old root", false, before.Certificate, newChain, old)
	r.verifies(t, "started, old root", true, leaf, served(), old)
	if len(served()) != 1 {
		t.Error("another chain is served before the switch")
	}
	if _, err := r.Rollover(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("second start: %v", err)
	}
	if _, err := r.FinishRollover(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("finish before switch: %v", err)
	}

	r.open(t) // the state is in the records
	if servers, err = r.ServerCertificates(t.Context(), serverNames, filepath.Dir(tlsFile(t, servers))); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a step twice is one
		if state, err = r.SwitchRollover(t.Context(), ca.KindCSMS, "operator"); err != nil || state.Phase != ca.PhaseSwitched {
			t.Fatalf("%+v, %v", state, err)
		}
	}
	leaf = servers.Current()[0].Leaf
	r.verifies(t, "switched, old root", true, leaf, served(), old)
	r.verifies(t, "switched, new root", true, leaf, served(), next)
	after := r.issue(t, order(t, newKey(t)))
	r.verifies(t, "issued after the switch, old root", true, after.Certificate, after.Chain, old)
	r.verifies(t, "issued after the switch, new root", true, after.Certificate, after.Chain, next)
	pools, err := r.StationPools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := before.Certificate.Verify(x509.VerifyOptions{Roots: pools.Own, Intermediates: pools.Intermediates, CurrentTime: r.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("a station's certificate during the change: %v", err)
	}
	if size := len(toPEM(after.Certificate)) + len(toPEM(after.Chain...)); size > 5600 {
		t.Errorf("a chain of %d characters", size)
	}

	if _, err := r.FinishRollover(t.Context(), ca.KindCSMS, "operator"); err != nil {
		t.Fatal(err)
	}
	r.verifies(t, "finished, new root", true, leaf, served(), next)
	r.verifies(t, "finished, old root", false, leaf, served(), old)
	if got := r.Roots(ca.KindCSMS); len(got) != 1 || !got[0].Equal(next[0]) {
		t.Errorf("%d roots", len(got))
	}
	// The list goes on under the same name and key, the old root's too.
	if list := parseCRL(t, r); list.CheckSignatureFrom(r.Intermediates(ca.KindCSMS)[0]) != nil {
		t.Error("the list isn't the issuing CA's")
	}
	if _, err := r.SignCRL(t.Context(), "csms-root"); err != nil {
		t.Error(err)
	}
	if state, err = r.Rollover(t.Context(), ca.KindCSMS, "operator"); err != nil || state.Generation != 3 {
		t.Errorf("the next change: %+v, %v", state, err)
	}
}

func parseChain(t *testing.T, pair *tls.Certificate) []*x509.Certificate {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range pair.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	return chain
}

func tlsFile(t *testing.T, s *ca.ServerCertificates) string {
	t.Helper()
	signer, ok := s.Current()[0].PrivateKey.(interface{ URI() string })
	if !ok {
		t.Fatal("a server key without a URI")
	}
	return strings.TrimPrefix(signer.URI(), "softkms:")
}

// Every write of a start fails once, as after kill -9; then the same command
// goes on, and nothing is made twice.
func TestRolloverGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	for method, writes := range map[string]int{"PutRollover": 2, "PutIntent": 3, "PutIssued": 3} {
		for step := 1; step <= writes; step++ {
			t.Run(fmt.Sprintf("%s %d", method, step), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				seen := 0
				r.store.Before = func(m string) {
					if m == method {
						if seen++; seen == step {
							r.store.Fail[method] = full
						}
					}
				}
				if _, err := r.Rollover(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, full) {
					t.Fatalf("got %v", err)
				}
				delete(r.store.Fail, method)
				r.store.Before = nil
				r.open(t)
				if got := len(r.Roots(ca.KindCSMS)); got != 1 {
					t.Errorf("%d roots are trusted half way", got)
				}
				if _, err := r.SwitchRollover(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, ca.ErrRollover) {
					t.Errorf("switched half way: %v", err)
				}
				if state, err := r.Rollover(t.Context(), ca.KindCSMS, "operator"); err != nil || state.Phase != ca.PhaseStarted || state.Generation != 2 {
					t.Fatalf("%+v, %v", state, err)
				}
				for profile, want := range map[string]int{ca.ProfileRoot: 2, ca.ProfileIssuing: 2, ca.ProfileCross: 1} {
					list, err := r.store.Certificates(t.Context(), ca.Filter{Profile: profile, State: ca.StateIssued})
					if err != nil || len(list) != want {
						t.Errorf("%d %s certificates, %v", len(list), profile, err)
					}
				}
			})
		}
	}
}

// 1.6 WP §4, L01: a firmware signer verifies directly under what stations
// install, and, with its chain, under the manufacturer's root.
func TestManufacturer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	csr, err := ca.ParseCSR(request(t, newKey(t), &x509.CertificateRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	o := ca.Order{Profile: ca.ProfileFirmware, Key: csr.Key, Subject: ca.Subject{CommonName: "Firmware Signer 1"}, Requester: "operator"}
	if _, err := r.Prepare(t.Context(), o); !errors.Is(err, ca.ErrNoHierarchy) {
		t.Fatalf("before it is made: %v", err)
	}
	if err := r.Create(t.Context(), ca.KindManufacturer, "operator"); err != nil {
		t.Fatal(err)
	}
	if err := r.Create(t.Context(), ca.KindManufacturer, "operator"); !errors.Is(err, ca.ErrHierarchyExists) {
		t.Errorf("made twice: %v", err)
	}
	r.open(t)
	signer := r.issue(t, o)
	installed := r.Installable(ca.KindManufacturer)
	if len(installed) != 1 {
		t.Fatalf("%d certificates to install", len(installed))
	}
	if err := ca.CheckRoot(installed[0], r.now); err != nil {
		t.Errorf("stations and Bollard itself wouldn't take it as a root: %v", err)
	}
	r.verifies(t, "installed anchor, no chain", true, signer.Certificate, nil, installed)
	r.verifies(t, "root with chain", true, signer.Certificate, signer.Chain, r.Roots(ca.KindManufacturer))
	r.verifies(t, "csms root", false, signer.Certificate, signer.Chain, r.Roots(ca.KindCSMS))
	if size := len(toPEM(signer.Certificate)); size > 5500 {
		t.Errorf("signingCertificate of %d characters", size)
	}
	if _, err := r.Revoke(t.Context(), signer.Serial, "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	der, err := r.CRL(t.Context(), ca.KindManufacturer)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil || len(list.RevokedCertificateEntries) != 1 || list.CheckSignatureFrom(installed[0]) != nil {
		t.Errorf("list: %v", err)
	}
	if other := parseCRL(t, r); len(other.RevokedCertificateEntries) != 0 {
		t.Error("one hierarchy's list names another's certificate")
	}
}

// A crash while the hierarchy is made is continued by the same command.
func TestManufacturerGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	for step := 1; step <= 3; step++ {
		r := newRig(t)
		seen := 0
		r.store.Before = func(m string) {
			if m == "PutIssued" {
				if seen++; seen == step {
					r.store.Fail[m] = full
				}
			}
		}
		if err := r.Create(t.Context(), ca.KindManufacturer, "operator"); !errors.Is(err, full) {
			t.Fatalf("got %v", err)
		}
		r.store.Before = nil
		delete(r.store.Fail, "PutIssued")
		r.open(t)
		if len(r.Roots(ca.KindManufacturer)) != 0 {
			t.Error("half a hierarchy is in force")
		}
		if err := r.Create(t.Context(), ca.KindManufacturer, "operator"); err != nil {
			t.Fatal(err)
		}
		if len(r.Installable(ca.KindManufacturer)) != 1 {
			t.Error("nothing to install")
		}
	}
}
