package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/cloudflare/circl/sign/ed448"
)

// Suite is the algorithms of a signature; they follow from its key.
type Suite uint8

// The suites of ISO 15118-2 ([V2G2-006]) and, the two others, of ISO 15118-20
// ([V2G20-2473] to [V2G20-2476]): Ed448 only where its peers agree on it
// ([V2G20-2320]).
const (
	P256 Suite = iota + 1
	P521
	Ed448
)

type algorithms struct {
	name      string
	signature string // URI of SignatureMethod
	digest    string // URI of DigestMethod
	size      int    // of the value
	sum       func([]byte) []byte
}

func (s Suite) algorithms() algorithms {
	switch s {
	case P256:
		return algorithms{"ECDSA with SHA-256 on P-256", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
			"http://www.w3.org/2001/04/xmlenc#sha256", 64, func(b []byte) []byte { sum := sha256.Sum256(b); return sum[:] }}
	case P521:
		return algorithms{"ECDSA with SHA-512 on P-521", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512",
			"http://www.w3.org/2001/04/xmlenc#sha512", 132, func(b []byte) []byte { sum := sha512.Sum512(b); return sum[:] }}
	case Ed448:
		// The standard gives SHAKE256 no length here; 64 bytes are those of its
		// security level, and what Ed448 itself has.
		return algorithms{"Ed448 with SHAKE256", "urn:iso:std:iso:15118:-20:Security:xmldsig#Ed448",
			"urn:iso:std:iso:15118:-20:Security:xmlenc#SHAKE256", ed448.SignatureSize, func(b []byte) []byte { return sha3.SumSHAKE256(b, 64) }}
	}
	return algorithms{}
}

// String names the algorithms for people.
func (s Suite) String() string { return s.algorithms().name }

// SuiteOf returns the suite of a public key.
func SuiteOf(key crypto.PublicKey) (Suite, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return P256, nil
		case elliptic.P521():
			return P521, nil
		}
		return 0, fmt.Errorf("ISO 15118 has no signatures on %s", key.Curve.Params().Name)
	case ed448.PublicKey:
		return Ed448, nil
	}
	return 0, fmt.Errorf("ISO 15118 has no signatures with a key of type %T", key)
}

// sign returns the value of a signature over a message: for ECDSA r and s side by
// side at their full width, never DER.
func (s Suite) sign(random io.Reader, key crypto.Signer, message []byte) ([]byte, error) {
	a := s.algorithms()
	if s == Ed448 {
		return key.Sign(random, message, crypto.Hash(0))
	}
	hash := map[Suite]crypto.Hash{P256: crypto.SHA256, P521: crypto.SHA512}[s]
	der, err := key.Sign(random, a.sum(message), hash)
	if err != nil {
		return nil, err
	}
	var pair struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &pair); err != nil || len(rest) > 0 {
		return nil, errors.New("the key's signature isn't the DER of two integers")
	}
	for _, n := range []*big.Int{pair.R, pair.S} {
		if n.Sign() <= 0 || n.BitLen() > a.size/2*8 { // a security module may be faulty
			return nil, fmt.Errorf("the key's signature has an integer that isn't one of %s", a.name)
		}
	}
	value := make([]byte, a.size)
	pair.R.FillBytes(value[:a.size/2])
	pair.S.FillBytes(value[a.size/2:])
	return value, nil
}

func (s Suite) verify(key crypto.PublicKey, message, value []byte) bool {
	a := s.algorithms()
	if len(value) != a.size {
		return false
	}
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		half := a.size / 2
		return ecdsa.Verify(key, a.sum(message), new(big.Int).SetBytes(value[:half]), new(big.Int).SetBytes(value[half:]))
	case ed448.PublicKey:
		return ed448.Verify(key, message, value, "")
	}
	return false
}
