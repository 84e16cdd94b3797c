package ca_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"bollard/ca"
	"bollard/ca/quality"
)

// A key on the operator's block list gets no certificate, and no intent.
func TestBlockedKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stolen := order(t, newKey(t))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "keys-blocked.txt"), []byte(stolen.Key.Hash()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := quality.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	cfg := r.config()
	cfg.Blocked = list
	authority, err := ca.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = authority.Prepare(t.Context(), stolen)
	var refused *quality.Error
	if !errors.As(err, &refused) || refused.Reason != quality.Blocked {
		t.Errorf("got %v, want %q", err, quality.Blocked)
	}
	records, err := r.store.CertificatesByKey(t.Context(), stolen.Key.Hash())
	if err != nil || len(records) != 0 {
		t.Errorf("records of a blocked key: %v, %v", records, err)
	}
	if _, err := authority.Prepare(t.Context(), order(t, newKey(t))); err != nil {
		t.Errorf("a key on no list: %v", err)
	}
}
