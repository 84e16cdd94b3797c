package e2e_test

import (
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SIGTERM: the sessions are closed in order, the process ends with 0.
func TestSigtermDrains(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	srv.start()
	e := srv.enlist("drained", 3)
	s, up := backend.session(t, srv, e, rawOptions{})
	s.heartbeat("1")
	srv.stop()
	if code := s.closed(); code != 1001 && code != 1012 {
		t.Errorf("the station's close code is %d (%v), want 1001 (going away)", code, s.reason())
	}
	eventually(t, "the upstream is closed", func() bool {
		up.mu.Lock()
		defer up.mu.Unlock()
		return up.ended
	})
	// What was recorded is there for the next process.
	srv.start()
	again, _ := backend.session(t, srv, e, rawOptions{})
	again.heartbeat("2")
}

// SIGHUP: new back ends hold for sessions opened from now on; live ones stay; a
// broken file changes nothing and is named with key and line.
func TestSighupReloads(t *testing.T) {
	t.Parallel()
	first, second := startBackend(t), startBackend(t)
	srv := newServer(t, first.conf())
	srv.start()
	stays, comes := srv.enlist("stays", 3), srv.enlist("comes", 3)
	s, _ := first.session(t, srv, stays, rawOptions{})

	srv.conf["backends"] = []any{second.conf()}
	srv.configure()
	_ = srv.proc.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, "the reload is logged", func() bool { return strings.Contains(srv.proc.log.String(), "configuration reloaded") })
	other, _ := second.session(t, srv, comes, rawOptions{})
	other.heartbeat("new")
	s.heartbeat("old")
	if len(second.of("stays")) != 0 || len(first.of("comes")) != 0 {
		t.Error("a live session moved, or a new one went to the old back end")
	}

	srv.conf["backends"] = []any{map[string]any{"url": "http://127.0.0.1:1/"}}
	srv.conf["no_such_key"] = true
	srv.configure()
	_ = srv.proc.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, "the broken file is refused in the log", func() bool {
		log := srv.proc.log.String()
		return strings.Contains(log, "couldn't reload") && strings.Contains(log, "bollard.yaml:")
	})
	s.heartbeat("still")
	other.heartbeat("still")
}

// A wrong configuration keeps serve from starting: exit 2, key and line named.
func TestServeRefusesWrongConfiguration(t *testing.T) {
	t.Parallel()
	srv := newServer(t, map[string]any{"url": "ws://127.0.0.1:1/ocpp"})
	srv.conf["no_such_key"] = true
	srv.configure()
	_, errs, code := srv.try("", "serve")
	if code != 2 || !strings.Contains(errs, "no_such_key") || !strings.Contains(errs, "bollard.yaml:") {
		t.Errorf("exit code %d, want 2 and the key with its line:\n%s", code, errs)
	}
}

// Promise 9: revocation ends the live session that uses the certificate at
// once, and holds for new connections, resumed ones included, and after kill -9.
func TestRevocationEndsTheLiveSession(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	srv.start()
	e, bystander := srv.enlist("revoked", 3), srv.enlist("bystander", 3)
	tickets := rawOptions{tickets: tls.NewLRUClientSessionCache(4)}
	s, _ := backend.session(t, srv, e, tickets)
	s.heartbeat("1")
	b, _ := backend.session(t, srv, bystander, rawOptions{})
	list := srv.certificates("--station", "revoked")
	if len(list) != 1 {
		t.Fatalf("%d certificates of the station, want 1", len(list))
	}
	connections := backend.acceptedConnections()
	srv.cli("ca", "revoke", list[0].Serial, "--reason", "keyCompromise")
	revoked := time.Now()
	s.closed()
	if took := time.Since(revoked); took > 20*time.Second {
		t.Errorf("the live session ended %s after its certificate was revoked, not at once", took)
	}
	for range 3 {
		if again, err := dialRaw(t, srv, e, tickets); err == nil {
			again.conn.Net.Close()
			t.Error("let in with a revoked certificate")
		}
	}
	if !b.alive() {
		t.Errorf("another station's session ended: %v", b.reason())
	}
	_ = srv.proc.cmd.Process.Kill()
	srv.proc.wait(t)
	srv.start()
	if again, err := dialRaw(t, srv, e, rawOptions{}); err == nil {
		again.conn.Net.Close()
		t.Error("let in with a revoked certificate after a restart")
	}
	if got := backend.acceptedConnections(); got != connections {
		t.Errorf("the back end got %d connections more", got-connections)
	}
	after, _ := backend.session(t, srv, bystander, rawOptions{})
	after.heartbeat("2")
}

// A database that is not whole is refused with what to do; nothing is changed.
func TestCorruptDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	srv := newServer(t, map[string]any{"url": "ws://127.0.0.1:1/ocpp"})
	srv.start()
	srv.enlist("somebody", 2)
	srv.stop()
	files, err := filepath.Glob(filepath.Join(srv.data, "*.db"))
	if err != nil || len(files) != 1 {
		t.Fatalf("database files: %v, %v", files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	broken := append([]byte(nil), whole...)
	for i := 4096; i < len(broken); i += 4096 { // every page behind the first
		copy(broken[i:min(i+64, len(broken))], strings.Repeat("\xde\xad", 32))
	}
	for name, content := range map[string][]byte{
		"pages overwritten": broken,
		"cut short":         whole[:len(whole)/2],
		"no database":       []byte(strings.Repeat("no database at all ", 500)),
	} {
		t.Run(name, func(t *testing.T) {
			srv := &server{t: t, data: filepath.Join(t.TempDir(), "data")}
			// With all modes: serve refuses keys others could have read.
			out, err := exec.Command("cp", "-a", filepath.Dir(files[0]), srv.data).CombinedOutput()
			if err != nil {
				t.Fatalf("couldn't copy the data directory: %v\n%s", err, out)
			}
			file := filepath.Join(srv.data, filepath.Base(files[0]))
			srv.write(file, string(content))
			stdout, errs, code := srv.try("", "serve")
			if code != 1 || !strings.Contains(errs, "database") || !strings.Contains(errs, "restore") {
				t.Errorf("exit code %d, want 1 and what to do (restore …):\n%s%s", code, stdout, errs)
			}
			now, err := os.ReadFile(file)
			if err != nil || string(now) != string(content) {
				t.Errorf("the database was changed: %v", err)
			}
		})
	}
}

// Two servers never work in one data directory.
func TestSecondServerIsRefused(t *testing.T) {
	t.Parallel()
	srv := newServer(t, map[string]any{"url": "ws://127.0.0.1:1/ocpp"})
	srv.start()
	_, errs, code := srv.try("", "serve")
	if code != 1 {
		t.Errorf("exit code %d, want 1:\n%s", code, errs)
	}
	conn, err := tls.Dial("tcp", srv.ocpp, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatalf("the first server is disturbed: %v", err)
	}
	conn.Close()
}
