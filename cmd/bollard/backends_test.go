package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bollard/admin"
	"bollard/internal/config"
	"bollard/ledger"
	"bollard/store"
)

func TestGatewayBackend(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writePair(t, dir, "one", 1)
	writePair(t, dir, "two", 2)
	for name, content := range map[string]string{"secret": "canary-shared\n", "notes": "no certificate"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		backend config.Backend
		fault   string // "" is none
	}{
		"plain":                 {config.Backend{URL: "ws://a/b"}, ""},
		"shared secret":         {config.Backend{URL: "ws://a/b", Auth: "basic-shared", PasswordFile: "secret"}, ""},
		"own trust and mTLS":    {config.Backend{URL: "wss://a/b", Auth: "mtls", Trust: "one.pem", Certificate: "two.pem", Key: "two.key"}, ""},
		"absolute path":         {config.Backend{URL: "wss://a/b", Trust: filepath.Join(dir, "one.pem")}, ""},
		"no such secret":        {config.Backend{URL: "ws://a/b", Auth: "basic-shared", PasswordFile: "nowhere"}, "password_file: "},
		"no such trust":         {config.Backend{URL: "wss://a/b", Trust: "nowhere.pem"}, "trust: "},
		"trust isn't any":       {config.Backend{URL: "wss://a/b", Trust: "notes"}, "no PEM certificate"},
		"key of another one":    {config.Backend{URL: "wss://a/b", Auth: "mtls", Certificate: "one.pem", Key: "two.key"}, "certificate: "},
		"certificate isn't any": {config.Backend{URL: "wss://a/b", Auth: "mtls", Certificate: "notes", Key: "two.key"}, "certificate: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := gatewayBackend(dir, tt.backend)
			if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			if (got.TLS != nil) != (tt.backend.Trust != "") {
				t.Errorf("TLS configuration %v", got.TLS)
			}
			if tt.backend.PasswordFile != "" {
				if secret, err := got.Password(t.Context(), "cs-1"); err != nil || string(secret) != "canary-shared" {
					t.Errorf("shared secret %q, %v", secret, err)
				}
			}
		})
	}
}

// What `backend password` stores is had again, for this station only, and the
// database holds nothing readable of it.
func TestUpstreamPassword(t *testing.T) {
	t.Parallel()
	dir := newDataDir(t, "")
	for _, args := range [][]string{{"station", "add", "CS-1", "--serial", "SN-1"}, {"backend", "password", "cs-1"}} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(args, "--data", dir), strings.NewReader("canary-upstream\n"), &out, &errs); code != exitDone {
			t.Fatalf("%v: exit code %d: %s", args, code, &errs)
		}
	}
	seal, err := openSealer(filepath.Join(dir, sealName))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, databaseName)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	password := upstreamPassword(db, seal)
	if got, err := password(t.Context(), "cs-1"); err != nil || string(got) != "canary-upstream" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := password(t.Context(), "cs-2"); err == nil || !strings.Contains(err.Error(), "bollard backend password cs-2") {
		t.Errorf("got %v", err)
	}
	sealed, ok, err := db.Secret(t.Context(), admin.UpstreamSecret("cs-1"))
	if err != nil || !ok || bytes.Contains(sealed, []byte("canary")) {
		t.Errorf("stored as %q, %t, %v", sealed, ok, err)
	}
	// What a back end sets itself takes its place, where Bollard logs in per station.
	a := &app{store: db, seal: seal}
	a.backends.Store(&[]config.Backend{{Name: "shared", Auth: "basic-shared"}, {Auth: "basic-per-station"}})
	for backend, kept := range map[string]bool{"shared": false, "backends[1]": true, "gone": false} {
		event := ledger.Event{Kind: "backend.password", Subject: "cs-1", Actor: "backend"}
		if ok, err := a.keepUpstream(t.Context(), backend, "cs-1", []byte("canary-"+backend), event); err != nil || ok != kept {
			t.Errorf("%s: %t, %v", backend, ok, err)
		}
	}
	if got, err := password(t.Context(), "cs-1"); err != nil || string(got) != "canary-backends[1]" {
		t.Errorf("got %q, %v", got, err)
	}
}
