package ca

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
)

// SetRandom replaces the source of serial numbers.
func (a *Authority) SetRandom(r io.Reader) { a.random = r }

// Current returns the certificates in use: ECDSA, RSA.
func (s *ServerCertificates) Current() []*tls.Certificate {
	return []*tls.Certificate{s.current[0].Load(), s.current[1].Load()}
}

// Alter changes the certificate between its record and its signature.
func (p *Prepared) Alter(f func(*x509.Certificate)) { f(p.template) }

// Signed signs what was prepared once more, as a crash after the signature
// leaves it: somebody has the certificate, the store doesn't.
func (p *Prepared) Signed() ([]byte, error) {
	return sign(rand.Reader, p.issuer, p.template, p.key, p.issuer.signer)
}
