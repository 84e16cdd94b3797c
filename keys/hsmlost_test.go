package keys_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/internal/testlog"
	"bollard/keys"
	"bollard/keys/keystest"
)

const lostToken = "lost"

// A token that goes away and comes back, while keys of it are in use: what is
// signed meanwhile fails as ErrUnavailable, and afterwards signing goes on with
// the signers there were. It runs alone: the library is unloaded only when
// nobody uses it.
func TestHSMTokenLostAndRestored(t *testing.T) {
	var log testlog.Buffer
	k := keystest.Keeper(t, keys.Config{Log: slog.New(slog.NewTextHandler(&log, nil)), HSMTimeout: time.Minute})
	pin := keystest.SecretFile(t, userPIN)
	uri := hsmURI(lostToken, "key", pin)
	s, err := k.Create(t.Context(), uri, keys.RoleCA, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	signs(t, s)
	place := tokenDir(t)
	away := filepath.Join(t.TempDir(), "away")
	if err := os.Rename(place, away); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	for range 3 {
		began := time.Now()
		_, err := s.Sign(rand.Reader, digest[:], crypto.SHA256)
		if !errors.Is(err, keys.ErrUnavailable) || time.Since(began) > 30*time.Second {
			t.Fatalf("after %v: got %v, want ErrUnavailable", time.Since(began), err)
		}
		if strings.Contains(err.Error(), userPIN) {
			t.Fatalf("the PIN is in the error: %v", err)
		}
	}
	if _, err := k.Open(t.Context(), uri, keys.RoleCA); !errors.Is(err, keys.ErrUnavailable) {
		t.Fatalf("opening: %v", err)
	}
	later, err := k.OpenLater(uri, keys.RoleCA, s.Public())
	if err != nil {
		t.Fatal(err)
	}
	// Another token of the module is none the worse.
	other, err := k.Create(t.Context(), hsmURI("foreign", "other", pin), keys.RoleCA, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, place); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { signs(t, s) })
	}
	wg.Wait()
	signs(t, later)
	signs(t, other)
	if got := log.String(); strings.Count(got, "holds keys is gone") != 1 || strings.Count(got, "holds keys is back") != 1 || strings.Contains(got, "runtime.") || strings.Contains(got, userPIN) {
		t.Errorf("log: %s", got)
	}
	// A key that isn't the one of the certificate never signs for it.
	wrong, err := k.OpenLater(uri, keys.RoleCA, other.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.Sign(rand.Reader, digest[:], crypto.SHA256); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("another key: %v", err)
	}
}

// tokenDir finds the folder SoftHSM keeps the token in.
func tokenDir(t *testing.T) string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(filepath.Dir(os.Getenv("SOFTHSM2_CONF")), "*", "token.object"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range dirs {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), lostToken+strings.Repeat(" ", 32-len(lostToken))) {
			return filepath.Dir(file)
		}
	}
	t.Fatal("no folder of the token")
	return ""
}
