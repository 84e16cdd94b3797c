package est_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"bollard/ca/est"
)

// listening is a running est.Listener.
type listening struct {
	address string
	pool    *x509.CertPool
	stop    func() error
}

func listen(t *testing.T, edit func(*est.Listener)) *listening {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	bound, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pair := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	l := est.Listener{
		Net: bound, Handler: newRig(t).handler, Drain: time.Second, Log: slog.New(slog.DiscardHandler),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair, nil },
	}
	if edit != nil {
		edit(&l)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(ctx) }()
	s := &listening{address: bound.Addr().String(), pool: x509.NewCertPool()}
	s.pool.AddCert(cert)
	s.stop = func() error { cancel(); return <-ended }
	t.Cleanup(func() { cancel() })
	return s
}

func (s *listening) config() *tls.Config {
	return &tls.Config{RootCAs: s.pool, ServerName: "localhost"}
}

func TestListenerServesAndDrains(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	transport := &http.Transport{TLSClientConfig: s.config()}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + s.address + est.Prefix + "cacerts")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 1 {
		t.Errorf("%s %s", resp.Proto, resp.Status)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if conn, err := tls.Dial("tcp", s.address, s.config()); err == nil {
		_ = conn.Close()
		t.Error("still served after the end")
	}
}

func TestListenerRefusesOldTLS(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	cfg := s.config()
	cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if conn, err := tls.Dial("tcp", s.address, cfg); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.1 was accepted")
	}
	cfg = s.config()
	cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	if conn, err := tls.Dial("tcp", s.address, cfg); err == nil {
		_ = conn.Close()
		t.Error("a suite without forward secrecy or AEAD was accepted")
	}
}

// A certificate is asked for with the names of the CAs, and not demanded.
func TestListenerAsksForCertificates(t *testing.T) {
	t.Parallel()
	root := selfSigned(t, "stations")
	for name, subjects := range map[string]func(context.Context) (*x509.CertPool, error){
		"names": func(context.Context) (*x509.CertPool, error) {
			pool := x509.NewCertPool()
			pool.AddCert(root)
			return pool, nil
		},
		"names that can't be read": func(context.Context) (*x509.CertPool, error) { return nil, errors.New("no") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := listen(t, func(l *est.Listener) { l.Subjects = subjects })
			asked := 0
			var names [][]byte
			cfg := s.config()
			cfg.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
				asked++
				names = info.AcceptableCAs
				return &tls.Certificate{}, nil
			}
			conn, err := tls.Dial("tcp", s.address, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if asked != 1 {
				t.Error("no certificate was asked for")
			}
			if want := map[string]int{"names": 1}[name]; len(names) != want {
				t.Errorf("%d CA names, want %d", len(names), want)
			}
		})
	}
}

// One source gets no more than its connections; when it leaves, there is room.
func TestListenerBoundsOneSource(t *testing.T) {
	t.Parallel()
	s := listen(t, func(l *est.Listener) { l.PerSource = 2 })
	dial := func() (*tls.Conn, error) { return tls.Dial("tcp", s.address, s.config()) }
	var held []*tls.Conn
	for range 2 {
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	if conn, err := dial(); err == nil {
		_ = conn.Close()
		t.Error("a third connection was served")
	}
	_ = held[0].Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := dial()
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no room after one left: %v", err)
		}
	}
	_ = held[1].Close()
}
