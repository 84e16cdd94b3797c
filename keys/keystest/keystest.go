// Package keystest is what the tests of every place of keys need alike.
package keystest

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"bollard/internal/signature"
	"bollard/keys"
)

// Keeper is one for the test's life; without a directory it has one of its own.
func Keeper(t testing.TB, cfg keys.Config) *keys.Keeper {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	k, err := keys.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// Named is the URI of a key below a base.
func Named(t testing.TB, base, name string) string {
	t.Helper()
	uri, err := keys.Join(base, name)
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

// SecretFile is a file with a PIN, or another secret.
func SecretFile(t testing.TB, secret string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TrySign signs something with SHA-256; what comes back verifies, or it is an error.
func TrySign(s crypto.Signer) error {
	digest := sha256.Sum256([]byte("message"))
	sig, err := s.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err == nil && !signature.Verifies(s.Public(), digest[:], sig, crypto.SHA256) {
		return errors.New("a signature that doesn't verify was given out")
	}
	return err
}

// Signs is TrySign that must succeed.
func Signs(t testing.TB, s crypto.Signer) {
	t.Helper()
	if err := TrySign(s); err != nil {
		t.Fatal(err)
	}
}
