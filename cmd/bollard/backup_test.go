package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bollard/backup"
)

// Backups made at once don't meet: each has a copy of its own, of a name one is made, and
// no copy stays.
func TestBackupsAtOnce(t *testing.T) {
	t.Parallel()
	r := startServer(t, newDataDir(t, ""))
	to := t.TempDir()
	secret := filepath.Join(to, "secret")
	if err := os.WriteFile(secret, []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	names := []string{"a", "b", "b"}
	made := make(chan error, len(names))
	for _, name := range names {
		go func() {
			c := &cli{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, data: r.dir, backupCost: 10}
			out, err := c.backup(t.Context(), filepath.Join(to, name), secret)
			if err == nil && out.Unsigned != "" {
				err = errors.New(out.Unsigned)
			}
			made <- err
		}()
	}
	taken := 0
	for range names {
		if err := <-made; errors.Is(err, backup.ErrExists) {
			taken++
		} else if err != nil {
			t.Error(err)
		}
	}
	if taken != 1 {
		t.Errorf("%d of two backups of a name were refused", taken)
	}
	left, err := filepath.Glob(filepath.Join(r.dir, backup.SnapshotPrefix+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("copies of the database are left: %v, %v", left, err)
	}
	if err := removeCopy(filepath.Join(r.dir, backup.SnapshotPrefix+"x")); err != nil {
		t.Errorf("a copy that another backup removed: %v", err)
	}
}
