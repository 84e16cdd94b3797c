package depot

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Remove deletes an image, also one that was set aside; one that isn't there is none.
// Who has it open reads it to its end.
func (d *Depot) Remove(digest string) error {
	if !digestForm.MatchString(digest) {
		return ErrUnknown
	}
	for _, name := range []string{digest, digest + rotten} {
		if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("couldn't remove an image: %w", err)
		}
	}
	return d.sync()
}

// Sweep removes the images, also those set aside, that aren't wanted.
func (d *Depot) Sweep(wanted func(digest string) bool) error {
	return d.each(func(f fs.FileInfo) error {
		digest := strings.TrimSuffix(f.Name(), rotten)
		if !digestForm.MatchString(digest) || wanted(digest) {
			return nil
		}
		return d.Remove(digest)
	})
}
