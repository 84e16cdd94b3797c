package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bollard/ocpp"
	"bollard/station"
)

// person is somebody with an SSH key of their own.
func (s *server) person(name string) map[string]any {
	s.t.Helper()
	file := filepath.Join(s.dir, name)
	if out, err := exec.CommandContext(s.t.Context(), "ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", file).CombinedOutput(); err != nil {
		s.t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		s.t.Fatal(err)
	}
	return map[string]any{"name": name, "ssh": []string{strings.TrimSpace(string(public))}}
}

// approve has a person sign with the tool they have.
func (s *server) approve(id, name string) {
	s.t.Helper()
	file := filepath.Join(s.dir, name+"-statement")
	s.write(file, s.cli("approval", "sign", id, "--print"))
	if out, err := exec.CommandContext(s.t.Context(), "ssh-keygen", "-q", "-Y", "sign", "-n", "bollard-approval", "-f", filepath.Join(s.dir, name), file).CombinedOutput(); err != nil {
		s.t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	s.cli("approval", "sign", id, "--signature", file+".sig")
}

// Up to profile 3 and, with the approvals it takes, down to 2 again, over the
// real wire and with a station that refuses any other way down.
func TestApprovedDowngrade(t *testing.T) { // A00.FR.005, A05.FR.08, promise 4
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	srv.conf["approvers"] = []any{srv.person("alice"), srv.person("bob")}
	srv.conf["approvals"] = []any{map[string]any{"action": "station.downgrade", "needed": 2}}
	srv.configure()
	srv.start()
	srv.stop()
	// Stations are told the URL, so the port has to be known before.
	srv.conf["listen"] = map[string]any{"ocpp": []any{map[string]any{"address": srv.ocpp, "profiles": []int{2, 3}}}}
	srv.configure()
	srv.start()
	e := srv.enlist("lowered", 2)
	pemRoot, err := os.ReadFile(srv.root)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := station.ParseCertificates(pemRoot)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	st, err := station.New(ctx, station.Config{Identity: e.identity, Serial: e.serial, Version: ocpp.V21, URL: "wss://" + srv.ocpp + "/ocpp",
		ServerName: "localhost", Password: []byte(e.password), Organisation: "E2E", Roots: roots, AllowDowngrade: true, BackOff: station.BackOff{Minimum: 50 * time.Millisecond, Random: time.Millisecond, Repeats: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	running := make(chan error, 1)
	go func() { running <- st.Run(ctx) }()
	defer func() { cancel(); <-running }()
	if err := st.Await(ctx, func(s station.State) bool { return s.Connected }); err != nil {
		t.Fatal(err)
	}
	reach := func(profile int) {
		t.Helper()
		if err := st.Await(ctx, func(s station.State) bool { return s.Profile == profile }); err != nil {
			t.Fatalf("the station doesn't reach profile %d: %v\n%s", profile, err, srv.cli("station", "show", e.identity))
		}
		eventually(t, "its session is recorded", func() bool {
			var detail struct {
				Station struct {
					Seen  int `json:"seen_profile"`
					Floor int `json:"floor_profile"`
				} `json:"station"`
			}
			srv.cliJSON(&detail, "station", "show", e.identity)
			return detail.Station.Seen == profile && detail.Station.Floor == profile
		})
	}
	srv.cli("station", "profile", e.identity, "3")
	reach(3)
	if _, errs, code := srv.try("", "station", "profile", e.identity, "2"); code != 1 || !strings.Contains(errs, "nobody was asked") {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var asked struct {
		Nonce string `json:"nonce"`
	}
	srv.cliJSON(&asked, "approval", "request", "station.downgrade", e.identity, "--reason", "end to end", "--author", "carol")
	srv.approve(asked.Nonce, "alice")
	srv.approve(asked.Nonce, "bob")
	srv.cli("station", "profile", e.identity, "2")
	reach(2)
	if ledger := srv.cli("ledger", "export"); !strings.Contains(ledger, `"approval.used"`) || strings.Contains(ledger, e.password) {
		t.Error("the ledger doesn't have it, or has a password")
	}
}
