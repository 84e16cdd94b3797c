// Package swtpm runs the software TPM 2.0 that tests and rigs use in place of a
// car's: Debian's swtpm, over a socket of its own.
//
// It promises a TPM that is started and empty, or has a car's storage key, and is gone
// with the caller's context.
package swtpm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

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
	return t, filepath.Join(dir, socketName), stop, err
}

// socketName is the TPM's socket in its directory.
const socketName = "tpm"

// Start starts one with its state and its sockets in a directory, whose path has to be
// short: it names Unix sockets. It ends with ctx; call wait after that.
func Start(ctx context.Context, dir string) (t transport.TPM, wait func(), err error) {
	socket := filepath.Join(dir, socketName)
	cmd := exec.CommandContext(ctx, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket,
		"--ctrl", "type=unixio,path="+filepath.Join(dir, "ctrl"), "--flags", "not-need-init,startup-clear")
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
			return t, wait, nil
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
