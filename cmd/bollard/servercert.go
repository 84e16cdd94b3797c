package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"net"
	"path/filepath"
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
