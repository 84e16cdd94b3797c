package curve448

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"

	"github.com/cloudflare/circl/sign/ed448"
)

type privateKeyInfo struct {
	Version   int
	Algorithm pkix.AlgorithmIdentifier
	Key       []byte
	Rest      asn1.RawValue `asn1:"optional,tag:0"`
}

// MarshalPrivateKey returns a private key as PKCS#8; one of Ed448 holds the seed of
// RFC 8032 (RFC 8410 §7).
func MarshalPrivateKey(key crypto.PrivateKey) ([]byte, error) {
	private, ok := key.(ed448.PrivateKey)
	if !ok {
		return x509.MarshalPKCS8PrivateKey(key)
	}
	seed := private.Seed()
	defer clear(seed)
	inner, err := asn1.Marshal(seed)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(privateKeyInfo{Algorithm: pkix.AlgorithmIdentifier{Algorithm: OID}, Key: inner})
}

// ParsePrivateKey reads PKCS#8.
func ParsePrivateKey(der []byte) (crypto.PrivateKey, error) {
	var info privateKeyInfo
	if _, err := asn1.Unmarshal(der, &info); err != nil || !info.Algorithm.Algorithm.Equal(OID) {
		return x509.ParsePKCS8PrivateKey(der)
	}
	var seed []byte
	if rest, err := asn1.Unmarshal(info.Key, &seed); err != nil || len(rest) > 0 || len(seed) != ed448.SeedSize {
		return nil, errors.New("it isn't an Ed448 private key (RFC 8410 §7)")
	}
	return ed448.NewKeyFromSeed(seed), nil
}
