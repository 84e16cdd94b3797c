package revocation

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"bollard/ca"
)

// issuers are the CA certificates Bollard can check status information with.
type issuers struct {
	certificates []*x509.Certificate
	roots        *x509.CertPool // the outside roots among them
	// proven: the subject's issuer is among the certificates, and what isn't signed
	// for it is no answer.
	proven bool
}

// answers names what is kept of responders: what only a station can check is never
// given where Bollard checks itself.
func (k issuers) answers() string {
	if k.proven {
		return "ocsp, checked"
	}
	return "ocsp"
}

// knownIssuers are the own CAs and the outside roots of vehicles, providers and
// makers of vehicles.
func (c *Checker) knownIssuers(ctx context.Context) (issuers, error) {
	return c.issuersFor(ctx, ca.Kinds(), "v2g", "mo", "oem")
}

// issuersFor are the CAs of own hierarchies and the outside roots of the uses.
func (c *Checker) issuersFor(ctx context.Context, kinds []ca.Kind, uses ...string) (issuers, error) {
	known := issuers{roots: x509.NewCertPool()}
	for _, kind := range kinds {
		known.certificates = append(known.certificates, c.authority.Roots(kind)...)
		known.certificates = append(known.certificates, c.authority.Intermediates(kind)...)
		for _, p := range c.authority.Paths(kind) { // CAs of others among them
			known.certificates = append(append(known.certificates, p.Chain...), p.Root)
		}
	}
	for _, use := range uses {
		anchors, err := c.authority.Anchors(ctx, use)
		if err != nil {
			return issuers{}, fmt.Errorf("couldn't read the outside roots: %w", err)
		}
		for _, a := range anchors {
			if cert, err := x509.ParseCertificate(a.DER); err == nil {
				known.certificates = append(known.certificates, cert)
				known.roots.AddCert(cert)
			}
		}
	}
	return known, nil
}

// of finds the issuer of a subject among the known certificates and those a
// response came with, if they lead to a known outside root. nil: not known.
func (k issuers) of(s subject, embedded []*x509.Certificate, now time.Time) *x509.Certificate {
	for _, cert := range k.certificates {
		if s.issuedBy(cert) {
			return cert
		}
	}
	pool := x509.NewCertPool()
	for _, cert := range embedded {
		pool.AddCert(cert)
	}
	for _, cert := range embedded {
		if !cert.IsCA || !s.issuedBy(cert) {
			continue
		}
		_, err := cert.Verify(x509.VerifyOptions{Roots: k.roots, Intermediates: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err == nil {
			return cert
		}
	}
	return nil
}
