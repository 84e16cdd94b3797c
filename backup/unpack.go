package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"filippo.io/age"
)

const (
	// maxWorkFactor bounds the work a hostile file can ask for: 2^20, about
	// four times that of Create.
	maxWorkFactor = 20
	// maxManifest bounds the manifest: about half a million files.
	maxManifest = 64 << 20
)

// Unpack decrypts a file into a directory that exists and is empty, checks
// every byte against the manifest and has it on disk before it returns. After
// an error the directory holds anything. ErrPassphrase, ErrDamaged.
func Unpack(ctx context.Context, path string, passphrase []byte, dir string) (Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return Manifest{}, fmt.Errorf("couldn't read the backup: %w", err)
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Manifest{}, err
	}
	defer root.Close()
	m, err := unpack(ctx, f, passphrase, root)
	if err != nil {
		return Manifest{}, fmt.Errorf("couldn't unpack %s: %w", path, err)
	}
	return m, nil
}

// unpack reads a whole archive; without a root it only checks it.
func unpack(ctx context.Context, r io.Reader, passphrase []byte, root *os.Root) (Manifest, error) {
	if len(passphrase) == 0 {
		return Manifest{}, ErrPassphrase
	}
	identity, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return Manifest{}, err
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	plain, err := age.Decrypt(r, identity)
	if err != nil {
		return Manifest{}, ErrPassphrase // what exactly doesn't fit is nobody's help
	}
	var (
		m     Manifest
		found []File
		dirs  = map[string]bool{".": true}
		whole bool
	)
	in := tar.NewReader(plain)
	for {
		if err := ctx.Err(); err != nil {
			return Manifest{}, err
		}
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Manifest{}, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if whole || h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) || filepath.Clean(h.Name) != h.Name {
			return Manifest{}, fmt.Errorf("%w: entry %.64q doesn't belong there", ErrDamaged, h.Name)
		}
		if h.Name == manifestName {
			if m, err = readManifest(in); err != nil {
				return Manifest{}, err
			}
			whole = true
			continue
		}
		file, err := unpackFile(in, h, root, dirs)
		if err != nil {
			return Manifest{}, err
		}
		found = append(found, file)
	}
	// The last chunk carries the proof that nothing was cut off.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if !whole || !slices.Equal(found, m.Files) {
		return Manifest{}, fmt.Errorf("%w: its files aren't those of its manifest", ErrDamaged)
	}
	if root == nil {
		return m, nil
	}
	return m, syncDirs(root, dirs)
}

func readManifest(in io.Reader) (Manifest, error) {
	var m Manifest
	text, err := io.ReadAll(io.LimitReader(in, maxManifest))
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("%w: its manifest can't be read", ErrDamaged)
	}
	if m.Format != Format {
		return m, fmt.Errorf("the backup has format %d, this bollard knows %d: use the bollard version %s that made it", m.Format, Format, m.Version)
	}
	return m, nil
}

func unpackFile(in io.Reader, h *tar.Header, root *os.Root, dirs map[string]bool) (File, error) {
	sum := sha256.New()
	to := io.Writer(sum)
	var f *os.File
	var unwritten error // a full disk is no fault of the backup's
	if root != nil {
		dir := filepath.Dir(h.Name)
		if err := root.MkdirAll(dir, 0o700); err != nil {
			return File{}, err
		}
		for ; !dirs[dir]; dir = filepath.Dir(dir) {
			dirs[dir] = true
		}
		var err error
		if f, err = root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return File{}, err
		}
		to = io.MultiWriter(sum, writer(func(b []byte) (n int, err error) {
			n, unwritten = f.Write(b)
			return n, unwritten
		}))
	}
	n, err := io.Copy(to, in)
	if f != nil {
		if unwritten = errors.Join(unwritten, f.Sync(), f.Close()); unwritten != nil {
			return File{}, fmt.Errorf("couldn't write what is in it: %w", unwritten)
		}
	}
	if err != nil {
		return File{}, fmt.Errorf("%w: %s: %w", ErrDamaged, h.Name, err)
	}
	return File{Path: h.Name, Size: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// writer is a function that is one.
type writer func(b []byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func syncDirs(root *os.Root, dirs map[string]bool) error {
	for dir := range dirs {
		d, err := root.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}
