// Package keys is the one door to private keys: a URI and a role give a
// crypto.Signer.
//
// It promises that a key is used for its role only, that key files are 0600
// and encrypted when a passphrase is given, that no key leaves the package, and
// that a hardware security module, TPM, Vault or cloud which is gone, sealed or hangs delays
// nobody longer than its timeout and is taken up again when it is back.
package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cloudflare/circl/sign/ed448"
)

// Role is what a key may be used for. A signer opened for one role is refused
// by services of another.
type Role string

// The roles of keys.
const (
	RoleCA       Role = "ca"
	RoleTLS      Role = "tls"
	RoleOCSP     Role = "ocsp"
	RoleFirmware Role = "firmware"
	RoleLedger   Role = "ledger"
	RoleSSH      Role = "ssh"     // host keys
	RoleCPS      Role = "cps"     // signs what is installed in cars (ISO 15118)
	RoleAccount  Role = "account" // of a client of ACME
)

func (r Role) valid() bool {
	switch r {
	case RoleCA, RoleTLS, RoleOCSP, RoleFirmware, RoleLedger, RoleSSH, RoleCPS, RoleAccount:
		return true
	}
	return false
}

func roles() []Role { return []Role{RoleCA, RoleOCSP, RoleFirmware, RoleLedger, RoleCPS} }

// Algorithm of a key to create.
type Algorithm string

// The algorithms of created keys.
const (
	P256    Algorithm = "p256"
	P384    Algorithm = "p384"
	P521    Algorithm = "p521"
	RSA2048 Algorithm = "rsa2048"
	RSA3072 Algorithm = "rsa3072"
	Ed25519 Algorithm = "ed25519" // in files only; for signed notes
	Ed448   Algorithm = "ed448"   // in files only; for ISO 15118-20
)

// held: there are keys like that outside files.
func (a Algorithm) held() bool {
	switch a {
	case P256, P384, P521, RSA2048, RSA3072:
		return true
	}
	return false
}

// Errors callers branch on.
var (
	ErrExists     = errors.New("the key exists already and is never overwritten")
	ErrNotFound   = errors.New("no such key")
	ErrRole       = errors.New("the key was made for another role")
	ErrPassphrase = errors.New("the passphrase is wrong or the key file is damaged")
	ErrEncrypted  = errors.New("the key is encrypted and no passphrase was given")
	// ErrUnavailable is worth trying again: the hardware security module, TPM, Vault
	// or cloud didn't answer in time, is sealed, has too much to do, or is gone. Nothing
	// was signed.
	ErrUnavailable = errors.New("what holds the key is unavailable")
	// ErrPIN is not: a token locks itself after a few wrong PINs.
	ErrPIN = errors.New("the PIN is wrong, missing or locked")
	// ErrLogin says that Vault or a cloud refused the credentials; it is shown the same
	// ones again after a while only.
	ErrLogin = errors.New("the login was refused")
	// ErrDenied is the word of what holds the key: this login may not use it.
	ErrDenied = errors.New("what holds the key refuses this use of it")
	// ErrUnfit says that the key can't be used as asked, or never.
	ErrUnfit = errors.New("the key isn't fit for this")
)

// unavailable is ErrUnavailable with the name of what it is.
type unavailable string

func (u unavailable) Error() string        { return string(u) + " is unavailable" }
func (u unavailable) Is(target error) bool { return target == ErrUnavailable }

// Config of a Keeper.
type Config struct {
	Dir        string                 // softkms: paths are relative to it; what a TPM keeps outside itself is in it
	Passphrase func() ([]byte, error) // nil: keys are not encrypted; called when one is opened or made
	// PIN is asked for the PIN of a token or TPM whose URI has no pin-source; may be nil.
	PIN func() ([]byte, error)
	// HSMTimeout bounds each use of a hardware security module, TPM, Vault or cloud, for
	// making a key from its turn on; 0: 10 s.
	HSMTimeout time.Duration
	Log        *slog.Logger // nil: discarded
}

// Keeper opens and creates keys. It is safe for concurrent use.
type Keeper struct {
	cfg Config
	hsm *modules
}

