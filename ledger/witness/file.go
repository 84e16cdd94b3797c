package witness

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"bollard/ledger"
)

// File keeps the newest checkpoint in a file, which should be on another
// machine's disk. One of an earlier epoch stays beside it.
type File struct{ path string }

// NewFile names the file; its directory must exist when a checkpoint comes.
func NewFile(path string) *File { return &File{path} }

// Name implements Place.
func (f *File) Name() string { return "file" }

// Newest is the checkpoint in the file; false if there is no file.
func (f *File) Newest() (ledger.Note, bool, error) {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return ledger.Note{}, false, nil
	}
	if err != nil {
		return ledger.Note{}, false, fmt.Errorf("couldn't read the checkpoint kept elsewhere: %w", err)
	}
	n, err := ledger.ParseNote(string(text))
	if err != nil {
		return ledger.Note{}, false, fmt.Errorf("%s holds something else than a checkpoint; name another file, or move it away: %w", f.path, err)
	}
	return n, true, nil
}

// Keep implements Place. The file has the old checkpoint or the new one, whole.
func (f *File) Keep(_ context.Context, n ledger.Note) (ledger.Note, error) {
	old, found, err := f.Newest()
	if err != nil {
		return n, err
	}
	if found && old.Origin != n.Origin {
		beside := f.path + ".before-" + filepath.Base(n.Origin)
		if _, err := os.Lstat(beside); err == nil {
			return n, fmt.Errorf("%s is of another ledger or epoch, and %s exists already: move one away", f.path, beside)
		}
		if err := os.Rename(f.path, beside); err != nil {
			return n, fmt.Errorf("couldn't keep the checkpoint of the epoch before: %w", err)
		}
		found = false
	}
	if found && (old.Size > n.Size || old.Size == n.Size && old.Root != n.Root) {
		return n, fmt.Errorf("%s has the checkpoint of %d entries: %w", f.path, old.Size, ErrSetBack)
	}
	return n, f.replace([]byte(n.Signed))
}

func (f *File) replace(text []byte) error {
	draft := f.path + ".new-" + rand.Text()
	file, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("couldn't write the checkpoint: %w", err)
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(draft, f.path)
	}
	if err != nil {
		return fmt.Errorf("couldn't write the checkpoint: %w", errors.Join(err, os.Remove(draft)))
	}
	return nil
}
