package vault_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"bollard/ca"
	"bollard/ca/catest"
	"bollard/keys"
	"bollard/keys/keystest"
	"bollard/store"
)

// A CA whose login to Vault isn't taken any more starts all the same, for what it isn't
// needed for; it issues again once the login is mended.
func TestCAStartsWhileItsLoginIsRefused(t *testing.T) {
	t.Parallel()
	s, dir := startVault(t, nil), t.TempDir()
	for _, role := range []string{"ca", "ocsp"} {
		if err := s.AppRole(t.Context(), dir, role, nil); err != nil {
			t.Fatal(err)
		}
	}
	base := s.URI(dir)
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "bollard.db"), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := ca.Init(t.Context(), ca.InitConfig{Store: db, Keeper: keystest.Keeper(t, keys.Config{}), KeyBase: base, Organisation: "Example CPO", Country: "NL", Clock: time.Now}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "ca.secret-id")
	right, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte("canary-wrong"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	a, err := ca.New(t.Context(), ca.Config{Store: db, Keeper: keystest.Keeper(t, keys.Config{}), KeyBase: base, Organisation: "Example CPO", Country: "NL", Clock: time.Now})
	if err != nil {
		t.Fatalf("it doesn't start: %v", err)
	}
	one := func() error {
		p, err := a.Prepare(t.Context(), catest.StationOrder(catest.StationRequest(t)))
		if err == nil {
			_, err = a.Issue(t.Context(), p)
		}
		return err
	}
	if err := one(); !errors.Is(err, keys.ErrLogin) {
		t.Errorf("issuing: %v, want ErrLogin", err)
	}
	if err := os.WriteFile(file, right, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := one(); err != nil {
		t.Errorf("with the right credential: %v", err)
	}
}

// What answers in Vault's place without end is cut off.
func TestEndlessAnswerIsCutOff(t *testing.T) {
	t.Parallel()
	var sent atomic.Int64
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for chunk := make([]byte, 64<<10); ; {
			n, err := w.Write(chunk)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(endless.Close)
	k := keystest.Keeper(t, keys.Config{HSMTimeout: 2 * time.Second})
	if _, err := k.Open(t.Context(), "vault:address="+endless.URL+";object=key?token-source="+keystest.SecretFile(t, "canary-token"), keys.RoleCA); err == nil {
		t.Error("opened")
	}
	if n := sent.Load(); n > 64<<20 {
		t.Errorf("%d MiB were taken", n>>20)
	}
}