// New returns a Keeper for one key directory. The directory is made when the
// first key is.
//
// Make no key in a token while another Keeper of the process uses the token.
// A Keeper lets nobody else use a module that makes a key, but knows only its
// own calls, and SoftHSM fails with CKR_TEMPLATE_INCONSISTENT when one thread
// looks through a token while another adds to it (softhsm/SoftHSMv2#573).
func New(cfg Config) (*Keeper, error) {
	if cfg.Dir == "" {
		return nil, errors.New("couldn't open the key store: no directory given")
	}
	if cfg.HSMTimeout == 0 {
		cfg.HSMTimeout = hsmTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	dial := func(at place, secret []byte) (hsm, error) { return at.dial(secret, cfg) }
	return &Keeper{cfg: cfg, hsm: &modules{timeout: cfg.HSMTimeout, open: map[string]*module{}, dial: dial, log: cfg.Log}}, nil
}

// Close logs out of every token. Signers must not be used afterwards. It waits
// for calls under way, but no longer than the timeout: a driver that hangs
// can't be interrupted.
func (k *Keeper) Close() error { return k.hsm.close() }

// Create makes a new key at the URI, such as softkms:csms-root.key. It never
// overwrites: ErrExists. The key is on disk, or in the token, whole, before
// Create returns.
func (k *Keeper) Create(ctx context.Context, uri string, role Role, alg Algorithm) (Signer, error) {
	if Held(uri) {
		return k.createHeld(ctx, uri, role, alg)
	}
	at, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	if !role.valid() {
		return nil, fmt.Errorf("couldn't create key %s: unknown role %q", uri, role)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	private, err := generate(alg)
	if err != nil {
		return nil, fmt.Errorf("couldn't create key %s: %w", uri, err)
	}
	if err := k.write(at, role, private); err != nil {
		return nil, fmt.Errorf("couldn't create key %s: %w", uri, err)
	}
	return newSigner(private, role, uri), nil
}

// Open opens an existing key and checks that it was created for the role.
func (k *Keeper) Open(ctx context.Context, uri string, role Role) (Signer, error) {
	if Held(uri) {
		return k.openHeld(ctx, uri, role)
	}
	at, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	private, made, err := k.read(at, decode)
	if err != nil {
		return nil, fmt.Errorf("couldn't open key %s: %w", uri, err)
	}
	if made != role {
		return nil, fmt.Errorf("couldn't open key %s for %q: %w (%q)", uri, role, ErrRole, made)
	}
	return newSigner(private, role, uri), nil
}

// OpenFile opens a PEM file that another program may have made, such as openssl:
// PKCS#8, SEC 1 or PKCS#1, for a role it is then the caller's word that it has.
// A key that carries a role is opened for that one only.
func (k *Keeper) OpenFile(ctx context.Context, path string, role Role) (Signer, error) {
	at, err := filepath.Abs(path)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && !role.valid() {
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't open key %s: %w", path, err)
	}
	private, made, err := k.read(location{path: at, absolute: true}, decodeForeign)
	if err != nil {
		return nil, fmt.Errorf("couldn't open key %s: %w", path, err)
	}
	if made != "" && made != role {
		return nil, fmt.Errorf("couldn't open key %s for %q: %w (%q)", path, role, ErrRole, made)
	}
	return newSigner(private, role, SchemeSoft+":"+at), nil
}

// Discard deletes a TLS key whose certificate is no longer served. Keys of any
// other role are never deleted: what they signed must stay provable.
func (k *Keeper) Discard(ctx context.Context, uri string) error {
	if Held(uri) {
		return fmt.Errorf("couldn't delete key %s: keys in a token are deleted with its own tools only", uri)
	}
	if _, err := k.Open(ctx, uri, RoleTLS); err != nil {
		return err
	}
	at, err := parseURI(uri)
	if err != nil {
		return err
	}
	if err := k.remove(at); err != nil {
		return fmt.Errorf("couldn't delete key %s: %w", uri, err)
	}
	return nil
}

func generate(alg Algorithm) (crypto.Signer, error) {
	switch alg {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case P521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case Ed448:
		_, key, err := ed448.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("unknown algorithm %q (known: p256, p384, p521, rsa2048, rsa3072, ed25519, ed448)", alg)
}
