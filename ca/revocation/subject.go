package revocation

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/ocsp"

	"bollard/ocpp"
)

// subject is the certificate a status is wanted of.
type subject struct {
	hash              crypto.Hash
	nameHash, keyHash []byte
	serial            *big.Int
}

// subjectNamed reads hash data, in upper or lower case, with or without leading
// zeros in the serial number.
func subjectNamed(d ocpp.CertificateHashData) (subject, error) {
	var s subject
	var ok bool
	if s.hash, ok = ocpp.HashNamed(d.HashAlgorithm); !ok {
		return s, errors.New("hashAlgorithm is not SHA256, SHA384 or SHA512")
	}
	for _, h := range []struct {
		text string
		into *[]byte
		name string
	}{{d.IssuerNameHash, &s.nameHash, "issuerNameHash"}, {d.IssuerKeyHash, &s.keyHash, "issuerKeyHash"}} {
		sum, err := hex.DecodeString(h.text)
		if err != nil || len(sum) != s.hash.Size() {
			return s, fmt.Errorf("%s is no %s in hex", h.name, strings.ToUpper(d.HashAlgorithm))
		}
		*h.into = sum
	}
	digits := d.SerialNumber
	if len(digits) == 0 || len(digits) > ocpp.MaxHashSerial || strings.Trim(digits, "0123456789abcdefABCDEF") != "" {
		return s, errors.New("serialNumber is not 1 to 40 digits of hex")
	}
	s.serial, _ = new(big.Int).SetString(digits, 16)
	return s, nil
}

// subjectOf names a certificate for its responder, by SHA-256, which OCPP's stations
// ask with too.
func subjectOf(cert, issuer *x509.Certificate) (subject, error) {
	key, err := keyBits(issuer)
	if err != nil {
		return subject{}, err
	}
	return subject{hash: crypto.SHA256, nameHash: digest(crypto.SHA256, issuer.RawSubject), keyHash: digest(crypto.SHA256, key), serial: cert.SerialNumber}, nil
}

// request is the RFC 6960 OCSPRequest about the subject.
func (s subject) request() ([]byte, error) {
	r := ocsp.Request{HashAlgorithm: s.hash, IssuerNameHash: s.nameHash, IssuerKeyHash: s.keyHash, SerialNumber: s.serial}
	der, err := r.Marshal()
	if err != nil {
		return nil, fmt.Errorf("couldn't make an OCSP request: %w", err)
	}
	return der, nil
}

// issuedBy says whether the hash data names this issuer.
func (s subject) issuedBy(issuer *x509.Certificate) bool {
	key, err := keyBits(issuer)
	return err == nil && bytes.Equal(s.nameHash, digest(s.hash, issuer.RawSubject)) && bytes.Equal(s.keyHash, digest(s.hash, key))
}

// keyBits are what issuerKeyHash is made of (RFC 6960 §4.1.1).
func keyBits(issuer *x509.Certificate) ([]byte, error) {
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	if rest, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key); err != nil || len(rest) > 0 {
		return nil, errors.New("the issuer's key can't be read")
	}
	return key.Bits.RightAlign(), nil
}

func digest(h crypto.Hash, b []byte) []byte {
	w := h.New()
	w.Write(b)
	return w.Sum(nil)
}
