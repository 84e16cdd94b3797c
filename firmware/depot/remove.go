package depot

import (
	"errors"
	"fmt"
	"io/fs"
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
