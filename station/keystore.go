package station

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// KeyType is the kind of key a station makes.
type KeyType string

// The kinds of keys. RSA1024 is one no CA should take (A00.FR.501).
const (
	P256    KeyType = "p256"
	P384    KeyType = "p384"
	P521    KeyType = "p521"
	RSA2048 KeyType = "rsa2048"
	RSA1024 KeyType = "rsa1024"
)

// NewKey makes a key of the given kind.
func NewKey(kind KeyType) (crypto.Signer, error) {
	switch kind {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case P521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA1024:
		return rsa.GenerateKey(rand.Reader, 1024)
	}
	return nil, fmt.Errorf("key type %q is none of p256, p384, p521, rsa2048, rsa1024", kind)
}

// keyStore holds the credential in use and, until it has been seen to connect,
// the one that will replace it (A02.FR.28: the old one is the way back). Keys
// never leave it but for TLS and CSR signatures (A02.FR.05).
type keyStore struct {
	dir string // "": memory only

	mu      sync.Mutex
	current *tls.Certificate // has connected, or came from the factory
	next    *tls.Certificate // accepted, not tried yet
}

const (
	currentFile = "current.pem"
	nextFile    = "next.pem"
)

func openKeyStore(dir string) (*keyStore, error) {
	k := &keyStore{dir: dir}
	if dir == "" {
		return k, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make the key store: %w", err)
	}
	for name, into := range map[string]**tls.Certificate{currentFile: &k.current, nextFile: &k.next} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("couldn't read the key store: %w", err)
		}
		cert, err := tls.X509KeyPair(data, data)
		if err != nil {
			return nil, fmt.Errorf("couldn't read %s of the key store: %w", name, err)
		}
		*into = &cert
	}
	return k, nil
}

// adopt makes cert the credential in use unless the store has one.
func (k *keyStore) adopt(cert tls.Certificate) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != nil {
		return nil
	}
	if err := complete(&cert); err != nil {
		return err
	}
	if err := k.write(currentFile, &cert); err != nil {
		return err
	}
	k.current = &cert
	return nil
}

// accept keeps a new credential beside the one in use.
func (k *keyStore) accept(cert tls.Certificate) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := complete(&cert); err != nil {
		return err
	}
	if err := k.write(nextFile, &cert); err != nil {
		return err
	}
	k.next = &cert
	return nil
}

// candidates are the credentials to try, the newest first.
func (k *keyStore) candidates() []tls.Certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []tls.Certificate
	for _, c := range []*tls.Certificate{k.next, k.current} {
		if c != nil {
			out = append(out, *c)
		}
	}
	return out
}

// proved records that a credential has connected: what was waiting becomes the
// one in use and the other is discarded (A02.FR.10 as of errata 2025-01).
// discarded tells that it was the new one that had to go (A02.FR.29).
func (k *keyStore) proved(leaf *x509.Certificate) (discarded bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.next == nil {
		return false, nil
	}
	if !k.next.Leaf.Equal(leaf) {
		k.next = nil
		return true, k.remove(nextFile)
	}
	if err := k.write(currentFile, k.next); err != nil {
		return false, err
	}
	k.current, k.next = k.next, nil
	return false, k.remove(nextFile)
}

// newest returns the serial of the newest credential, or "".
func (k *keyStore) newest() string {
	for _, c := range k.candidates() {
		return serialHex(c.Leaf)
	}
	return ""
}

// write replaces a file of the store in one step, key and chain together.
func (k *keyStore) write(name string, cert *tls.Certificate) error {
	if k.dir == "" {
		return nil
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return fmt.Errorf("couldn't encode the station's key: %w", err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, der := range cert.Certificate {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	path := filepath.Join(k.dir, name)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("couldn't write the key store: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("couldn't write the key store: %w", err)
	}
	return nil
}

func (k *keyStore) remove(name string) error {
	if k.dir == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(k.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("couldn't clean the key store: %w", err)
	}
	return nil
}

// complete parses the leaf if that was not done yet.
func complete(cert *tls.Certificate) error {
	if cert.Leaf != nil {
		return nil
	}
	if len(cert.Certificate) == 0 {
		return errors.New("the client certificate is empty")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return fmt.Errorf("couldn't read the client certificate: %w", err)
	}
	cert.Leaf = leaf
	return nil
}

// serialHex is a certificate's serial number in lower-case hex.
func serialHex(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }
