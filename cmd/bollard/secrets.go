package main

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"bollard/admin"
	"bollard/fleet"
)

// pinEnv holds the PIN of a token, if its key URI has no pin-source.
const pinEnv = "BOLLARD_HSM_PIN"

func hsmPIN() func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(os.Getenv(pinEnv)), nil }
}

// maxSecret bounds one secret line.
const maxSecret = 4096

// within resolves a path of the configuration: relative ones start at the data directory.
func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// secretFile reads a one-line secret from a file only its owner can read.
func secretFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, unreadable(path, err)
	}
	if info.IsDir() {
		return nil, admin.Usagef("give a file with the secret in one line, mode 0600", "%s is a directory", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, admin.Refusedf("`chmod 600 "+shellWord(path)+"`", "%s holds a secret but is open to other users (mode %04o)", path, info.Mode().Perm())
	}
	return secretLine(f)
}

// secretLine reads one line. What follows it is refused rather than ignored:
// a secret cut short is found out much too late.
func secretLine(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(bufio.NewReader(io.LimitReader(r, maxSecret+1)))
	if err != nil {
		return nil, fmt.Errorf("couldn't read the secret: %w", err)
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	switch {
	case len(data) > maxSecret:
		return nil, admin.Usagef("", "the secret is longer than %d bytes", maxSecret)
	case len(rest) > 0:
		return nil, admin.Usagef("give the secret alone, in one line", "there is more than one line where the secret was expected")
	case len(line) == 0:
		return nil, admin.Usagef("give the secret in one line", "the secret is empty")
	}
	return line, nil
}

// stationPassword takes a password as an operator writes it: "hex:" introduces
// the bytes OCPP 1.6 stations may have (OCPP-J 1.6 §6.2.2).
func stationPassword(text []byte) ([]byte, error) {
	digits, isHex := bytes.CutPrefix(text, []byte("hex:"))
	if !isHex {
		return text, nil
	}
	raw := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(raw, digits); err != nil || len(raw) == 0 {
		return nil, errors.New("the password starts with hex: but is not hexadecimal") // never the text itself
	}
	return raw, nil
}

// sealer encrypts secrets that must be had again, such as upstream passwords,
// before they go to the database. Its key lies beside the database, so that a
// copy of the database alone tells nothing.
type sealer struct {
	aead cipher.AEAD
	key  []byte
}

const sealKeySize = 32 // AES-256

func createSealer(path string) error {
	key := make([]byte, sealKeySize)
	rand.Read(key) // never fails
	return writeNew(path, key)
}

func openSealer(path string) (*sealer, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, admin.Failedf("restore it from a backup; without it stored back-end passwords are lost", "the file %s is missing", path)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read the seal key: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the seal key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, admin.Refusedf("`chmod 600 "+path+"`, and set the back-end passwords anew if others had access", "%s is open to other users (mode %04o)", path, info.Mode().Perm())
	}
	if len(key) != sealKeySize {
		return nil, admin.Failedf("restore it from a backup", "%s is damaged: %d bytes instead of %d", path, len(key), sealKeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("couldn't use the seal key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("couldn't use the seal key: %w", err)
	}
	return &sealer{aead, key}, nil
}

// Seal encrypts a secret. The name is bound to it: a value moved to another
// station's row doesn't open.
func (s *sealer) Seal(name string, secret []byte) ([]byte, error) {
	return s.aead.Seal(nil, nil, secret, []byte(name)), nil
}

// Open is the reverse of Seal.
func (s *sealer) Open(name string, ciphertext []byte) ([]byte, error) {
	secret, err := s.aead.Open(nil, nil, ciphertext, []byte(name))
	if err != nil {
		return nil, fmt.Errorf("couldn't decrypt the secret %q: the seal key or the database was replaced", name)
	}
	return secret, nil
}

// verdictKey authenticates what is kept of certificates' signatures (ADR 38): whoever
// has the database alone can't say that one is good.
func (s *sealer) verdictKey() ([]byte, error) {
	key, err := hkdf.Key(sha256.New, s.key, nil, "bollard verdicts v1", fleet.VerdictKeySize)
	if err != nil {
		return nil, fmt.Errorf("couldn't derive the key of verdicts: %w", err)
	}
	return key, nil
}

// writeNew writes a 0600 file that must not exist, and has it on disk before
// it returns.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("couldn't create %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("couldn't write %s: %w", path, errors.Join(err, os.Remove(path)))
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a new name durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("couldn't sync %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("couldn't sync %s: %w", dir, err)
	}
	return nil
}
