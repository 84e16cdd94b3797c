package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"bollard/internal/smalldisk"
	"bollard/store"
)

// A server that stopped in order starts on a disk without one free byte: what there is
// can be read, what a start gives up is nothing, and writing goes on once there is room.
func TestOpenOnAFullDisk(t *testing.T) {
	t.Parallel()
	// Where nothing may be mounted, TestCloseLeavesOneWholeFile alone shows that the log's
	// files stay.
	smalldisk.Run(t, "4m", openOnAFullDisk)
}

func openOnAFullDisk(t *testing.T, dir string) {
	path := filepath.Join(dir, "bollard.db")
	s := reopen(t, path)
	must(t, s.SetSecret(t.Context(), "kept", []byte("secret"), event("secret.set")))
	must(t, s.Close())
	fill := filepath.Join(dir, "fill")
	f, err := os.Create(fill)
	must(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, os.Getpagesize()))
	}
	if must(t, f.Close()); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	for range 2 {
		s = reopen(t, path)
		if secret, ok, err := s.Secret(t.Context(), "kept"); err != nil || !ok || string(secret) != "secret" {
			t.Errorf("read %q, %v, %v", secret, ok, err)
		}
		if list, err := s.OrphanIntents(t.Context(), at(100)); err != nil || len(list) != 0 {
			t.Errorf("orphans %v, %v", list, err)
		}
		if err := s.Record(t.Context(), event("server.started")); !errors.Is(err, store.ErrFull) {
			t.Errorf("wrote on a full disk: %v", err)
		}
		must(t, s.Close())
	}
	s = reopen(t, path)
	must(t, os.Remove(fill))
	must(t, s.Record(t.Context(), event("server.started")))
	must(t, s.Close())
}
