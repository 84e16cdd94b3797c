// Package smalldisk gives a test a disk of its own, to be filled: a tmpfs in namespaces of
// a process of its own.
package smalldisk

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const insideEnv = "BOLLARD_TEST_SMALL_DISK"

// Run runs a test function with a directory that is a file system of so many bytes, as
// mount(8) writes them (size=). It runs the test named t.Name() in another process for
// that; where nothing may be mounted, it says so and shows nothing.
func Run(t *testing.T, size string, test func(t *testing.T, dir string)) {
	t.Helper()
	if os.Getenv(insideEnv) == "" {
		again(t)
		return
	}
	dir := t.TempDir()
	if err := syscall.Mount("small", dir, "tmpfs", 0, "size="+size+",mode=700"); err != nil {
		none(t, err)
		return
	}
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	test(t, dir)
}

// again runs this test once more where it may mount.
func again(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		none(t, err)
		return
	}
	if t.Logf("%s", out); err != nil {
		t.Error(err)
	}
}

func none(t *testing.T, err error) {
	t.Helper()
	t.Log("no disk of its own to be filled may be mounted here: ", err)
}
