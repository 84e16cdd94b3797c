package subscriber

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"bollard/keys"
)

// A key and its certificate have one name, which begins with the algorithm; the
// newest that is good counts.
const (
	keyExt   = ".key"
	chainExt = ".pem"
	// accountKey is the file of the account's key.
	accountKey = "account" + keyExt
	// maxChain is far above any chain in use.
	maxChain = 64 << 10
)

func (s *Subscriber) uri(file string) string {
	return keys.SchemeSoft + ":" + filepath.Join(s.cfg.Dir, file)
}

// account is the client of the CA's account that goes with the own key; it is made if
// the CA doesn't know it.
func (s *Subscriber) account(ctx context.Context) (*acme.Client, error) {
	key, err := s.cfg.Keeper.Open(ctx, s.uri(accountKey), keys.RoleAccount)
	if errors.Is(err, keys.ErrNotFound) {
		key, err = s.cfg.Keeper.Create(ctx, s.uri(accountKey), keys.RoleAccount, keys.P256)
	}
	if err != nil {
		return nil, err
	}
	c := &acme.Client{Key: key, HTTPClient: s.cfg.Client, DirectoryURL: s.cfg.Directory, UserAgent: "bollard"}
	account := &acme.Account{}
	if s.cfg.Contact != "" {
		account.Contact = []string{s.cfg.Contact}
	}
	if b := s.cfg.Binding; b != nil {
		account.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: b.KeyID, Key: b.MAC}
	}
	// Its terms were agreed to by whoever wrote its directory into the configuration.
	if _, err := c.Register(ctx, account, acme.AcceptTOS); err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return nil, fmt.Errorf("the CA %s gives no account: %w", s.cfg.Directory, err)
	}
	return c, nil
}

// newKey makes the key of a further certificate.
func (s *Subscriber) newKey(ctx context.Context, algorithm keys.Algorithm) (name string, key crypto.Signer, err error) {
	name = string(algorithm) + "-" + strings.ToLower(rand.Text()[:12])
	key, err = s.cfg.Keeper.Create(ctx, s.uri(name+keyExt), keys.RoleTLS, algorithm)
	return name, key, err
}

// check judges what a CA gave, or what is on disk: a certificate for the key, the name
// and servers, that hasn't ended, and its CAs, each of which certified the one before.
func (s *Subscriber) check(chain [][]byte, key crypto.Signer) (*tls.Certificate, error) {
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		var err error
		if certs[i], err = x509.ParseCertificate(der); err != nil {
			return nil, err
		}
		if i > 0 {
			if err := certs[i-1].CheckSignatureFrom(certs[i]); err != nil {
				return nil, fmt.Errorf("the chain's certificate %d didn't certify the one before: %w", i+1, err)
			}
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("it is empty")
	}
	leaf := certs[0]
	same, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !same.Equal(leaf.PublicKey):
		return nil, errors.New("it is for another key")
	case leaf.IsCA:
		return nil, errors.New("it is a CA's")
	case !s.cfg.Clock().Before(leaf.NotAfter):
		return nil, fmt.Errorf("it ended on %s", leaf.NotAfter.UTC().Format("2006-01-02 15:04:05"))
	}
	if err := leaf.VerifyHostname(s.cfg.Name); err != nil {
		return nil, err
	}
	if !forServers(leaf) {
		return nil, errors.New("it isn't for servers (extended key usage serverAuth)")
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

func forServers(leaf *x509.Certificate) bool {
	for _, usage := range leaf.ExtKeyUsage {
		if usage == x509.ExtKeyUsageServerAuth || usage == x509.ExtKeyUsageAny {
			return true
		}
	}
	return len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0
}

// store writes a chain whole or not at all. Lost with the power, it is asked for again.
func (s *Subscriber) store(name string, c *tls.Certificate) error {
	var text bytes.Buffer
	for _, der := range c.Certificate {
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return err
		}
	}
	draft, err := os.CreateTemp(s.cfg.Dir, name+".new-*")
	if err != nil {
		return err
	}
	_, err = draft.Write(text.Bytes())
	if err == nil {
		err = draft.Sync()
	}
	err = errors.Join(err, draft.Close())
	if err == nil {
		err = os.Rename(draft.Name(), filepath.Join(s.cfg.Dir, name+chainExt))
	}
	if err != nil {
		return errors.Join(err, os.Remove(draft.Name()))
	}
	return nil
}

