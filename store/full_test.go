package store_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"bollard/store"
)

const smallDiskEnv = "BOLLARD_STORE_SMALL_DISK"

// A server that stopped in order starts on a disk without one free byte: what there is
// can be read, what a start gives up is nothing, and writing goes on once there is room.
func TestOpenOnAFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getenv(smallDiskEnv) == "" {
		onSmallDisk(t)
		return
	}
	dir := t.TempDir()
	if err := syscall.Mount("small", dir, "tmpfs", 0, "size=4m"); err != nil {
		noSmallDisk(t, err)
		return
	}
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
	must(t, syscall.Unmount(dir, 0))
}

// onSmallDisk runs this test once more where it may mount a file system of its own.
func onSmallDisk(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), smallDiskEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		noSmallDisk(t, err)
		return
	}
	if t.Logf("%s", out); err != nil {
		t.Error(err)
	}
}

// noSmallDisk: where nothing may be mounted, TestCloseLeavesOneWholeFile alone shows that
// the log's files stay.
func noSmallDisk(t *testing.T, err error) {
	t.Helper()
	t.Log("no disk of its own to be filled may be mounted here: ", err)
}
