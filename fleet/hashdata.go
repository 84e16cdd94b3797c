package fleet

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"

	"bollard/ca"
	"bollard/ocpp"
)

// CertificateHashData computes the values by which OCPP names a certificate:
// hashes of its issuer's name and key bits (RFC 6960 §4.1.1) and its serial
// number in hex without leading zeros. A self-signed root is its own issuer.
func CertificateHashData(algorithm string, cert, issuer *x509.Certificate) (ocpp.CertificateHashData, error) {
	h, err := hashOf(algorithm)
	if err != nil {
		return ocpp.CertificateHashData{}, err
	}
	var key struct {
		Algorithm asn1.RawValue
		Bits      asn1.BitString
	}
	if rest, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key); err != nil || len(rest) > 0 {
		return ocpp.CertificateHashData{}, fmt.Errorf("couldn't read the issuer's public key of certificate %s", ca.SerialOf(cert))
	}
	sum := func(b []byte) string { return hexSum(h, b) }
	return ocpp.CertificateHashData{
		HashAlgorithm: strings.ToUpper(algorithm), IssuerNameHash: sum(cert.RawIssuer), IssuerKeyHash: sum(key.Bits.Bytes),
		SerialNumber: ca.SerialOf(cert),
	}, nil
}

func hashOf(algorithm string) (crypto.Hash, error) {
	if h, ok := ocpp.HashNamed(strings.TrimSpace(algorithm)); ok {
		return h, nil
	}
	return 0, fmt.Errorf("hash algorithm %q: OCPP has SHA256, SHA384 and SHA512", capped(algorithm))
}

func hexSum(h crypto.Hash, b []byte) string {
	w := h.New()
	w.Write(b)
	return hex.EncodeToString(w.Sum(nil))
}

func selfIssued(cert *x509.Certificate) bool { return bytes.Equal(cert.RawIssuer, cert.RawSubject) }

// namesIssuer says whether a root may be the one that signed cert and isn't at
// hand itself: only its name is known.
func namesIssuer(d ocpp.CertificateHashData, cert *x509.Certificate) bool {
	h, err := hashOf(d.HashAlgorithm)
	return err == nil && !selfIssued(cert) && plainHash(d).IssuerNameHash == hexSum(h, cert.RawIssuer)
}

// plainHash folds the spellings stations make of one value: upper and lower
// case, leading zeros of the serial number.
func plainHash(d ocpp.CertificateHashData) ocpp.CertificateHashData {
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

// names says whether a station's report means this certificate. The serial
// number and one of the hashes must agree: stations get the other wrong, by
// hashing a re-encoded name or the whole SubjectPublicKeyInfo.
func names(seen ocpp.CertificateHashData, cert, issuer *x509.Certificate) bool {
	want, err := CertificateHashData(seen.HashAlgorithm, cert, issuer)
	if err != nil {
		return false
	}
	a, b := plainHash(seen), plainHash(want)
	return a.SerialNumber == b.SerialNumber && (a.IssuerNameHash == b.IssuerNameHash || a.IssuerKeyHash == b.IssuerKeyHash)
}
