package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bollard/admin"
	"bollard/station"
)

// A clock that was a year ahead for a moment leaves server certificates that begin in a
// year, and a newest record behind which nothing is signed: accepted, the clock that was
// set right counts again, and stations come in.
func TestAcceptClock(t *testing.T) {
	t.Parallel()
	dir := newDataDir(t, "")
	now := time.Now
	ahead := func() time.Time { return time.Now().AddDate(1, 0, 0) }
	c := &cli{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, data: dir}
	if _, err := c.acceptClock(t.Context(), now().UTC(), now); err == nil || !strings.Contains(err.Error(), "nothing to accept") {
		t.Errorf("without need: %v", err)
	}
	first := startServerAt(t, dir, now)
	root, err := admin.Call[admin.KindRef, admin.PEM](t.Context(), admin.NewClient(dir), "ca.root", admin.KindRef{Kind: "csms"})
	if err != nil {
		t.Fatal(err)
	}
	roots, err := station.ParseCertificates([]byte(root.PEM))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(roots[0])
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	// As a server has it that runs meanwhile: it deletes the keys of what it replaced.
	if err := os.RemoveAll(filepath.Join(dir, serverName)); err != nil {
		t.Fatal(err)
	}
	if err := startServerAt(t, dir, ahead).stop(); err != nil {
		t.Fatal(err)
	}
	appAt := func(clock func() time.Time) *app {
		t.Helper()
		cfg, err := loadConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		a, err := openAppAt(t.Context(), clock, dir, cfg, quietLog(io.Discard), nil)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := appAt(ahead)
	_, err = a.authority.OCSPSigner(t.Context(), "csms-issuing")
	if err := errors.Join(err, a.Close()); err != nil {
		t.Fatal(err)
	}

	// What a station meets then, whose own clock is right.
	r := startServerAt(t, dir, now)
	if conn, err := tls.Dial("tcp", r.at.OCPP[0], &tls.Config{RootCAs: pool, ServerName: "localhost"}); err == nil {
		_ = conn.Close()
		t.Error("a certificate that begins in a year is taken")
	}
	if _, err := c.acceptClock(t.Context(), now().UTC(), now); err == nil || !strings.Contains(err.Error(), "server is running") {
		t.Errorf("beside a server: %v", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.acceptClock(t.Context(), now().UTC().AddDate(0, 0, -1), now); err == nil || !strings.Contains(err.Error(), "the clock says") {
		t.Errorf("on another day: %v", err)
	}
	out, err := c.acceptClock(t.Context(), now().UTC(), now)
	if err != nil || out.Newest.Before(now().AddDate(0, 11, 0)) {
		t.Fatal(out, err)
	}

	r = startServerAt(t, dir, now)
	if cert := shown(t, r.at.OCPP[0], pool); cert.NotBefore.After(now()) {
		t.Errorf("the certificate begins at %s", cert.NotBefore)
	}
	if state, err := admin.Call[admin.VerifyLedger, admin.LedgerState](t.Context(), admin.NewClient(dir), "ledger.verify", admin.VerifyLedger{}); err != nil || state.Entries == 0 {
		t.Errorf("ledger: %+v, %v", state, err)
	}
	if status, err := admin.Call[admin.None, admin.Status](t.Context(), admin.NewClient(dir), "server.status", admin.None{}); err != nil || status.Newest.After(now().Add(time.Minute)) {
		t.Errorf("newest record %v, %v", status.Newest, err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// It was written, not only remembered.
	a = appAt(now)
	defer a.Close()
	if err := a.authority.CheckClock(t.Context()); err != nil {
		t.Error(err)
	}
	signer, err := a.authority.OCSPSigner(t.Context(), "csms-issuing")
	if err != nil || signer.Certificate.NotBefore.After(now()) {
		t.Errorf("OCSP signer: %v", err)
	}
}
