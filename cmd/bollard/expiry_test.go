package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/detect"
)

// Contract certificates, CAs and trusted roots are told of before they end, and not
// while there is time.
func TestWhatEndsSoonIsTold(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "ws://127.0.0.1:1/ocpp")
	for _, kind := range []string{"v2g", "mo", "oem"} {
		h.must("ca", "create", kind)
	}
	now, key := time.Now(), newP256(t)
	h.certifiedUntil("cps", now.AddDate(0, 0, 500))
	const pcid = "WP0TESTA00000001A3"
	var chain strings.Builder
	for _, cert := range h.bornIn(pcid).Chain {
		chain.WriteString(certPEM(cert))
	}
	h.must("contract", "add", "--emaid", "NL-EXA-123456789", "--pcid", pcid, "--car", h.write("car.pem", chain.String()))
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
	if got := told(now.AddDate(0, 0, 200)); !has(got, "the chain of cps to the root ") {
		t.Errorf("300 days before another's CA ends above one of ours: %v", got)
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

// People have to come together for the next list of an offline root: they are told in time.
func TestEndOfAnOfflineRootsListIsTold(t *testing.T) {
	t.Parallel()
	f := newFaulty(t)
	told := func() bool {
		t.Helper()
		if err := f.app.noticeExpiry(t.Context()); err != nil {
			t.Fatal(err)
		}
		list, err := f.app.alerts.Findings(t.Context(), "", 100)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list, func(one detect.Finding) bool {
			return strings.Contains(one.Reason, "the revocation list of attestation-root-2")
		})
	}
	if told() {
		t.Error("told of a list that there isn't")
	}
	f.offlineList() // for an hour
	if !told() {
		t.Error("an hour before the list ends nobody is told")
	}
}

// certifiedUntil has a sub-CA 2 of ours certified by a CA of others that ends then.
func (h *house) certifiedUntil(kind string, end time.Time) {
	h.t.Helper()
	usage, begin := x509.KeyUsageCertSign|x509.KeyUsageCRLSign, time.Now().Add(-time.Hour)
	keys := []*ecdsa.PrivateKey{newP256(h.t), newP256(h.t)}
	block, _ := pem.Decode([]byte(h.must("ca", "request", kind, "--level", "2")))
	if block == nil {
		h.t.Fatal("the request isn't PEM")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		h.t.Fatal(err)
	}
	public, ok := request.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		h.t.Fatalf("the request is for a %T", request.PublicKey)
	}
	of := func(name string, end time.Time, length int) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(int64(length + 2)), Subject: pkix.Name{CommonName: name, Organization: []string{"Others"}}, NotBefore: begin, NotAfter: end,
			IsCA: true, BasicConstraintsValid: true, MaxPathLen: length, MaxPathLenZero: length == 0, KeyUsage: usage, SubjectKeyId: []byte(name)}
	}
	root := newCert(h.t, of("Root", begin.AddDate(30, 0, 0), -1), nil, &keys[0].PublicKey, keys[0])
	between := newCert(h.t, of("Between", end, 1), root, &keys[1].PublicKey, keys[0])
	ours := of("Ours", begin.AddDate(8, 0, 0), 0)
	ours.RawSubject = request.RawSubject
	h.must("ca", "trust", "add", "--use", "v2g", h.write("above.pem", certPEM(root)))
	h.must("ca", "import-chain", kind, h.write("made.pem", certPEM(newCert(h.t, ours, between, public, keys[1]))+certPEM(between)))
}
