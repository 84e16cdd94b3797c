package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"bollard/admin"
)

// Files of a data directory.
const (
	configName   = "bollard.yaml"
	databaseName = "bollard.db"
	keysName     = "keys"
	serverName   = "server" // server certificates of the own CA
	lockName     = "lock"
	sealName     = "seal.key" // encrypts secrets in the database
)

// errLocked says that another process works on the data directory.
var errLocked = errors.New("the data directory is in use")

// dirLock is the right to write to a data directory. The kernel takes it back
// when the process ends, however it ends.
type dirLock struct{ file *os.File }

// tryLock takes the lock or returns errLocked at once.
func tryLock(dir string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the data directory's lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("couldn't lock the data directory: %w", err)
	}
	return &dirLock{f}, nil
}

// release gives the lock back: closing a file that was never written can't fail
// in a way that matters.
func (l *dirLock) release() { _ = l.file.Close() }

// Another local command holds the lock for moments only; a server for good.
const (
	lockPatience = 10 * time.Second
	lockRetry    = 50 * time.Millisecond
)

// lockOrServer takes the lock, or returns a client if a server holds it. It
// waits for a server that is starting or stopping and for other commands.
func lockOrServer(ctx context.Context, dir string) (*dirLock, *admin.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	client := admin.NewClient(dir)
	for {
		lock, err := tryLock(dir)
		if err == nil || !errors.Is(err, errLocked) {
			return lock, nil, err
		}
		if client.Reachable(ctx) {
			return nil, client, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, admin.Failedf("a command that takes long or a server that is starting may hold it; `fuser "+filepath.Join(dir, lockName)+"` names the process",
				"couldn't work in %s: %w", dir, errLocked)
		case <-time.After(lockRetry):
		}
	}
}

// lockForServer takes the lock for serve: two servers are refused at once,
// a local command is waited for.
func lockForServer(ctx context.Context, dir string) (*dirLock, error) {
	lock, client, err := lockOrServer(ctx, dir)
	if err != nil {
		return nil, err
	}
	if client != nil {
		return nil, admin.Refusedf("stop it first, or give another --data", "a server is running in %s already", dir)
	}
	return lock, nil
}
