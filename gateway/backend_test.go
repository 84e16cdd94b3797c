package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"bollard/e2e/rawws"
	"bollard/gateway"
)

// secureCSMS is a wss back end with the given certificate; it tells the client's CN.
func secureCSMS(t *testing.T, cert tls.Certificate, auth tls.ClientAuthType) (port string, clients chan string) {
	t.Helper()
	l := must(tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: auth, ClientCAs: testPKI().roots}))
	clients = make(chan string, 1)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			ws, _, err := rawws.Server(conn, func(*http.Request) (string, int) { return "ocpp1.6", 101 })
			if err != nil {
				conn.Close()
				continue
			}
			name := ""
			if peers := conn.(*tls.Conn).ConnectionState().PeerCertificates; len(peers) > 0 {
				name = peers[0].Subject.CommonName
			}
			clients <- name
			all.Go(func() { defer conn.Close(); _, _ = ws.ReadMessage() })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, clients
}

// A00.FR.510 and threat A9: the back end must prove itself, by the operator's trust.
func TestBackendTrust(t *testing.T) {
	t.Parallel()
	p := testPKI()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	for _, tt := range []struct {
		name   string
		cert   tls.Certificate
		cnOnly bool
		roots  *x509.CertPool
		ok     bool
	}{
		{"SAN", p.leaf("x", key, "localhost"), false, p.roots, true},
		{"other name", p.leaf("localhost", key, "other.example"), false, p.roots, false},
		{"unknown root", p.leaf("localhost", key, "localhost"), false, x509.NewCertPool(), false},
		{"only CN, not allowed", p.leaf("localhost", key), false, p.roots, false},
		{"only CN", p.leaf("localhost", key), true, p.roots, true},
		{"only CN, other name", p.leaf("other.example", key), true, p.roots, false},
		{"only CN, unknown root", p.leaf("localhost", key), true, x509.NewCertPool(), false},
		{"CN-only allowed, SAN wrong", p.leaf("localhost", key, "other.example"), true, p.roots, false},
		{"CN-only allowed, SAN right", p.leaf("x", key, "localhost"), true, p.roots, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			port, clients := secureCSMS(t, tt.cert, tls.RequestClientCert)
			r := newRig(t, func(cfg *gateway.Config, _ *rig) {
				cfg.Backends[0].URL = "wss://localhost:" + port
				cfg.Backends[0].TLS = &tls.Config{RootCAs: tt.roots}
				cfg.Backends[0].CNOnly = tt.cnOnly
			})
			s, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", nil))
			if (err == nil) != tt.ok || err != nil && status(err) != 503 {
				t.Fatalf("got %v, want ok=%t", err, tt.ok)
			}
			if tt.ok {
				if name := <-clients; name != "" {
					t.Errorf("a client certificate went out unasked: %s", name)
				}
				s.conn.Close()
			}
		})
	}
}

func TestMutualTLSToTheBackend(t *testing.T) {
	t.Parallel()
	p := testPKI()
	port, clients := secureCSMS(t, p.ecdsa, tls.RequireAnyClientCert)
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Backends[0].URL = "wss://localhost:" + port
		cfg.Backends[0].Auth = "mtls"
		cfg.Backends[0].TLS = &tls.Config{RootCAs: p.roots, Certificates: []tls.Certificate{p.client("gateway")}}
	})
	s, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", nil))
	if err != nil {
		t.Fatal(err)
	}
	if name := <-clients; name != "gateway" {
		t.Errorf("the back end saw %q", name)
	}
	s.conn.Close()
}

func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		want   string
		change func(*gateway.Config)
	}{
		{"ws:// or wss://", func(c *gateway.Config) { c.Backends[0].URL = "https://x" }},
		{"credentials", func(c *gateway.Config) { c.Backends[0].URL = "wss://u:p@x" }},
		{"query", func(c *gateway.Config) { c.Backends[0].URL = "wss://x/?a=b" }},
		{"no password", func(c *gateway.Config) { c.Backends[0].Auth = "basic-shared" }},
		{"client certificate", func(c *gateway.Config) { c.Backends[0].Auth = "mtls" }},
		{"unknown", func(c *gateway.Config) { c.Backends[0].Auth = "digest" }},
		{"unknown", func(c *gateway.Config) { c.Backends[0].Security = "none" }},
		{"pattern", func(c *gateway.Config) { c.Backends[0].Match.Identity = "[" }},
		{"at least one back end", func(c *gateway.Config) { c.Backends = nil }},
		{"stand alone", func(c *gateway.Config) { c.Listeners[0].Profiles = []int{1, 2} }},
		{"no server certificate", func(c *gateway.Config) { c.Listeners[0].Certificate = nil }},
		{"set allow", func(c *gateway.Config) { c.Listeners[0].Legacy = true }},
		{"slash", func(c *gateway.Config) { c.Path = "ocpp" }},
		{"401 or 404", func(c *gateway.Config) { c.UnknownIdentity = 418 }},
	} {
		l := must(net.Listen("tcp", "127.0.0.1:0"))
		cfg := gateway.Config{
			Listeners: []gateway.Listener{{Name: "a", Net: l, Profiles: []int{2}, Certificate: serverCertificate}},
			Door:      &door{}, Guard: &guard{}, Backends: []gateway.Backend{{URL: "ws://127.0.0.1:1"}},
		}
		tt.change(&cfg)
		if _, err := gateway.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want an error with %q", err, tt.want)
		}
		l.Close()
	}
}
