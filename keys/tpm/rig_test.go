package tpm_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"bollard/keys"
	"bollard/tpm/swtpm"
)

// PINs of roles.
const (
	caPIN       = "canary-pin-of-the-ca"
	firmwarePIN = "canary-pin-of-firmware"
)

// daemon is a real swtpm that can be killed and started again.
type daemon struct {
	dir  string
	kill func()
}

func startTPM(t *testing.T) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{dir: dir}
	t.Cleanup(func() {
		if d.kill != nil {
			d.kill()
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *daemon) socket() string { return swtpm.Socket(d.dir) }

func (d *daemon) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	_, wait, err := swtpm.Start(ctx, d.dir)
	d.kill = func() {
		cancel()
		if wait != nil {
			wait()
		}
	}
	return err
}

func (d *daemon) signal(s syscall.Signal) error {
	process, err := swtpm.Process(d.dir)
	if err != nil {
		return err
	}
	return process.Signal(s)
}

// base is the URI base of keys in a TPM, each role with a PIN of its own.
func base(t *testing.T, device string) string {
	t.Helper()
	dir := t.TempDir()
	for role, pin := range map[keys.Role]string{keys.RoleCA: caPIN, keys.RoleOCSP: "canary-pin-of-the-ocsp", keys.RoleFirmware: firmwarePIN} {
		if err := os.WriteFile(filepath.Join(dir, string(role)+".pin"), []byte(pin+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "tpmkms:device=" + device + "?pin-source=" + dir + "/{role}.pin"
}

// wants says that an error isn't what is wanted.
func wants(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
