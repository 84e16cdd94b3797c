package ca_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"

	"bollard/ca"
)

// The way back from a switch serves what was served before; the listener of the
// next root serves its chain all the while, without the bridge.
func TestRolloverBack(t *testing.T) { // M05
	t.Parallel()
	r := newRig(t)
	servers, err := r.ServerCertificates(t.Context(), serverNames, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	hello := &tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}
	following := func() []*x509.Certificate {
		t.Helper()
		pair, err := servers.GetFollowing(hello)
		if err != nil {
			t.Fatal(err)
		}
		return parseChain(t, pair)
	}
	served := func() []*x509.Certificate { return parseChain(t, servers.Current()[0]) }
	leaf := servers.Current()[0].Leaf
	old := r.Roots(ca.KindCSMS)
	r.verifies(t, "no change, old root", true, leaf, following(), old)
	if _, err := r.SwitchBack(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("back without a change: %v", err)
	}
	if _, err := r.Rollover(t.Context(), ca.KindCSMS, "operator"); err != nil {
		t.Fatal(err)
	}
	next := r.Roots(ca.KindCSMS)[1:]
	if _, err := r.SwitchBack(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("back before the switch: %v", err)
	}
	for range 2 {
		if _, err := r.SwitchRollover(t.Context(), ca.KindCSMS, "operator"); err != nil {
			t.Fatal(err)
		}
		r.verifies(t, "switched, new root", true, leaf, served(), next)
		r.verifies(t, "following, new root", true, leaf, following(), next)
		r.verifies(t, "following proves the new root: old root", false, leaf, following(), old)
		state, err := r.SwitchBack(t.Context(), ca.KindCSMS, "operator")
		if err != nil || state.Phase != ca.PhaseStarted || state.Generation != 2 {
			t.Fatalf("%+v, %v", state, err)
		}
		r.verifies(t, "back, old root", true, leaf, served(), old)
		r.verifies(t, "back, new root", false, leaf, served(), next)
		r.verifies(t, "back, following, new root", true, leaf, following(), next)
	}
	r.open(t) // the step is in the records
	if state := r.RolloverState(ca.KindCSMS); state.Phase != ca.PhaseStarted {
		t.Errorf("%+v", state)
	}
	if _, err := r.FinishRollover(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("finish after back: %v", err)
	}
}
