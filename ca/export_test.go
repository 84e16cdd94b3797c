package ca

import (
	"crypto/tls"
	"io"
)

// SetRandom replaces the source of serial numbers.
func (a *Authority) SetRandom(r io.Reader) { a.random = r }

// Current returns the certificates in use: ECDSA, RSA.
func (s *ServerCertificates) Current() []*tls.Certificate {
	return []*tls.Certificate{s.current[0].Load(), s.current[1].Load()}
}
