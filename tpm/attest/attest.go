// Package attest judges what a TPM 2.0 says of itself: that an endorsement key is a
// manufacturer's, that an attestation key is in the TPM of that endorsement key, that
// a station's key was made in there and can't leave it, and what the machine measured
// while it booted.
//
// It promises that nothing is believed but what a TPM signed or decrypted itself, of
// the very key, nonce and registers that were asked for. It touches nothing: time and
// randomness come from the caller.
package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// What can be wrong; every error of this package is one of them.
var (
	ErrMalformed   = errors.New("malformed")
	ErrEndorsement = errors.New("the endorsement key isn't trusted")
	ErrKey         = errors.New("the key isn't what it has to be")
	ErrCertificate = errors.New("the attestation key's certificate isn't one")
	ErrNotFromTPM  = errors.New("the statement isn't one of a TPM")
	ErrSignature   = errors.New("the statement isn't signed by this attestation key")
	ErrOtherKey    = errors.New("the statement is about another key")
	ErrNonce       = errors.New("the statement answers another question")
	ErrRegister    = errors.New("a register differs")
	ErrLog         = errors.New("the event log isn't that of the registers")
)

// maxStructure bounds each structure of a TPM: the longest, a public area with RSA-4096
// or a statement of names and digests, stay far below it.
const maxStructure = 4 << 10

// generated is TPM_GENERATED_VALUE: a restricted key signs nothing from outside that
// begins with it (TPM 2.0 part 2 §6.2).
const generated = 0xff544347

// structure reads one and insists that nothing else was there, so that what was judged
// is what was signed or hashed.
func structure[T tpm2.Marshallable, P interface {
	*T
	tpm2.Unmarshallable
}](what string, data []byte) (*T, error) {
	if len(data) == 0 || len(data) > maxStructure {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrMalformed, what, len(data))
	}
	v, err := tpm2.Unmarshal[T, P](data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s can't be read: %w", ErrMalformed, what, err)
	}
	if !bytes.Equal(tpm2.Marshal(*v), data) {
		return nil, fmt.Errorf("%w: %s has another spelling, or something after its end", ErrMalformed, what)
	}
	return v, nil
}

// statement reads a TPMS_ATTEST of one type that key signed.
func statement(key crypto.PublicKey, kind tpm2.TPMST, data, signature []byte) (*tpm2.TPMSAttest, crypto.Hash, error) {
	if len(data) < 6 || binary.BigEndian.Uint32(data) != generated {
		return nil, 0, fmt.Errorf("%w: it doesn't begin with TPM_GENERATED", ErrNotFromTPM)
	}
	if got := tpm2.TPMST(binary.BigEndian.Uint16(data[4:])); got != kind {
		return nil, 0, fmt.Errorf("%w of the type asked for: %#04x, want %#04x", ErrNotFromTPM, got, kind)
	}
	said, err := structure[tpm2.TPMSAttest]("a statement", data)
	if err != nil {
		return nil, 0, err
	}
	hash, err := verify(key, data, signature)
	return said, hash, err
}

// verify checks a TPMT_SIGNATURE and returns its hash.
func verify(key crypto.PublicKey, message, signature []byte) (crypto.Hash, error) {
	s, err := structure[tpm2.TPMTSignature]("a signature", signature)
	if err != nil {
		return 0, err
	}
	valid, algorithm := false, tpm2.TPMIAlgHash(0)
	switch key := key.(type) {
	case *rsa.PublicKey:
		v, errPKCS := s.Signature.RSASSA()
		pss, errPSS := s.Signature.RSAPSS()
		switch {
		case errPKCS == nil:
			hash, digest := digestOf(v.Hash, message)
			valid, algorithm = hash != 0 && rsa.VerifyPKCS1v15(key, hash, digest, v.Sig.Buffer) == nil, v.Hash
		case errPSS == nil:
			hash, digest := digestOf(pss.Hash, message)
			valid, algorithm = hash != 0 && rsa.VerifyPSS(key, hash, digest, pss.Sig.Buffer, nil) == nil, pss.Hash
		}
	case *ecdsa.PublicKey:
		if v, err := s.Signature.ECDSA(); err == nil {
			hash, digest := digestOf(v.Hash, message)
			valid, algorithm = hash != 0 && ecdsa.Verify(key, digest, new(big.Int).SetBytes(v.SignatureR.Buffer), new(big.Int).SetBytes(v.SignatureS.Buffer)), v.Hash
		}
	}
	if !valid {
		return 0, ErrSignature
	}
	return hashes[algorithm], nil
}

// hashes a statement may be signed over; SHA-1 isn't among them.
var hashes = map[tpm2.TPMIAlgHash]crypto.Hash{tpm2.TPMAlgSHA256: crypto.SHA256, tpm2.TPMAlgSHA384: crypto.SHA384, tpm2.TPMAlgSHA512: crypto.SHA512}

func digestOf(algorithm tpm2.TPMIAlgHash, message []byte) (crypto.Hash, []byte) {
	hash, ok := hashes[algorithm]
	if !ok {
		return 0, nil
	}
	return hash, sum(hash, message)
}

func sum(hash crypto.Hash, message []byte) []byte {
	h := hash.New()
	h.Write(message)
	return h.Sum(nil)
}
