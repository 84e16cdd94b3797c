package keys

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// Bounds of secrets and their files.
const (
	maxPIN        = 1024
	maxCredential = 16 << 10 // tokens of Kubernetes have some KB
)

// readSecret reads a secret from a file that holds one line.
func readSecret(what, path string, most int, private bool) ([]byte, error) {
	data, err := readFile(what, path, most, private)
	if err != nil {
		return nil, err
	}
	line := bytes.TrimRight(data, "\r\n")
	if bytes.ContainsAny(line, "\r\n\x00") {
		return nil, fmt.Errorf("%s must hold the %s alone, in one line", path, what)
	}
	return line, nil
}

// readFile reads a file that only its owner can read; one that a platform puts there,
// with rights of its own, needn't be private.
func readFile(what, path string, most int, private bool) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the %s: %w", what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("couldn't read the %s: %w", what, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("couldn't read the %s: %s is not a regular file", what, path)
	case private && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("others may read the %s (mode %04o); run: chmod 600 %s", what, info.Mode().Perm(), path)
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, fmt.Errorf("couldn't read the %s: %w", what, err)
	}
	if len(data) > most {
		return nil, fmt.Errorf("%s is longer than a %s can be (%d bytes)", path, what, most)
	}
	return data, nil
}
