package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ca"
)

// Contract certificates, CAs and trusted roots are told of before they end, and not
// while there is time.
func TestWhatEndsSoonIsTold(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "ws://127.0.0.1:1/ocpp")
	for _, kind := range []string{"v2g", "mo", "oem", "cps"} {
		h.must("ca", "create", kind)
	}
	const pcid = "WP0TESTA00000001A3"
	var chain strings.Builder
	for _, cert := range h.bornIn(pcid).Chain {
		chain.WriteString(certPEM(cert))
	}
	h.must("contract", "add", "--emaid", "NL-EXA-123456789", "--pcid", pcid, "--car", h.write("car.pem", chain.String()))
	now, key := time.Now(), newP256(t)
	root := newCert(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Maker"}, NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(0, 0, 120),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, &key.PublicKey, key)
	h.must("ca", "trust", "add", "--use", "oem", h.write("maker.pem", certPEM(root)))
	cfg, err := loadConfig(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	var ends time.Time // of the back end's root
	told := func(at time.Time) (reasons []string) {
		t.Helper()
		a, err := openAppAt(t.Context(), func() time.Time { return at }, h.dir, cfg, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		ends = a.authority.Roots(ca.KindCSMS)[0].NotAfter
		if err := a.noticeExpiry(t.Context()); err != nil {
			t.Fatal(err)
		}
		list, err := a.alerts.Findings(t.Context(), "", 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			reasons = append(reasons, f.Reason)
		}
		return reasons
	}
	has := func(list []string, text string) bool {
		return slices.ContainsFunc(list, func(one string) bool { return strings.Contains(one, text) })
	}
	if got := told(now); len(got) != 0 {
		t.Errorf("told while there is time: %v", got)
	}
	if got := told(now.AddDate(0, 0, 40)); len(got) != 1 || !has(got, "the root ") || !has(got, "trusted for oem") {
		t.Errorf("80 days before a trusted root ends: %v", got)
	}
	if got := told(now.AddDate(2, 0, -20)); !has(got, "contract certificates end") {
		t.Errorf("20 days before a contract certificate ends: %v", got)
	}
	if got := told(ends.AddDate(0, -6, 0)); !has(got, "the CA csms") {
		t.Errorf("half a year before a root ends: %v", got)
	}
	if out := h.must("contract", "list", "--expiring", "800d"); !strings.Contains(out, pcid) {
		t.Errorf("contract list --expiring 800d: %s", out)
	}
	if out := h.must("contract", "list", "--expiring", "21d"); strings.Contains(out, pcid) {
		t.Errorf("contract list --expiring 21d: %s", out)
	}
}
