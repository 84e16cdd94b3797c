package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/mattn/go-sqlite3"
)

// explain turns the driver's errors that an operator can do something about
// into words that say what. Others, and those of closures, stay as they are.
func explain(path string, err error) error {
	if err == nil {
		return nil
	}
	var e sqlite3.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Code == sqlite3.ErrFull, e.SystemErrno == syscall.ENOSPC, e.SystemErrno == syscall.EDQUOT:
		return fmt.Errorf("%w: free space in %s; traffic goes on, issuing stops: %w", ErrFull, filepath.Dir(path), err)
	case e.Code == sqlite3.ErrCorrupt, e.Code == sqlite3.ErrNotADB:
		return corrupt(path, err)
	case e.Code == sqlite3.ErrIoErr:
		return fmt.Errorf("couldn't read or write database %s: check the disk: %w", path, err)
	case e.Code == sqlite3.ErrReadonly, e.Code == sqlite3.ErrCantOpen:
		return fmt.Errorf("couldn't write database %s: check that this user may write it and its directory: %w", path, err)
	case e.Code == sqlite3.ErrBusy, e.Code == sqlite3.ErrLocked:
		return fmt.Errorf("database %s is in use by another process: stop it first: %w", path, err)
	}
	return err
}
