// Package hashdata names certificates as OCPP does, by hashes of the issuer's name and key
// and by a serial number (CertificateHashData), and tells which certificate a station
// means by one.
//
// It promises that what is written here is exact, and that what stations report is
// understood in each way they are known to get it wrong.
package hashdata

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"

	"bollard/ca"
	"bollard/ocpp"
)

// Of computes the values by which OCPP names a certificate: hashes of its issuer's name
// and key bits (RFC 6960 §4.1.1) in lower-case hex and its serial number in hex without
// leading zeros. A self-signed root is its own issuer.
func Of(algorithm string, cert, issuer *x509.Certificate) (ocpp.CertificateHashData, error) {
	h, ok := ocpp.HashNamed(strings.TrimSpace(algorithm))
	if !ok {
		return ocpp.CertificateHashData{}, fmt.Errorf("hash algorithm %.64q: OCPP has SHA256, SHA384 and SHA512", algorithm)
	}
	key, err := keyBits(issuer)
	if err != nil {
		return ocpp.CertificateHashData{}, fmt.Errorf("couldn't name certificate %s: %w", ca.SerialOf(cert), err)
	}
	return ocpp.CertificateHashData{
		HashAlgorithm: strings.ToUpper(algorithm), IssuerNameHash: hex.EncodeToString(digest(h, cert.RawIssuer)), IssuerKeyHash: hex.EncodeToString(digest(h, key)),
		SerialNumber: ca.SerialOf(cert),
	}, nil
}

// OfIssuer are the hashes of an issuer's name and key in what names its certificates.
func OfIssuer(h crypto.Hash, issuer *x509.Certificate) (name, key []byte, err error) {
	bits, err := keyBits(issuer)
	if err != nil {
		return nil, nil, err
	}
	return digest(h, issuer.RawSubject), digest(h, bits), nil
}

// Names says whether a station's report means this certificate. The serial
// number and one of the hashes must agree: stations get the other wrong, by
// hashing a re-encoded name or the whole SubjectPublicKeyInfo.
func Names(seen ocpp.CertificateHashData, cert, issuer *x509.Certificate) bool {
	want, err := Of(seen.HashAlgorithm, cert, issuer)
	if err != nil {
		return false
	}
	a, b := Plain(seen), Plain(want)
	return a.SerialNumber == b.SerialNumber && (a.IssuerNameHash == b.IssuerNameHash || a.IssuerKeyHash == b.IssuerKeyHash)
}

// MayName is Names for a request that must not get past: by an algorithm
// Bollard doesn't know, the serial number alone decides.
func MayName(d ocpp.CertificateHashData, cert, issuer *x509.Certificate) bool {
	if _, err := Of(d.HashAlgorithm, cert, issuer); err != nil {
		return Plain(d).SerialNumber == Plain(ocpp.CertificateHashData{SerialNumber: ca.SerialOf(cert)}).SerialNumber
	}
	return Names(d, cert, issuer)
}

// NamesIssuer says whether a root may be the one that signed cert and isn't at
// hand itself: only its name is known.
func NamesIssuer(d ocpp.CertificateHashData, cert *x509.Certificate) bool {
	h, ok := ocpp.HashNamed(strings.TrimSpace(d.HashAlgorithm))
	return ok && !bytes.Equal(cert.RawIssuer, cert.RawSubject) && Plain(d).IssuerNameHash == hex.EncodeToString(digest(h, cert.RawIssuer))
}

// Plain folds the spellings stations make of one value: upper and lower
// case, leading zeros of the serial number.
func Plain(d ocpp.CertificateHashData) ocpp.CertificateHashData {
	serial := strings.TrimLeft(strings.ToLower(strings.TrimSpace(d.SerialNumber)), "0")
	if serial == "" {
		serial = "0"
	}
	return ocpp.CertificateHashData{
		HashAlgorithm:  strings.ToUpper(strings.TrimSpace(d.HashAlgorithm)),
		IssuerNameHash: strings.ToLower(strings.TrimSpace(d.IssuerNameHash)),
		IssuerKeyHash:  strings.ToLower(strings.TrimSpace(d.IssuerKeyHash)),
		SerialNumber:   serial,
	}
}

// keyBits are those of a SubjectPublicKeyInfo's BIT STRING.
func keyBits(issuer *x509.Certificate) ([]byte, error) {
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	if rest, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("the public key of issuer %.64q can't be read", issuer.Subject.String())
	}
	return key.Bits.RightAlign(), nil
}

func digest(h crypto.Hash, b []byte) []byte {
	w := h.New()
	w.Write(b)
	return w.Sum(nil)
}
