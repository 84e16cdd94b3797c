package backup

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf8"

	"filippo.io/age"

	"bollard/internal/failpoint"
)

// CreateConfig says what to back up.
type CreateConfig struct {
	Dir          string   // the data directory
	Database     string   // its database's name in Dir
	Arrivals     []string // folders in Dir where what ends in .part is on its way in
	Snapshot     string   // path of the consistent copy that is taken instead
	To           string   // path of the new file
	Passphrase   []byte
	WorkFactor   int // log2 of scrypt's cost; 0: age's default, about a second
	Manifest     Manifest
	beforeReread func() // for tests
}

// Create writes the file and reads it back. It stands under its name whole, on
// disk and proven readable, or not at all. ErrExists, ErrShort.
func Create(ctx context.Context, cfg CreateConfig) (Manifest, error) {
	if utf8.RuneCount(cfg.Passphrase) < MinPassphrase {
		return Manifest{}, ErrShort
	}
	if _, err := os.Lstat(cfg.To); err == nil {
		return Manifest{}, fmt.Errorf("couldn't write %s: %w", cfg.To, ErrExists)
	}
	draft := cfg.To + ".new-" + rand.Text()
	f, err := os.OpenFile(draft, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		var at *fs.PathError
		if errors.As(err, &at) { // the draft's name is nobody's
			err = at.Err
		}
		return Manifest{}, fmt.Errorf("couldn't write %s: %w", cfg.To, err)
	}
	m, err := cfg.fill(ctx, f)
	if err = errors.Join(err, f.Close()); err == nil {
		failpoint.Hit("backup.written")
		err = putInPlace(draft, cfg.To)
	}
	if gone := os.Remove(draft); err == nil && !errors.Is(gone, fs.ErrNotExist) {
		err = gone
	}
	if err == nil {
		err = syncDir(filepath.Dir(cfg.To))
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("couldn't write %s: %w", cfg.To, err)
	}
	return m, nil
}

func (cfg CreateConfig) fill(ctx context.Context, f *os.File) (Manifest, error) {
	recipient, err := age.NewScryptRecipient(string(cfg.Passphrase))
	if err != nil {
		return Manifest{}, err
	}
	if cfg.WorkFactor != 0 {
		recipient.SetWorkFactor(cfg.WorkFactor)
	}
	sealed, err := age.Encrypt(f, recipient)
	if err != nil {
		return Manifest{}, err
	}
	m, err := cfg.archive(ctx, sealed)
	if err = errors.Join(err, sealed.Close()); err != nil {
		return Manifest{}, err
	}
	if err := f.Sync(); err != nil {
		return Manifest{}, err
	}
	if cfg.beforeReread != nil {
		cfg.beforeReread()
	}
	// A backup nobody can read is found out now, not when it is needed.
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Manifest{}, err
	}
	if _, err := unpack(ctx, f, cfg.Passphrase, nil); err != nil {
		return Manifest{}, fmt.Errorf("what was written can't be read back: %w", err)
	}
	return m, nil
}

// archive writes the files, then the manifest of exactly what was written.
func (cfg CreateConfig) archive(ctx context.Context, w io.Writer) (Manifest, error) {
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return Manifest{}, err
	}
	defer root.Close()
	m := cfg.Manifest
	m.Format = Format
	out := tar.NewWriter(w)
	snapshot, err := os.Open(cfg.Snapshot)
	if err != nil {
		return Manifest{}, err
	}
	err = m.add(out, cfg.Database, snapshot)
	if err = errors.Join(err, snapshot.Close()); err != nil {
		return Manifest{}, err
	}
	err = fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			return nil // a running server renews and removes TLS keys
		case err != nil:
			return err
		case entry.IsDir() || cfg.skipped(path, entry.Type()):
			return nil
		case !entry.Type().IsRegular():
			m.Missing = append(m.Missing, fmt.Sprintf("%s, which is no regular file", path))
			return nil
		}
		f, err := root.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return errors.Join(m.add(out, path, f), f.Close())
	})
	if err != nil {
		return Manifest{}, err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return Manifest{}, err
	}
	if err := out.WriteHeader(header(manifestName, int64(len(text)))); err != nil {
		return Manifest{}, err
	}
	if _, err := out.Write(text); err != nil {
		return Manifest{}, err
	}
	return m, out.Close()
}

// add writes one file as long as it was when it was opened.
func (m *Manifest) add(out *tar.Writer, path string, f fs.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := out.WriteHeader(header(path, info.Size())); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(out, sum), f, info.Size()); err != nil {
		return fmt.Errorf("couldn't read %s: %w", path, err)
	}
	m.Files = append(m.Files, File{Path: path, Size: info.Size(), SHA256: hex.EncodeToString(sum.Sum(nil))})
	return nil
}

func header(path string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: path, Size: size, Mode: 0o600, Format: tar.FormatPAX}
}

// putInPlace gives a file its name unless that is taken.
func putInPlace(draft, name string) error {
	err := os.Link(draft, name)
	if err == nil || errors.Is(err, fs.ErrExist) {
		if err != nil {
			err = ErrExists
		}
		return err
	}
	// A file system without hard links, such as that of a USB stick.
	if _, err := os.Lstat(name); err == nil {
		return ErrExists
	}
	return os.Rename(draft, name)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
