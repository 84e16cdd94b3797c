package ca_test

import (
	"crypto/elliptic"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"bollard/ca"
	"bollard/internal/failpoint"
	"bollard/keys"
	"bollard/store"
)

// askedDir names the directory to a child that is killed while it asks for a CA.
const askedDir = "CA_TEST_DIR"

// askedRig is an authority over a database of its own.
func askedRig(t *testing.T, dir string) (*ca.Authority, *store.Store) {
	t.Helper()
	clock := func() time.Time { return start }
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "bollard.db"), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := keys.New(keys.Config{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Init(t.Context(), ca.InitConfig{Store: db, Keeper: keeper, Organisation: "Example CPO", Country: "NL", Clock: clock}); err != nil && !errors.Is(err, ca.ErrHierarchyExists) {
		t.Fatal(err)
	}
	a, err := ca.New(t.Context(), ca.Config{Store: db, Keeper: keeper, Organisation: "Example CPO", Country: "NL", Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	return a, db
}

// TestAskedChild is the process that is killed; without its environment it is nothing.
func TestAskedChild(t *testing.T) {
	if dir := os.Getenv(askedDir); dir != "" {
		a, _ := askedRig(t, dir)
		_, err := a.RequestCA(t.Context(), ca.KindMO, 2, a.Paths(ca.KindMO) != nil, "operator")
		t.Fatalf("it isn't killed: %v", err)
	}
}

// Killed between the record of a request and its key, a server starts again, with what
// issued before; the same request goes on.
func TestKilledBeforeTheRequestedKey(t *testing.T) { // promise 7
	t.Parallel()
	dir := t.TempDir()
	root := newOutsideRoot(t, start, elliptic.P256(), "Outside Root")
	by := root.sub(1)
	for _, anew := range []bool{false, true} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAskedChild$")
		cmd.Env = append(os.Environ(), askedDir+"="+dir, failpoint.Env+"=ca.requested")
		out, err := cmd.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL { //nolint:forcetypeassert // on Unix
			t.Fatalf("not killed: %v: %s", err, out)
		}
		a, db := askedRig(t, dir)
		if paths := a.Paths(ca.KindMO); (len(paths) == 1) != anew {
			t.Fatalf("anew %t: %d ways at the next start", anew, len(paths))
		}
		if _, err := a.AddAnchor(t.Context(), "mo", pemOf(root.cert), "operator"); err != nil {
			t.Fatal(err)
		}
		csr, err := a.RequestCA(t.Context(), ca.KindMO, 2, anew, "operator")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.ImportChain(t.Context(), ca.KindMO, pemOf(by.certify(csr, nil), by.cert), "operator"); err != nil {
			t.Fatal(err)
		}
		if requests, err := db.Requests(t.Context(), ca.KindMO); err != nil || len(requests) != len(a.Intermediates(ca.KindMO)) {
			t.Errorf("anew %t: %d requests: %v", anew, len(requests), err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A key on Ed448 that is to be in a hardware security module is refused before anything is
// recorded: the next start, and a root here, are as before.
func TestRequestThatNoModuleCanMake(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t)
	r.curves = []ca.KeyClass{ca.ClassEd448}
	c := r.config()
	c.KeyBase = "pkcs11:module-path=/none.so;token=none"
	a, err := ca.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.RequestCA(t.Context(), ca.KindMO448, 1, false, "operator"); !errors.Is(err, ca.ErrNoHierarchy) {
		t.Errorf("asked: %v", err)
	}
	if asked, err := r.store.Requests(t.Context(), ca.KindMO448); err != nil || len(asked) != 0 {
		t.Errorf("%d requests are on record: %v", len(asked), err)
	}
}
