package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/ca/quality"
	"bollard/internal/curve448"
)

// ProvenKey is a public key whose private half its holder has shown to have.
// Only ParseCSR, GeneratedKey and PresentedKey make one.
type ProvenKey struct {
	public crypto.PublicKey
	spki   []byte // SubjectPublicKeyInfo in DER
	hash   string
	// What shows it to somebody else: the request its holder signed, or the key itself.
	request []byte
	signer  crypto.Signer
}

func proven(public crypto.PublicKey) (ProvenKey, error) {
	spki, err := curve448.MarshalPublicKey(public)
	if err != nil {
		return ProvenKey{}, err
	}
	return ProvenKey{public: public, spki: spki, hash: hashHex(spki)}, nil
}

// Public returns the key, nil for the zero value.
func (k ProvenKey) Public() crypto.PublicKey { return k.public }

// Hash is the lower-case hex SHA-256 of the SubjectPublicKeyInfo, "" for the
// zero value.
func (k ProvenKey) Hash() string { return k.hash }

// GeneratedKey proves a key Bollard made itself by a signature over a nonce.
func GeneratedKey(signer crypto.Signer) (ProvenKey, error) {
	var nonce [32]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return ProvenKey{}, err
	}
	hash := crypto.SHA256
	if _, ok := signer.Public().(ed448.PublicKey); ok {
		hash = 0 // it signs messages, not digests
	}
	sig, err := signer.Sign(rand.Reader, nonce[:], hash)
	if err != nil {
		return ProvenKey{}, fmt.Errorf("couldn't sign with the new key: %w", err)
	}
	switch public := signer.Public().(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(public, nonce[:], sig) {
			return ProvenKey{}, errors.New("the new key's signature doesn't verify")
		}
	case ed448.PublicKey:
		if !ed448.Verify(public, nonce[:], sig, "") {
			return ProvenKey{}, errors.New("the new key's signature doesn't verify")
		}
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, nonce[:], sig); err != nil {
			return ProvenKey{}, errors.New("the new key's signature doesn't verify")
		}
	}
	if err := checkKey(signer.Public(), quality.Policy{Ed448: true}); err != nil {
		return ProvenKey{}, err
	}
	key, err := proven(signer.Public())
	key.signer = signer
	return key, err
}

// PresentedKey is the key of the certificate a client showed: the handshake proved it
// (RFC 8446 §4.4.3).
func PresentedKey(state *tls.ConnectionState) (ProvenKey, error) {
	if state == nil || !state.HandshakeComplete || len(state.PeerCertificates) == 0 {
		return ProvenKey{}, errors.New("internal error: no client showed a certificate")
	}
	return proven(state.PeerCertificates[0].PublicKey)
}

func keyHash(public crypto.PublicKey) (string, error) {
	spki, err := curve448.MarshalPublicKey(public)
	if err != nil {
		return "", err
	}
	return hashHex(spki), nil
}

// Class is the key's kind and size, "" for the zero value.
func (k ProvenKey) Class() KeyClass {
	class, err := classOf(k.public)
	if err != nil {
		return ""
	}
	return class
}

// checkKey refuses keys no profile allows and keys known to be broken.
func checkKey(public crypto.PublicKey, policy quality.Policy) error {
	if _, err := classOf(public); err != nil {
		return err
	}
	return quality.Check(public, policy)
}
