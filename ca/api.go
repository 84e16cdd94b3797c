package ca

// This file is the contract other packages build on while the engine is
// written; each declaration moves to the file of its topic.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
)

// StationPools returns own roots + intermediates and outside roots for station certificates.
func (*Authority) StationPools(ctx context.Context) (Pools, error) {
	panic("internal error: contract only")
}

// Pools are the trust of one use. Own roots are never mixed with outside ones:
// a chain is judged against one pool at a time.
type Pools struct {
	Own           *x509.CertPool
	Outside       *x509.CertPool
	Intermediates *x509.CertPool
	Subjects      *x509.CertPool // all of them, for the TLS CertificateRequest's list
}

// ServerNames of a server certificate: the first DNS name is its CN.
type ServerNames struct {
	DNS    []string
	IPs    []string
	CNOnly bool // no SAN: an extra listener for old stations
}

// ServerCertificates keeps an ECDSA and an RSA server certificate valid by itself.
type ServerCertificates struct{}

func (*Authority) ServerCertificates(ctx context.Context, names ServerNames, dir string) (*ServerCertificates, error) {
	panic("internal error: contract only")
}

// GetCertificate picks ECDSA or RSA by what the client can verify; for tls.Config.
func (*ServerCertificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	panic("internal error: contract only")
}
