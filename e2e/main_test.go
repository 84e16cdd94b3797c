// Package e2e tests the real binary from outside: started as a process with a
// data directory of its own, driven by its commands, with real peers in
// processes of their own, all on loopback. It imports nothing of the product.
package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Where TestMain put what it built; written once, before any test runs.
var (
	bollardBinary string
	ocppgoBinary  string
	rpcPeer       string // the script of the ocpp-rpc peer
)

// patience bounds every wait: generous, because two cores may be busy.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	code, err := build(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func build(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "bollard-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	for tool, pkg := range map[string]string{"node": "nodejs", "openssl": "openssl", "sslscan": "sslscan", "curl": "curl", "lego": "lego", "certbot": "certbot"} {
		_, err = exec.LookPath(tool)
		if err != nil {
			return 0, fmt.Errorf("%s is missing: apt-get install -y --no-install-recommends %s", tool, pkg)
		}
	}
	rpcPeer, err = filepath.Abs("peers/ocpprpc/peer.js")
	if err != nil {
		return 0, err
	}
	_, err = os.Stat(filepath.Join(filepath.Dir(rpcPeer), "node_modules", "ocpp-rpc"))
	if err != nil {
		return 0, fmt.Errorf("the ocpp-rpc peer isn't installed: (cd e2e/peers/ocpprpc && npm ci --ignore-scripts): %w", err)
	}
	bollardBinary = filepath.Join(dir, "bollard")
	ocppgoBinary = filepath.Join(dir, "ocppgo")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	args := []string{"build", "-o", bollardBinary}
	if raceEnabled {
		args = append(args, "-race")
	}
	for _, args := range [][]string{
		append(args, "bollard/cmd/bollard"),
		{"build", "-o", ocppgoBinary, "bollard/e2e/peers/ocppgo"}, // the peers' races are not ours
	} {
		out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("go %v: %w\n%s", args, err, out)
		}
	}
	return m.Run(), nil
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s still not so: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
