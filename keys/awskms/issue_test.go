//go:build cloudkms

package awskms_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/ca/catest"
	"bollard/keys"
	"bollard/keys/keystest"
	"bollard/store"
)

// A CA with its keys in AWS issues, doesn't while AWS is away, and goes on when it is back,
// also one that was started meanwhile. What it gave out is on record.
func TestIssuingWhileAWSComesAndGoes(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	base := s.base(s.URL)
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "bollard.db"), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := ca.Init(t.Context(), ca.InitConfig{Store: db, Keeper: keystest.Keeper(t, keys.Config{}), KeyBase: base, Organisation: "Example CPO", Country: "NL", Clock: time.Now}); err != nil {
		t.Fatal(err)
	}
	start := func() *ca.Authority {
		a, err := ca.New(t.Context(), ca.Config{Store: db, Keeper: keystest.Keeper(t, keys.Config{}), KeyBase: base, Organisation: "Example CPO", Country: "NL", Clock: time.Now})
		if err != nil {
			t.Fatalf("it doesn't start: %v", err)
		}
		return a
	}
	first := start()
	gives := func(a *ca.Authority, when string) {
		t.Helper()
		serial, err := catest.Issue(t.Context(), a, catest.StationRequest(t))
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if r, err := db.Certificate(t.Context(), serial); err != nil || r.State != ca.StateIssued {
			t.Errorf("%s: %s, %v", when, r.State, err)
		}
	}
	gives(first, "before")
	s.kill()
	second := start()
	for what, a := range map[string]*ca.Authority{"running": first, "started without": second} {
		began := time.Now()
		if _, err := catest.Issue(t.Context(), a, catest.StationRequest(t)); !errors.Is(err, keys.ErrUnavailable) || time.Since(began) > 10*time.Second {
			t.Errorf("%s, after %v: %v, want ErrUnavailable", what, time.Since(began), err)
		}
	}
	s.restart()
	gives(first, "running, back")
	gives(second, "started without, back")
}

// The program built with the tag has its hierarchy in AWS, and says where the keys are.
func TestProgram(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	dir := t.TempDir()
	bin := filepath.Join(dir, "bollard")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "cloudkms", "-o", bin, "bollard/cmd/bollard").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	runs := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(within(t), bin, args...)
		cmd.Env = append(os.Environ(), "BOLLARD_DATA="+filepath.Join(dir, "data"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return string(out)
	}
	runs("init", "--org", "Example CPO", "--country", "NL", "--keys", s.base(s.URL))
	for _, want := range []string{"AWS KMS", "Origin=AWS_KMS", "KeyUsage=SIGN_VERIFY"} {
		if got := runs("doctor"); !strings.Contains(got, want) {
			t.Errorf("doctor doesn't say %q: %s", want, got)
		}
	}
	if got := runs("firmware", "key", keystest.Named(t, s.base(s.URL), "release"), "--org", "Maker", "--name", "Line 1"); !strings.Contains(got, "CERTIFICATE REQUEST") {
		t.Errorf("firmware key: %s", got)
	}
}
