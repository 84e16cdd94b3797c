package revocation

import (
	"crypto/x509"
	"time"

	"bollard/ocpp"
)

// ReadOCSP checks a response about hash data against an issuer that may sign.
func ReadOCSP(der []byte, d ocpp.CertificateHashData, issuer *x509.Certificate, now time.Time) (verified bool, err error) {
	s, err := subjectNamed(d)
	if err != nil {
		return false, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(issuer)
	a, err := readOCSP(der, s, issuers{certificates: []*x509.Certificate{issuer}, roots: roots}, now)
	return a.verified, err
}

// ReadCRL checks a revocation list.
func ReadCRL(body []byte, issuer *x509.Certificate, now time.Time) error {
	_, err := readCRL(body, issuer, now)
	return err
}
