package fleet

import (
	"context"
	"crypto/x509"
	"time"

	"bollard/internal/safehttp"
	"bollard/ocpp"
)

// Outside makes requests as those for certificate status are made.
func Outside() func(ctx context.Context, url string, fetch func() (*safehttp.Response, error)) (*safehttp.Response, error) {
	return (&Service{cfg: Config{Clock: time.Now}}).newStatuses(nil, nil).outside
}

// ReadOCSP checks a response about hash data against issuers that may sign.
func ReadOCSP(der []byte, d ocpp.CertificateHashData, issuer *x509.Certificate, now time.Time) (verified bool, err error) {
	s, err := parseSubject(d)
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
