package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"bollard/admin"
)

// passphraseEnv holds the passphrase of key files.
const passphraseEnv = "BOLLARD_KEY_PASSPHRASE"

// passphraseCredential is the passphrase as a credential of systemd's (LoadCredential=,
// SetCredentialEncrypted=), which puts it into a file in $CREDENTIALS_DIRECTORY.
const passphraseCredential = "bollard-key-passphrase"

// passphraseFlag says that the passphrase is given on standard input.
const passphraseFlag = "passphrase-stdin"

type passphraseKey struct{}

// withPassphrase reads the passphrase of key files from standard input, once for the
// process, for all that opens key files with the context.
func (c *cli) withPassphrase(ctx context.Context) (context.Context, error) {
	if f, ok := c.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) { //nolint:gosec // a file descriptor
		return ctx, admin.Usagef("pipe it in, such as `systemd-ask-password | bollard … --"+passphraseFlag+"`", "--%s: standard input is a terminal, which would show it", passphraseFlag)
	}
	line, err := secretLine(c.stdin)
	if err != nil {
		return ctx, admin.Usagef("standard input has the passphrase alone, in one line, at each start; where nobody gives it anew, name a file with keys.passphrase_file or use the systemd credential "+passphraseCredential,
			"--%s: %w", passphraseFlag, err)
	}
	c.stdin = spent{}
	return context.WithValue(ctx, passphraseKey{}, line), nil
}

// spent is standard input that was read for the passphrase.
type spent struct{}

func (spent) Read([]byte) (int, error) {
	return 0, fmt.Errorf("standard input gave the passphrase of key files (--%s) and nothing else", passphraseFlag)
}

// keyPassphrase is where the passphrase of key files comes from; nil if key
// files aren't encrypted.
func keyPassphrase(ctx context.Context, dir, file string) func() ([]byte, error) {
	if line, ok := ctx.Value(passphraseKey{}).([]byte); ok {
		return func() ([]byte, error) { return line, nil }
	}
	if value, ok := os.LookupEnv(passphraseEnv); ok && value != "" {
		return func() ([]byte, error) { return []byte(value), nil }
	}
	if file != "" {
		return func() ([]byte, error) { return secretFile(within(dir, file)) }
	}
	credentials := os.Getenv("CREDENTIALS_DIRECTORY")
	if credentials == "" {
		return nil
	}
	credential := filepath.Join(credentials, passphraseCredential)
	if _, err := os.Stat(credential); errors.Is(err, fs.ErrNotExist) {
		return nil // a service with other credentials
	}
	return func() ([]byte, error) {
		// Its rights are systemd's matter: an access list for the service's user shows as
		// a group that may read.
		f, err := os.Open(credential)
		if err != nil {
			return nil, fmt.Errorf("couldn't read the credential: %w", err)
		}
		defer f.Close()
		return secretLine(f)
	}
}
