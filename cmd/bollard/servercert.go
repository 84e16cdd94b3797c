package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"slices"
	"sync/atomic"

	"bollard/ca"
	"bollard/internal/config"
)

// serverCertificates are what the front doors show: ECDSA and RSA, each from
// files where configured, else from the own CA.
type serverCertificates struct {
	own   *ca.ServerCertificates // renews itself
	files atomic.Pointer[certificateFiles]
}

// certificateFiles are replaced as a whole by a reload.
type certificateFiles struct{ ecdsa, rsa *tls.Certificate }

func readCertificateFiles(dir string, cfg config.ServerCert) (*certificateFiles, error) {
	var files certificateFiles
	for _, pair := range []struct {
		key  string
		from config.CertFiles
		into **tls.Certificate
	}{{"ecdsa", cfg.ECDSA, &files.ecdsa}, {"rsa", cfg.RSA, &files.rsa}} {
		if pair.from.Certificate == "" {
			continue
		}
		loaded, err := readKeyPair(within(dir, pair.from.Certificate), within(dir, pair.from.Key))
		if err != nil {
			return nil, configFault(dir, "server_certificate."+pair.key, &keyedError{"certificate", err})
		}
		*pair.into = &loaded
	}
	return &files, nil
}

// get picks the certificate for a client: ECDSA if it can verify one. What
// there is no file for is the own CA's.
func (s *serverCertificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	files := s.files.Load()
	if files.ecdsa != nil && files.rsa != nil {
		return ca.PickCertificate(hello, files.ecdsa, files.rsa)
	}
	own, err := s.own.GetCertificate(hello)
	if err != nil || (files.ecdsa == nil && files.rsa == nil) {
		return own, err
	}
	if files.ecdsa != nil {
		return ca.PickCertificate(hello, files.ecdsa, own)
	}
	if _, ok := own.Leaf.PublicKey.(*ecdsa.PublicKey); ok {
		return own, nil
	}
	return files.rsa, nil
}

// servedRoots are what stations need to check the server certificates: the own
// roots, unless only files are shown, and those that the files lead to.
func (a *app) servedRoots(context.Context) ([]*x509.Certificate, error) {
	own := a.authority.Roots(ca.KindCSMS)
	if a.certificates == nil {
		return own, nil
	}
	files := a.certificates.files.Load()
	cnOnly := slices.ContainsFunc(a.cfg.Listen.OCPP, func(l config.OCPPListener) bool { return l.CNOnly })
	var list []*x509.Certificate
	if files.ecdsa == nil || files.rsa == nil || cnOnly {
		list = append(list, own...)
	}
	for _, file := range []*tls.Certificate{files.ecdsa, files.rsa} {
		if file == nil {
			continue
		}
		roots, err := rootsOf(file, own)
		if err != nil {
			return nil, err
		}
		list = append(list, roots...)
	}
	return list, nil
}

// rootsOf are the roots of a chain: those it verifies under, the own, the
// system's or one at its own end; else its last certificate stands for them.
func rootsOf(chain *tls.Certificate, own []*x509.Certificate) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, der := range chain.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	top := certs[len(certs)-1]
	if bytes.Equal(top.RawIssuer, top.RawSubject) {
		return []*x509.Certificate{top}, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, root := range own {
		pool.AddCert(root)
	}
	between := x509.NewCertPool()
	for _, cert := range certs[1:] {
		between.AddCert(cert)
	}
	// Its dates are no matter here: an expired chain is served until it is replaced.
	found, err := certs[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, CurrentTime: certs[0].NotAfter})
	if err != nil {
		return []*x509.Certificate{top}, nil //nolint:nilerr // a root that only the stations have
	}
	var roots []*x509.Certificate
	for _, path := range found {
		roots = append(roots, path[len(path)-1])
	}
	return roots, nil
}

// serverNames are what a server certificate says (A00.FR.505: FQDN as CN and SAN).
func serverNames(host string, cnOnly bool) ca.ServerNames {
	switch {
	case cnOnly:
		return ca.ServerNames{DNS: []string{host}, CNOnly: true}
	case net.ParseIP(host) != nil:
		return ca.ServerNames{IPs: []string{host}}
	case host == "localhost":
		return ca.ServerNames{DNS: []string{host}, IPs: []string{"127.0.0.1", "::1"}}
	}
	return ca.ServerNames{DNS: []string{host}}
}

func (a *app) serverCertificates(ctx context.Context, cnOnly bool) (*ca.ServerCertificates, error) {
	name := serverName
	if cnOnly {
		name += "-cn-only"
	}
	return a.authority.ServerCertificates(ctx, serverNames(a.cfg.Host, cnOnly), filepath.Join(a.dir, name))
}
