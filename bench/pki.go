package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// organisation stands in every certificate of the benchmark.
const organisation = "Bench"

func stationName(serial string) pkix.Name {
	return pkix.Name{CommonName: serial, Organization: []string{organisation}}
}

// authority is the benchmark's own CA: for the server certificates of nginx
// and HAProxy, and for the stations when Bollard isn't measured.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Bench Root", Organization: []string{organisation}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("couldn't make the root: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key}, nil
}

// intermediate is a CA below a.
func (a *authority) intermediate(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name, Organization: []string{organisation}},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("couldn't make an intermediate CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key}, nil
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// issue returns a certificate and key as PEM.
func (a *authority) issue(subject pkix.Name, dns ...string) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	usage := x509.ExtKeyUsageClientAuth
	if len(dns) > 0 {
		usage = x509.ExtKeyUsageServerAuth
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: subject, DNSNames: dns,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("couldn't issue a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}

// files are the PEM files the C proxies read.
type files struct {
	dir      string
	server   string // certificate, then key: HAProxy wants one file, nginx accepts it
	clientCA string // roots and issuing CAs of the station certificates
	roots    string // what the generator trusts
	tickets  string // keys of nginx's session tickets, so that they outlive it
	secrets  string // and of HAProxy's
}

// ticketKeys are files of keys of AES-256 with HMAC-SHA256, as nginx
// (ssl_session_ticket_key) and HAProxy (tls-ticket-keys, three at least, the last but
// one seals) read them.
func ticketKeys() (nginx, haproxy []byte) {
	const size, lines = 80, 3
	for range lines {
		key := make([]byte, size)
		_, _ = rand.Read(key) // never fails
		nginx, haproxy = key, fmt.Appendln(haproxy, base64.StdEncoding.EncodeToString(key))
	}
	return nginx, haproxy
}

func (a *authority) writeFiles(dir string) (*files, error) {
	cert, key, err := a.issue(pkix.Name{CommonName: "localhost", Organization: []string{organisation}}, "localhost")
	if err != nil {
		return nil, err
	}
	f := &files{
		dir: dir, server: filepath.Join(dir, "server.pem"), clientCA: filepath.Join(dir, "client-ca.pem"), roots: filepath.Join(dir, "roots.pem"),
		tickets: filepath.Join(dir, "nginx.tickets"), secrets: filepath.Join(dir, "haproxy.tickets"),
	}
	nginx, haproxy := ticketKeys()
	for path, content := range map[string][]byte{
		f.server: append(cert, key...), f.clientCA: a.pem(), f.roots: a.pem(), f.tickets: nginx, f.secrets: haproxy,
	} {
		err = os.WriteFile(path, content, 0o600)
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

// trust adds a root to what the C proxies and the generator accept.
func (f *files) trust(pemBytes []byte) error {
	for _, path := range []string{f.clientCA, f.roots} {
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		err = os.WriteFile(path, bytes.Join([][]byte{old, pemBytes}, nil), 0o600)
		if err != nil {
			return err
		}
	}
	return nil
}
