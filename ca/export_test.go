package ca

import (
	"context"
	"crypto/tls"
	"io"
)

// PrepareBy prepares an order of any profile at an issuing CA, as its keepers do.
func (a *Authority) PrepareBy(ctx context.Context, issuer string, o Order) (*Prepared, error) {
	by, _, err := a.issuerNamed(issuer)
	if err != nil {
		return nil, err
	}
	return a.prepare(ctx, by, o)
}

// SetRandom replaces the source of serial numbers.
func (a *Authority) SetRandom(r io.Reader) { a.random = r }

// Current returns the certificates in use: ECDSA, RSA.
func (s *ServerCertificates) Current() []*tls.Certificate {
	return []*tls.Certificate{s.current[0].Load(), s.current[1].Load()}
}

// Alter changes what will be signed after it was recorded.
func (p *Prepared) Alter(f func(tbs []byte)) { f(p.tbs) }

// Signed signs what was prepared once more, as a crash after the signature
// leaves it: somebody has the certificate, the store doesn't.
func (p *Prepared) Signed() ([]byte, error) {
	signature, err := p.issuer.sign(p.tbs)
	if err != nil {
		return nil, err
	}
	return withSignature(p.tbs, signature)
}
