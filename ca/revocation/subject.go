package revocation

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/ocsp"

	"bollard/ca/hashdata"
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
	name, key, err := hashdata.OfIssuer(crypto.SHA256, issuer)
	if err != nil {
		return subject{}, err
	}
	return subject{hash: crypto.SHA256, nameHash: name, keyHash: key, serial: cert.SerialNumber}, nil
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
	name, key, err := hashdata.OfIssuer(s.hash, issuer)
	return err == nil && bytes.Equal(s.nameHash, name) && bytes.Equal(s.keyHash, key)
}
