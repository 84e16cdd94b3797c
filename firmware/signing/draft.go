package signing

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// draft is a bundle that isn't there yet: a directory beside its place.
type draft struct {
	place, path string
	root        *os.Root
	err         error // the first of writing
}

func newDraft(place string) (*draft, error) {
	place = filepath.Clean(place)
	if _, err := os.Lstat(place); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("%s is there already, and a release is never overwritten", place), err)
	}
	d := &draft{place: place, path: filepath.Join(filepath.Dir(place), "."+filepath.Base(place)+".new-"+rand.Text())}
	if err := os.Mkdir(d.path, 0o755); err != nil {
		return nil, fmt.Errorf("couldn't make the bundle: %w", err)
	}
	var err error
	if d.root, err = os.OpenRoot(d.path); err != nil {
		return nil, errors.Join(fmt.Errorf("couldn't make the bundle: %w", err), os.RemoveAll(d.path))
	}
	return d, nil
}

// write puts a file into the draft, on disk. After a failure it does nothing.
func (d *draft) write(name string, data []byte) {
	if d.err != nil {
		return
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, err = f.Write(data)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		d.err = fmt.Errorf("couldn't write %s of the bundle: %w", name, err)
	}
}

// publish gives the bundle its name.
func (d *draft) publish() error {
	err := syncDir(d.path)
	if err == nil {
		// Rename replaces an empty directory that was made meanwhile, and fails over
		// anything else.
		err = os.Rename(d.path, d.place)
	}
	if err == nil {
		err = syncDir(filepath.Dir(d.place))
	}
	if err != nil {
		return fmt.Errorf("couldn't put the bundle in place: %w", err)
	}
	return nil
}

// drop removes what wasn't published.
func (d *draft) drop() {
	_ = d.root.Close()
	_ = os.RemoveAll(d.path) // after publish there is nothing
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
