package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A server that is started by hand doesn't wait for a passphrase that would be shown.
func TestPassphraseIsNotReadFromATerminal(t *testing.T) {
	t.Parallel()
	var out, said bytes.Buffer
	code := run(t.Context(), []string{"serve", "--passphrase-stdin", "--data", filepath.Join(t.TempDir(), "data")}, terminal(t), &out, &said)
	if code != exitUsage || !strings.Contains(said.String(), "standard input is a terminal") || !strings.Contains(said.String(), "hint: pipe it in") {
		t.Errorf("code %d: %s", code, &said)
	}
}

// terminal is the far end of a pseudo-terminal.
func terminal(t *testing.T) *os.File {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	fd := int(near.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	far, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return far
}
