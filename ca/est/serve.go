package est

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"bollard/internal/crowd"
)

// Listener is the TLS door in front of a handler.
type Listener struct {
	Net     net.Listener // already bound; TLS is added here
	Handler http.Handler
	// Certificate picks the server certificate.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Subjects are the CA names sent in CertificateRequest: a hint only.
	Subjects  func(ctx context.Context) (*x509.CertPool, error)
	PerSource int           // open connections of one address (IPv6: /64); 0 means 64
	Drain     time.Duration // for open requests at the end
	Log       *slog.Logger
}

// maxOpen bounds the connections of all sources together.
const maxOpen = 1024

// subjectsFor is how long the CA names may be old.
const subjectsFor = 5 * time.Second

// Serve serves until ctx ends, then waits at most Drain for running requests.
func (l Listener) Serve(ctx context.Context) error {
	if l.PerSource <= 0 {
		l.PerSource = 64
	}
	server := &http.Server{
		Handler: l.Handler,
		// The handshake has as long as the head. Nobody has more than 8 KiB to say.
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       20 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(l.Log.Handler(), slog.LevelDebug), // what peers do wrong
		TLSConfig:         l.tls(),
		// HTTP/1.1 as RFC 7030 has it: one connection, one request at a time.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	ended := make(chan error, 1)
	go func() {
		ended <- server.ServeTLS(crowd.Limit(l.Net, l.PerSource, maxOpen), "", "")
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("couldn't serve enrolment on %s: %w", l.Net.Addr(), err)
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.Drain)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		_ = server.Close() // the drain time is over: cut what still runs
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("couldn't serve enrolment on %s: %w", l.Net.Addr(), err)
	}
	return nil
}

// tls asks for a certificate and demands none (RFC 7030 §3.3.2): the Registrar
// judges what comes, and can say why not.
func (l Listener) tls() *tls.Config {
	base := &tls.Config{
		MinVersion:     tls.VersionTLS12, // RFC 7030 asks for 1.1; RFC 8996 ended that
		GetCertificate: l.Certificate,
		ClientAuth:     tls.RequestClientCert,
		NextProtos:     []string{"http/1.1"},
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
	if l.Subjects == nil {
		return base
	}
	var mu sync.Mutex
	var current *tls.Config
	var fresh time.Time
	outer := base.Clone()
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		if current != nil && time.Since(fresh) < subjectsFor {
			return current, nil
		}
		pool, err := l.Subjects(hello.Context())
		if err != nil {
			l.Log.Error("couldn't read the CA names for TLS handshakes", slog.Any("err", err))
			return current, nil // nil: the outer configuration, without names
		}
		current, fresh = base.Clone(), time.Now()
		current.ClientCAs = pool
		return current, nil
	}
	return outer
}
