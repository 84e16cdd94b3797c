package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"time"
)

// applicant is one certificate to be asked for. Everything a client does once, its
// key and its CSR, is made before anything is measured.
type applicant struct {
	identity string
	serial   string // common name and only DNS name, which step-ca insists on
	key      *ecdsa.PrivateKey
	csr      []byte // DER
}

func newApplicants(n int) ([]applicant, error) {
	list := make([]applicant, n)
	for i := range list {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		serial := fmt.Sprintf("SN-%05d", i)
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: stationName(serial), DNSNames: []string{serial}}, key)
		if err != nil {
			return nil, fmt.Errorf("couldn't make a CSR: %w", err)
		}
		list[i] = applicant{identity: fmt.Sprintf("CS-%05d", i), serial: serial, key: key, csr: der}
	}
	return list, nil
}

// issuer is one program that issues over HTTPS.
type issuer interface {
	proxy
	// roots is what its TLS and its certificates are checked against.
	roots() *x509.CertPool
	// credentials are one for each request, good while the server runs.
	credentials(ctx context.Context, list []applicant) ([]string, error)
	// ask is the HTTP request for one certificate.
	ask(ctx context.Context, address string, q applicant, credential string) (*http.Request, error)
	// read returns leaf and issuing CAs of an answer's body.
	read(body []byte) ([]*x509.Certificate, error)
}

// newClient keeps a connection for each of so many callers.
func newClient(roots *x509.CertPool, callers int) *http.Client {
	return &http.Client{Timeout: ioTimeout, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS13},
		MaxConnsPerHost: callers, MaxIdleConnsPerHost: callers,
	}}
}

// fetch carries out requests, so many at once, and returns the bodies.
func fetch(ctx context.Context, client *http.Client, list []*http.Request, parallel int) ([][]byte, error) {
	bodies := make([][]byte, len(list))
	err := each(0, len(list), parallel, func(_ context.Context, i int) error {
		resp, err := client.Do(list[i].WithContext(ctx))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		bodies[i], err = io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		switch {
		case err != nil:
			return fmt.Errorf("an answer is lost: %w", err)
		case resp.StatusCode/100 != 2 || resp.StatusCode == http.StatusAccepted:
			return fmt.Errorf("%s: %.200s", resp.Status, bodies[i])
		}
		return nil
	})
	return bodies, err
}

// verify checks that an answer is the certificate asked for and is trusted.
func verify(by issuer, q applicant, body []byte) (*x509.Certificate, error) {
	chain, err := by.read(body)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errors.New("an answer without a certificate")
	}
	leaf, between := chain[0], x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	if !q.key.PublicKey.Equal(leaf.PublicKey) || leaf.Subject.CommonName != q.serial {
		return nil, fmt.Errorf("a certificate of another key or name came back: %q instead of %q", leaf.Subject.CommonName, q.serial)
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: by.roots(), Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", q.serial, err)
	}
	return leaf, nil
}

// caller is a program that is up, with clients of its own that keep their
// connections.
type caller struct {
	by       issuer
	up       *running
	client   *http.Client
	parallel int
	serials  map[string]bool // of all it issued
}

func call(ctx context.Context, by issuer, parallel int) (*caller, error) {
	up, err := start(ctx, by, "")
	if err != nil {
		return nil, err
	}
	return &caller{by: by, up: up, client: newClient(by.roots(), parallel), parallel: parallel, serials: map[string]bool{}}, nil
}

func (c *caller) end() {
	c.client.CloseIdleConnections()
	c.up.stop()
}

// issued is one measured turn.
type issued struct {
	certificates []*x509.Certificate
	cpu, took    time.Duration // cpu: of the server
	share        float64       // of one core that the clients took
}

// issue has a certificate made for each applicant. What proves them is made
// before that is measured, and every certificate is verified afterwards; no serial
// number may come twice.
func (c *caller) issue(ctx context.Context, list []applicant) (*issued, error) {
	tokens, err := c.by.credentials(ctx, list)
	if err != nil {
		return nil, err
	}
	asked := make([]*http.Request, len(list))
	for i, q := range list {
		asked[i], err = c.by.ask(ctx, c.up.listen, q, tokens[i])
		if err != nil {
			return nil, err
		}
	}
	err = settle(ctx, c.up)
	if err != nil {
		return nil, err
	}
	before, err := cpuTime(c.up.pid())
	if err != nil {
		return nil, err
	}
	began, own := time.Now(), ownCPU()
	var bodies [][]byte
	err = aside(func() (err error) {
		bodies, err = fetch(ctx, c.client, asked, c.parallel)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, c.up.stderr)
	}
	res := &issued{took: time.Since(began)}
	res.share = (ownCPU() - own).Seconds() / res.took.Seconds()
	after, err := cpuTime(c.up.pid())
	if err != nil {
		return nil, err
	}
	res.cpu = after - before
	for i, body := range bodies {
		cert, err := verify(c.by, list[i], body)
		if err != nil {
			return nil, err
		}
		serial := cert.SerialNumber.String()
		if c.serials[serial] {
			return nil, fmt.Errorf("serial number %s came twice", serial)
		}
		c.serials[serial] = true
		res.certificates = append(res.certificates, cert)
	}
	return res, nil
}

// settle waits until a server does nothing by itself, such as signing ahead
// what it serves.
func settle(ctx context.Context, r *running) error {
	const window, calm = 200 * time.Millisecond, 5 * time.Millisecond
	deadline := time.Now().Add(time.Minute)
	for last := -time.Hour; time.Now().Before(deadline); {
		cpu, err := cpuTime(r.pid())
		if err != nil {
			return err
		}
		if cpu-last < calm {
			return nil
		}
		last = cpu
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(window):
		}
	}
	return errors.New("the server doesn't come to rest")
}

// createOnly is the limit: what crypto/x509 alone takes to read and check the
// CSR and to sign, on one goroutine, nothing recorded and nothing sent.
func createOnly(own *authority, list []applicant) (time.Duration, error) {
	before := ownCPU()
	for i, q := range list {
		csr, err := x509.ParseCertificateRequest(q.csr)
		if err != nil {
			return 0, err
		}
		err = csr.CheckSignature()
		if err != nil {
			return 0, err
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 1000), Subject: csr.Subject,
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		}
		_, err = x509.CreateCertificate(rand.Reader, template, own.cert, csr.PublicKey, own.key)
		if err != nil {
			return 0, err
		}
	}
	return ownCPU() - before, nil
}

// readPEM reads all certificates of a PEM file or text.
func readPEM(text []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("that is no PEM")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list, text = append(list, cert), rest
	}
	return list, nil
}

func poolOf(pemBytes []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pemBytes) {
		return nil, errors.New("no certificate among the roots")
	}
	return pool, nil
}

func writePrivate(path string, content []byte) error {
	err := os.WriteFile(path, content, 0o600)
	if err != nil {
		return fmt.Errorf("couldn't write %s: %w", path, err)
	}
	return nil
}
