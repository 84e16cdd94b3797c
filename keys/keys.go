// Package keys is the one door to private keys: a URI and a role give a
// crypto.Signer.
//
// It promises that a key is used for its role only, that key files are 0600
// and encrypted when a passphrase is given, and that no key leaves the package.
package keys

import (
	"context"
	"crypto"
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
)

// Algorithm of a key to create.
type Algorithm string

// The algorithms of created keys.
const (
	P256    Algorithm = "p256"
	P384    Algorithm = "p384"
	P521    Algorithm = "p521"
	RSA2048 Algorithm = "rsa2048"
	RSA3072 Algorithm = "rsa3072"
)

// Signer is a private key bound to its role.
type Signer interface {
	crypto.Signer
	Role() Role
	URI() string
}

// Config of a Keeper.
type Config struct {
	Dir        string                 // softkms: paths are relative to it
	Passphrase func() ([]byte, error) // nil: keys are not encrypted; called when one is opened or made
}

// Keeper opens and creates keys.
type Keeper struct{ cfg Config }

// New returns a Keeper for one key directory.
func New(cfg Config) (*Keeper, error) { panic("internal error: contract only") }

// Create makes a new key at the URI, such as softkms:csms-root.key. It never
// overwrites.
func (k *Keeper) Create(ctx context.Context, uri string, role Role, alg Algorithm) (Signer, error) {
	panic("internal error: contract only")
}

// Open opens an existing key and checks that it was created for the role.
func (k *Keeper) Open(ctx context.Context, uri string, role Role) (Signer, error) {
	panic("internal error: contract only")
}
