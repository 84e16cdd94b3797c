package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"time"
)

// backendTLS is the TLS configuration of a back end's dials: TLS 1.2 at least,
// the back end's own trust, and no key shared with any other back end's.
func backendTLS(b Backend, host string) *tls.Config {
	cfg := b.TLS.Clone()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.NextProtos = []string{"http/1.1"}
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	if b.CNOnly {
		name, roots, clock := cfg.ServerName, cfg.RootCAs, cfg.Time
		// crypto/x509 refuses a certificate without a SAN whatever its CN, so
		// its verification is done here, in full, for this kind alone.
		cfg.InsecureSkipVerify = true
		cfg.VerifyConnection = func(state tls.ConnectionState) error {
			return verifyByCN(state.PeerCertificates, name, roots, clock)
		}
	}
	return cfg
}

// verifyByCN builds the chain as crypto/tls would and compares the name with
// the CN, as OCPP has it (A00.FR.510). A certificate that has a SAN is judged by
// that alone (RFC 6125 §6.4.4).
func verifyByCN(presented []*x509.Certificate, name string, roots *x509.CertPool, clock func() time.Time) error {
	if len(presented) == 0 {
		return errors.New("the back end presented no certificate")
	}
	leaf := presented[0]
	opts := x509.VerifyOptions{
		Roots:         roots,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if clock != nil {
		opts.CurrentTime = clock()
	}
	for _, c := range presented[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return err
	}
	if hasSAN(leaf) {
		return leaf.VerifyHostname(name)
	}
	if net.ParseIP(name) != nil || leaf.Subject.CommonName == "" || !strings.EqualFold(leaf.Subject.CommonName, name) {
		return errors.New("the back end's certificate is for another name")
	}
	return nil
}

func hasSAN(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.String() == "2.5.29.17" { // RFC 5280 §4.2.1.6
			return true
		}
	}
	return false
}
