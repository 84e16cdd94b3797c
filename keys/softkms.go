package keys

import (
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// PassphraseHint tells where a passphrase comes from; errors carry it.
const PassphraseHint = "set keys.passphrase_file in bollard.yaml, the environment variable BOLLARD_KEY_PASSPHRASE or the systemd credential bollard-key-passphrase, or give it with --passphrase-stdin"

// maxFile bounds what is read: an encrypted RSA 4096 key has about 3.5 KB.
const maxFile = 64 << 10

// directory keeps files of keys.
type directory string

// open returns the directory a location is in, as a root that no symbolic link
// leads out of, and the file's path below it.
func (d directory) open(at location, create bool) (*os.Root, string, error) {
	dir, name := string(d), at.path
	if at.absolute {
		dir, name = filepath.Dir(at.path), filepath.Base(at.path)
	}
	if create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, "", err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, "", err
	}
	if sub := filepath.Dir(name); create && sub != "." {
		if err := root.MkdirAll(sub, 0o700); err != nil {
			_ = root.Close()
			return nil, "", err
		}
	}
	return root, name, nil
}

// passphrase returns the configured one; an empty one counts as none.
func (k *Keeper) passphrase() ([]byte, error) {
	if k.cfg.Passphrase == nil {
		return nil, nil
	}
	secret, err := k.cfg.Passphrase()
	if err != nil {
		return nil, fmt.Errorf("couldn't read the key passphrase (%s): %w", PassphraseHint, err)
	}
	return secret, nil
}

func (k *Keeper) write(at location, role Role, private crypto.Signer) error {
	secret, err := k.passphrase()
	if err != nil {
		return err
	}
	if k.cfg.Passphrase != nil && len(secret) == 0 {
		return fmt.Errorf("the key passphrase is empty; %s", PassphraseHint)
	}
	file, err := encode(private, role, secret)
	if err != nil {
		return err
	}
	return directory(k.cfg.Dir).put(at, file)
}

// put puts a key file in place, whole or not at all. ErrExists.
func (d directory) put(at location, file []byte) error {
	root, name, err := d.open(at, true)
	if err != nil {
		return err
	}
	defer root.Close()
	// Early, so that a clash costs nothing; Link below is what decides.
	if _, err := root.Lstat(name); err == nil {
		return ErrExists
	}
	// 1. The whole file under a name of its own, on disk.
	draft := name + ".new-" + rand.Text()
	if err := writeSync(root, draft, file); err != nil {
		_ = root.Remove(draft)
		return err
	}
	// 2. Its real name: a hard link fails if the name is taken.
	err = root.Link(draft, name)
	if gone := root.Remove(draft); err == nil {
		err = gone
	}
	if errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	if err != nil {
		return err
	}
	// 3. The name, on disk: only then may anything be signed with the key.
	return syncDir(root, filepath.Dir(name))
}

func writeSync(root *os.Root, name string, data []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// get reads a file only its owner can read. ErrNotFound.
func (d directory) get(at location) ([]byte, error) {
	root, name, err := d.open(at, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", f.Name())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("others may read the key file (mode %04o); run: chmod 600 %s", mode, filepath.Join(root.Name(), name))
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// read returns the key in a file.
func (k *Keeper) read(at location, decode func(file []byte, passphrase func() ([]byte, error)) (crypto.Signer, Role, error)) (crypto.Signer, Role, error) {
	data, err := directory(k.cfg.Dir).get(at)
	if err != nil {
		return nil, "", err
	}
	return decode(data, func() ([]byte, error) {
		secret, err := k.passphrase()
		if err == nil && len(secret) == 0 {
			err = fmt.Errorf("%w; %s", ErrEncrypted, PassphraseHint)
		}
		return secret, err
	})
}

func (k *Keeper) remove(at location) error {
	root, name, err := directory(k.cfg.Dir).open(at, false)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(name); err != nil {
		return err
	}
	return syncDir(root, filepath.Dir(name))
}
