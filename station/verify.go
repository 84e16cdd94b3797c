package station

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Verifier is a way in which stations verify firmware: what their programs call
// differs from the standard, and from each other. The zero value is by the book:
// RSA-PSS with any salt, or ECDSA, over the SHA-256 of the file.
type Verifier string

// The ways that were found, by the program's name.
const (
	// LibEVSE is EVerest's libevse-security: OpenSSL's EVP_PKEY_verify without a
	// padding, which is PKCS#1 v1.5 for RSA; a PEM with exactly one certificate; a
	// chain, with one that isn't valid yet taken.
	LibEVSE Verifier = "libevse-security"
	// EVerestScript is its signed_firmware_downloader.sh: openssl dgst -verify with
	// the key of the first certificate, whose chain libocpp has checked.
	EVerestScript Verifier = "everest-script"
	// OpenOCPP1 is open-ocpp: EVP_DigestVerify without a padding; a chain that isn't
	// the signer alone, in its dates.
	OpenOCPP1 Verifier = "open-ocpp"
	// ChargeLab is ChargeLab's OpenOCPP: mbedtls_pk_verify, PKCS#1 v1.5 for RSA; the
	// issuer must be an installed manufacturer's root.
	ChargeLab Verifier = "chargelab-openocpp"
	// Unsigned is MicroOcpp: the library verifies nothing, the application may.
	Unsigned Verifier = "microocpp"
)

// Verifiers lists them.
func Verifiers() []Verifier {
	return []Verifier{"", LibEVSE, EVerestScript, OpenOCPP1, ChargeLab, Unsigned}
}

// signer reads a signing certificate and checks it (L01.FR.12).
func (v Verifier) signer(text []byte, roots []*x509.Certificate, now time.Time) (*x509.Certificate, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("not PEM")
	}
	if more, _ := pem.Decode(rest); more != nil && (v == LibEVSE || v == "") {
		return nil, errors.New("more than one certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	switch v {
	case Unsigned:
		return cert, nil
	case LibEVSE, EVerestScript:
		if now.Before(cert.NotBefore) {
			now = cert.NotBefore // EVerest takes it
		}
	case OpenOCPP1:
		if bytes.Equal(cert.RawIssuer, cert.RawSubject) {
			return nil, errors.New("self-signed")
		}
	}
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range roots {
		pool.AddCert(root)
	}
	if v != ChargeLab { // it wants the issuer itself among its roots
		between.AppendCertsFromPEM(rest)
	}
	_, err = cert.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return cert, err
}

// verify checks a signature over the SHA-256 of an image.
func (v Verifier) verify(signer *x509.Certificate, sum [sha256.Size]byte, signature []byte) error {
	if v == Unsigned {
		return nil
	}
	switch key := signer.PublicKey.(type) {
	case *ecdsa.PublicKey: // ASN.1 DER, whatever the program
		if !ecdsa.VerifyASN1(key, sum[:], signature) {
			return errors.New("bad ECDSA signature")
		}
		return nil
	case *rsa.PublicKey:
		if v == "" {
			return rsa.VerifyPSS(key, crypto.SHA256, sum[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
		}
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature)
	}
	return fmt.Errorf("a %T verifies nothing", signer.PublicKey)
}
