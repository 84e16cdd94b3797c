// Package swtpm runs the software TPM 2.0 that tests and rigs use in place of a
// car's, or of the machine that keeps keys: Debian's swtpm, over a socket of its own.
//
// It promises a TPM that is started and empty, or has a car's storage key, and is gone
// with the caller's context.
package swtpm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// patience is how long it may take to listen.
const patience = 10 * time.Second

// StartAlone starts one in a directory of its own; socket is where it listens. Call stop
// in any case: it ends the TPM and removes what it kept.
func StartAlone(ctx context.Context) (t transport.TPM, socket string, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "tpm") // short: a socket is in it
	if err != nil {
		return nil, "", func() error { return nil }, err
	}
	ctx, cancel := context.WithCancel(ctx)
	t, wait, err := Start(ctx, dir)
	stop = func() error {
		cancel()
		if wait != nil {
			wait()
		}
		return os.RemoveAll(dir)
	}
	return t, Socket(dir), stop, err
}

// Socket is that of the TPM in a directory.
func Socket(dir string) string { return filepath.Join(dir, "tpm") }

// Process is that of the TPM in a directory, to be stopped and continued.
func Process(dir string) (*os.Process, error) {
	text, err := os.ReadFile(pidFile(dir))
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, err
	}
	return os.FindProcess(pid)
}

func pidFile(dir string) string { return filepath.Join(dir, "pid") }

// Start starts one with its state and its sockets in a directory, whose path has to be
// short: it names Unix sockets. It is killed when ctx ends; call wait after that, before
// it is started again with the state it has there.
func Start(ctx context.Context, dir string) (t transport.TPM, wait func(), err error) {
	socket := Socket(dir)
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one that was killed
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket,
		"--ctrl", "type=unixio,path="+filepath.Join(dir, "ctrl"), "--pid", "file="+pidFile(dir), "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("couldn't start swtpm (make tools installs it): %w", err)
	}
	ended := make(chan struct{})
	var failed error // once ended is closed
	go func() { failed = cmd.Wait(); close(ended) }()
	wait = func() { <-ended }
	limit, tick := time.NewTimer(patience), time.NewTicker(5*time.Millisecond)
	defer limit.Stop()
	defer tick.Stop()
	for {
		if t, err = linuxudstpm.Open(socket); err == nil {
			if _, err = (tpm2.GetCapability{Capability: tpm2.TPMCapHandles, PropertyCount: 1}).Execute(t); err == nil {
				return t, wait, nil
			}
		}
		select {
		case <-ended:
			return nil, wait, fmt.Errorf("swtpm ended: %w", failed)
		case <-limit.C:
			return nil, wait, fmt.Errorf("swtpm doesn't listen: %w", err)
		case <-tick.C:
		}
	}
}
