package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bollard/admin"
)

func TestTicketSecretsAreRenewed(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	made := func(ages ...time.Duration) (list []ticketSecret) {
		for i, age := range ages {
			list = append(list, ticketSecret{now.Add(-age), bytes.Repeat([]byte{byte(i + 1)}, 32)})
		}
		return list
	}
	for _, tt := range []struct {
		name    string
		known   []ticketSecret
		kept    []byte // first byte of each that stays, in order
		renewed bool
	}{
		{"none", nil, nil, true},
		{"young", made(time.Hour), []byte{1}, false},
		{"a day old", made(24 * time.Hour), []byte{1}, true},
		{"the one before, still", made(23*time.Hour, 47*time.Hour), []byte{1, 2}, false},
		{"the one before, too old", made(time.Hour, 48*time.Hour), []byte{1}, false},
		{"all too old", made(72*time.Hour, 96*time.Hour), nil, true},
		{"from a future", made(-time.Hour, time.Hour), []byte{2}, false},
		{"damaged", []ticketSecret{{now, []byte{1, 2, 3}}}, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, changed := renewedTickets(tt.known, now)
			if want := tt.renewed || len(tt.kept) != len(tt.known); changed != want {
				t.Errorf("changed: %t, want %t", changed, want)
			}
			if tt.renewed {
				if len(got) == 0 || !got[0].Made.Equal(now) || len(got[0].Secret) != 32 || bytes.Equal(got[0].Secret, make([]byte, 32)) {
					t.Fatalf("no new secret comes first: %d", len(got))
				}
				got = got[1:]
			}
			var kept []byte
			for _, s := range got {
				kept = append(kept, s.Secret[0])
			}
			if !bytes.Equal(kept, tt.kept) {
				t.Errorf("kept %v, want %v", kept, tt.kept)
			}
		})
	}
}

// TLS sessions go on after a restart; the secret is nowhere in the clear, and
// without what opens it stations make a full handshake.
func TestTLSSessionsOutliveARestart(t *testing.T) {
	t.Parallel()
	dir := newDataDir(t, "ws://127.0.0.1:1/ocpp")
	sessions := tls.NewLRUClientSessionCache(4)
	visit := func(r *rig) (resumed bool) {
		t.Helper()
		root, err := admin.Call[admin.KindRef, admin.PEM](t.Context(), admin.NewClient(dir), "ca.root", admin.KindRef{Kind: "csms"})
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(root.PEM))
		conn, err := tls.Dial("tcp", r.at.OCPP[0], &tls.Config{RootCAs: pool, ServerName: "localhost", ClientSessionCache: sessions})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
		return conn.ConnectionState().DidResume
	}
	stop := func(r *rig) {
		t.Helper()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
	first := startServer(t, dir)
	if visit(first) {
		t.Fatal("resumed nothing")
	}
	stop(first)
	second := startServer(t, dir)
	if !visit(second) {
		t.Error("the session didn't go on after a restart")
	}
	stop(second)
	database, err := os.ReadFile(filepath.Join(dir, databaseName))
	if err != nil || !bytes.Contains(database, []byte(ticketsName)) || bytes.Contains(database, []byte(`"secret":`)) {
		t.Errorf("the secret isn't sealed in the database, %v", err)
	}

	seal := filepath.Join(dir, sealName)
	if err := os.Remove(seal); err != nil {
		t.Fatal(err)
	}
	if err := createSealer(seal); err != nil {
		t.Fatal(err)
	}
	third := startServer(t, dir)
	if visit(third) {
		t.Error("resumed a session without the seal key")
	}
	third.log.await(t, "couldn't read the secrets of TLS session tickets")
	if !visit(third) {
		t.Error("no session of the new secret is resumed")
	}
}
