package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"bollard/admin"
	"bollard/ca"
	"bollard/ca/hashdata"
	"bollard/fleet"
	"bollard/ledger"
)

// The rollover listener serves the chain of the next root alone: who has only
// the old one can't follow it, who has the new one can, from start on.
func TestRolloverListener(t *testing.T) { // M05
	t.Parallel()
	backend := httptest.NewServer(http.NotFoundHandler())
	defer backend.Close()
	dir := newDataDir(t, "ws://"+backend.Listener.Addr().String()+"/ocpp")
	edit(t, filepath.Join(dir, configName), "  ocpp:  # doors for stations\n", "  ocpp:\n    - {address: \"127.0.0.1:0\", profiles: [2, 3], rollover: true}\n")
	r := startServer(t, dir)
	second, main := r.at.OCPP[0], r.at.OCPP[1]
	client := admin.NewClient(dir)
	step := func(name string) admin.RolloverState {
		t.Helper()
		state, err := admin.Call[admin.Rollover, admin.RolloverState](t.Context(), client, "ca.rollover", admin.Rollover{Kind: "csms", Step: name, Share: 1})
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	follows := func(address string, root *x509.Certificate) bool {
		t.Helper()
		pool := x509.NewCertPool()
		pool.AddCert(root)
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, ServerName: "localhost"})
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	var roots []*x509.Certificate
	for rest := []byte(step("start").Roots); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
	}
	old, next := roots[0], roots[1]
	for _, phase := range []struct {
		step                           string
		mainOld, mainNew, secOld, secN bool
	}{
		{"show", true, false, false, true},
		{"switch", true, true, false, true},
		{"back", true, false, false, true},
		{"switch", true, true, false, true},
		{"finish", false, true, false, true},
	} {
		step(phase.step)
		got := []bool{follows(main, old), follows(main, next), follows(second, old), follows(second, next)}
		if want := []bool{phase.mainOld, phase.mainNew, phase.secOld, phase.secN}; got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
			t.Errorf("%s: old and new root follow the main listener %v, the rollover listener %v", phase.step, got[:2], got[2:])
		}
	}
}

// A station that checks new roots by the old one gives that up once it came under
// the new one (M05.FR.12): the old chain isn't served to it again unnoticed.
func TestNoWayBackForStationsThatGaveTheOldRootUp(t *testing.T) {
	t.Parallel()
	f := newFaulty(t)
	step := func(in admin.Rollover) error {
		in.Kind = "csms"
		_, err := f.cut(0, "ca.rollover", in)
		return err
	}
	for name, in := range map[string]admin.Rollover{"a list": {List: admin.File{Data: []byte("list")}}, "a bridge": {Cross: admin.File{Data: []byte("bridge")}}} {
		in.Step = "start" // not one of a root made here
		if err := step(in); err == nil || !strings.Contains(err.Error(), "the chain has to be") {
			t.Errorf("%s without its chain: %v", name, err)
		}
	}
	if err := step(admin.Rollover{Step: "start"}); err != nil {
		t.Fatal(err)
	}
	served := f.app.authority.Installable("csms")
	next := served[len(served)-1]
	hash, err := hashdata.Of("SHA256", next, next)
	if err != nil {
		t.Fatal(err)
	}
	id := f.station("CS-1", 2)
	f.seen(id)
	plan := func(change func(*fleet.Plan)) {
		t.Helper()
		if _, err := f.app.store.UpdatePlan(t.Context(), "cs-1", func(p *fleet.Plan) ([]ledger.Event, error) {
			change(p)
			return nil, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	plan(func(p *fleet.Plan) {
		p.ChainProven, p.OnNewChain, p.Limits.CrossSigned = ca.SerialOf(next), true, true
		p.Seen = map[string][]fleet.SeenRoot{"csms": {{CertificateHashData: hash}}}
	})
	if err := step(admin.Rollover{Step: "switch", Share: 1}); err != nil {
		t.Fatal(err)
	}
	plan(func(p *fleet.Plan) { p.OnNewChain = false }) // it came to the main listener
	if err := step(admin.Rollover{Step: "back"}); err == nil || !strings.Contains(err.Error(), `1 stations gave the old root up`) || !strings.Contains(err.Error(), "CS-1") {
		t.Errorf("back: %v", err)
	}
	plan(func(p *fleet.Plan) { p.Limits.CrossSigned = false }) // one that doesn't check has both
	if err := step(admin.Rollover{Step: "back"}); err != nil {
		t.Errorf("back: %v", err)
	}
}
