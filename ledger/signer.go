package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Signer signs notes with an Ed25519 key that stays where it is.
type Signer struct {
	name string
	hash uint32
	sign func(message []byte) ([]byte, error)
}

var _ note.Signer = (*Signer)(nil)

// NewSigner makes a note's signer of a public key and what signs for it. Its
// VerifierKey is what others need.
func NewSigner(name string, public ed25519.PublicKey, sign func(message []byte) ([]byte, error)) (*Signer, error) {
	vkey, err := VerifierKey(name, public)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("couldn't name the ledger's key %q: %w", name, err)
	}
	return &Signer{name, v.KeyHash(), sign}, nil
}

// Name implements note.Signer.
func (s *Signer) Name() string { return s.name }

// KeyHash implements note.Signer.
func (s *Signer) KeyHash() uint32 { return s.hash }

// Sign implements note.Signer.
func (s *Signer) Sign(message []byte) ([]byte, error) { return s.sign(message) }

// VerifierKey is the form of a public key that note.NewVerifier reads.
func VerifierKey(name string, public ed25519.PublicKey) (string, error) {
	vkey, err := note.NewEd25519VerifierKey(name, public)
	if err != nil {
		return "", fmt.Errorf("couldn't write the ledger's public key: %w", err)
	}
	return vkey, nil
}

// publicKey is the key in a ledger's verifier key.
func publicKey(vkey string) (ed25519.PublicKey, error) {
	if _, err := note.NewVerifier(vkey); err != nil {
		return nil, fmt.Errorf("%q isn't a ledger's verifier key: %w", vkey, err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(vkey, "+", 3)[2])
	if err != nil {
		return nil, fmt.Errorf("%q isn't a ledger's verifier key: %w", vkey, err)
	}
	return raw[1:], nil
}

// algCosignature begins the verifier keys of witnesses (c2sp.org/tlog-cosignature, Ed25519).
const algCosignature = 0x04

// NewVerifier reads a verifier key: of a ledger, or of a witness.
func NewVerifier(vkey string) (note.Verifier, error) {
	vkey = strings.TrimSpace(vkey)
	name, rest, _ := strings.Cut(vkey, "+")
	digits, encoded, _ := strings.Cut(rest, "+")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err == nil && len(key) == 1+ed25519.PublicKeySize && key[0] == algCosignature {
		hash, err := strconv.ParseUint(digits, 16, 32)
		if err != nil || len(digits) != 8 || name == "" || strings.ContainsAny(name, " \n") || uint32(hash) != keyHash(name, key) {
			return nil, fmt.Errorf("%q isn't a witness's verifier key: its hash isn't that of its name and key", vkey)
		}
		return cosigner{name, uint32(hash), key[1:]}, nil
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("%q isn't a verifier key (NAME+HASH+KEY, c2sp.org/signed-note): %w", vkey, err)
	}
	return v, nil
}

// cosigner verifies the Ed25519 cosignatures of a witness.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

// keyHash is c2sp.org/signed-note's key ID.
func keyHash(name string, key []byte) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	return binary.BigEndian.Uint32(sum[:])
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }

// Verify judges a timestamp and a signature over it and the checkpoint.
func (c cosigner) Verify(message, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(signature)
	if at > 1<<63-1 {
		return false
	}
	signed := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, message)
	return ed25519.Verify(c.key, signed, signature[8:])
}