// load returns the certificate of cfg.Algorithm[i] that ends last; nil: none is good.
// What is damaged is told and passed over: another one is asked for.
func (s *Subscriber) load(ctx context.Context, i int) (newest *tls.Certificate, err error) {
	names, err := files(s.cfg.Dir, s.cfg.Algorithm[i], chainExt)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		have, err := s.read(ctx, name)
		if err != nil {
			s.cfg.Log.Warn("a certificate of an outside CA isn't used", "file", filepath.Join(s.cfg.Dir, name+chainExt), "err", err)
			continue
		}
		if newest == nil || have.Leaf.NotAfter.After(newest.Leaf.NotAfter) {
			newest = have
		}
	}
	return newest, nil
}

func (s *Subscriber) read(ctx context.Context, name string) (*tls.Certificate, error) {
	chain, err := readChain(filepath.Join(s.cfg.Dir, name+chainExt))
	if err != nil {
		return nil, err
	}
	key, err := s.cfg.Keeper.Open(ctx, s.uri(name+keyExt), keys.RoleTLS)
	if err != nil {
		return nil, err
	}
	return s.check(chain, key)
}

func readChain(path string) (chain [][]byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxChain {
		return nil, fmt.Errorf("it has %d bytes, %d are allowed", info.Size(), maxChain)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		chain = append(chain, block.Bytes)
	}
	return chain, nil
}

// Until is when the certificate of an algorithm ends that is shown from a Dir; zero:
// none is. It needs no key's passphrase.
func Until(dir string, algorithm keys.Algorithm) (last time.Time, err error) {
	names, err := files(dir, algorithm, chainExt)
	for _, name := range names {
		chain, err := readChain(filepath.Join(dir, name+chainExt))
		if _, gone := os.Stat(filepath.Join(dir, name+keyExt)); err != nil || gone != nil || len(chain) == 0 {
			continue // it isn't shown
		}
		if leaf, err := x509.ParseCertificate(chain[0]); err == nil && leaf.NotAfter.After(last) {
			last = leaf.NotAfter
		}
	}
	return last, err
}

// files are the names of an algorithm's files with an extension.
func files(dir string, algorithm keys.Algorithm, ext string) (list []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ext); ok && strings.HasPrefix(name, string(algorithm)+"-") {
			list = append(list, name)
		}
	}
	return list, err
}

// tidy removes what isn't shown any more, keys without a certificate included.
// Handshakes under way have theirs in memory.
func (s *Subscriber) tidy(ctx context.Context, algorithm keys.Algorithm, shown *tls.Certificate) {
	key, _ := shown.PrivateKey.(keys.Signer)
	names, err := files(s.cfg.Dir, algorithm, keyExt)
	chains, more := files(s.cfg.Dir, algorithm, chainExt)
	err = errors.Join(err, more)
	for _, name := range chains {
		if !slices.Contains(names, name) { // its key is gone
			err = errors.Join(err, os.Remove(filepath.Join(s.cfg.Dir, name+chainExt)))
		}
	}
	for _, name := range names {
		if key != nil && s.uri(name+keyExt) == key.URI() {
			continue
		}
		gone := os.Remove(filepath.Join(s.cfg.Dir, name+chainExt))
		if errors.Is(gone, fs.ErrNotExist) {
			gone = nil
		}
		err = errors.Join(err, gone, s.cfg.Keeper.Discard(ctx, s.uri(name+keyExt)))
	}
	if err != nil {
		s.cfg.Log.Warn("old keys of the server certificate of an outside CA aren't all deleted", "folder", s.cfg.Dir, "err", err)
	}
}
