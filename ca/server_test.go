package ca_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bollard/ca"
	"bollard/keys"
)

var serverNames = ca.ServerNames{DNS: []string{"csms.example.com", "localhost"}, IPs: []string{"127.0.0.1", "::1"}}

func (r *rig) servers(t *testing.T, names ca.ServerNames) *ca.ServerCertificates {
	t.Helper()
	s, err := r.ServerCertificates(t.Context(), names, filepath.Join(r.dir, "server"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// handshake over loopback; returns what the client saw.
func (r *rig) handshake(t *testing.T, s *ca.ServerCertificates, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	server := &tls.Config{
		GetCertificate: s.GetCertificate, Time: r.clock, MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		c := tls.Server(conn, server)
		if c.Handshake() == nil {
			_, _ = io.Copy(io.Discard, c)
		}
	}()
	conn, err := net.DialTimeout("tcp", listener.Addr().String(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	client.Time = r.clock
	client.RootCAs = x509.NewCertPool()
	client.RootCAs.AddCert(r.Roots(ca.KindCSMS)[0])
	c := tls.Client(conn, client)
	err = c.Handshake()
	state := c.ConnectionState()
	_ = conn.Close()
	<-done
	return state, err
}

// A00.FR.510, .318: one certificate of each kind, picked by what a client can.
func TestServerCertificateFitsTheClient(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.servers(t, serverNames)
	suites := func(list ...uint16) *tls.Config {
		return &tls.Config{ServerName: "csms.example.com", MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, CipherSuites: list}
	}
	tests := []struct {
		name   string
		client *tls.Config
		rsa    bool
	}{
		{"TLS 1.3", &tls.Config{ServerName: "csms.example.com", MinVersion: tls.VersionTLS13}, false},
		{"TLS 1.2, any", &tls.Config{ServerName: "localhost", MaxVersion: tls.VersionTLS12}, false},
		{"ECDSA only", suites(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), false},
		{"ECDHE RSA only", suites(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256), true},
		{"RSA key exchange only", suites(tls.TLS_RSA_WITH_AES_128_GCM_SHA256), true},
		{"RSA key exchange AES-256", suites(tls.TLS_RSA_WITH_AES_256_GCM_SHA384), true},
		{"by address", &tls.Config{ServerName: "127.0.0.1"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			state, err := r.handshake(t, s, tt.client)
			if err != nil {
				t.Fatal(err)
			}
			if _, got := state.PeerCertificates[0].PublicKey.(*rsa.PublicKey); got != tt.rsa {
				t.Errorf("RSA certificate %t, want %t", got, tt.rsa)
			}
			if len(state.PeerCertificates) != 2 || state.PeerCertificates[1].Subject.String() != r.Intermediates(ca.KindCSMS)[0].Subject.String() {
				t.Errorf("%d certificates sent, want leaf and issuing CA", len(state.PeerCertificates))
			}
		})
	}
	// A station may ask for any name: what it gets is for it to judge.
	t.Run("unknown SNI", func(t *testing.T) {
		t.Parallel()
		cfg := suites(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)
		cfg.ServerName, cfg.InsecureSkipVerify = "other.example.com", true //nolint:gosec // only the choice is tested
		state, err := r.handshake(t, s, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := state.PeerCertificates[0].PublicKey.(*rsa.PublicKey); !ok {
			t.Error("an RSA-only client with an unknown SNI got another certificate")
		}
	})
}

func TestServerCertificateProfile(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, c := range r.servers(t, serverNames).Current() {
		leaf := c.Leaf
		if leaf.Subject.CommonName != "csms.example.com" || !slices.Equal(leaf.DNSNames, serverNames.DNS) || len(leaf.IPAddresses) != 2 {
			t.Errorf("names %s %v %v", leaf.Subject, leaf.DNSNames, leaf.IPAddresses)
		}
		if want := start.AddDate(0, 0, 90).Add(-time.Second); !leaf.NotAfter.Equal(want) {
			t.Errorf("notAfter %s, want %s", leaf.NotAfter, want)
		}
		if !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
			t.Errorf("EKU %v", leaf.ExtKeyUsage)
		}
		want := x509.KeyUsageDigitalSignature
		if _, ok := leaf.PublicKey.(*rsa.PublicKey); ok {
			want |= x509.KeyUsageKeyEncipherment
		}
		if leaf.KeyUsage != want {
			t.Errorf("key usage %#x, want %#x", int(leaf.KeyUsage), int(want))
		}
	}
}

// A00.FR.511 note: a certificate without SAN for old stations.
func TestServerCertificateCNOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, c := range r.servers(t, ca.ServerNames{DNS: []string{"csms.example.com"}, CNOnly: true}).Current() {
		if c.Leaf.Subject.CommonName != "csms.example.com" || len(c.Leaf.DNSNames)+len(c.Leaf.IPAddresses) != 0 {
			t.Errorf("names %s %v %v", c.Leaf.Subject, c.Leaf.DNSNames, c.Leaf.IPAddresses)
		}
	}
	if _, err := r.ServerCertificates(t.Context(), ca.ServerNames{}, r.dir); err == nil {
		t.Error("no name was accepted")
	}
	if _, err := r.ServerCertificates(t.Context(), ca.ServerNames{IPs: []string{"x"}}, r.dir); err == nil {
		t.Error("a wrong address was accepted")
	}
}

func TestServerCertificatesSurviveARestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := r.servers(t, serverNames).Current()
	r.open(t)
	after := r.servers(t, serverNames).Current()
	for i := range before {
		if !before[i].Leaf.Equal(after[i].Leaf) {
			t.Errorf("certificate %d was issued anew", i)
		}
	}
	// Another name, another certificate.
	other := r.servers(t, ca.ServerNames{DNS: []string{"new.example.com"}}).Current()
	if other[0].Leaf.Equal(before[0].Leaf) {
		t.Error("the old certificate serves for another name")
	}
	// A lost key: a new pair.
	if err := os.RemoveAll(filepath.Join(r.dir, "server")); err != nil {
		t.Fatal(err)
	}
	r.open(t)
	if again := r.servers(t, serverNames).Current(); again[0].Leaf.Equal(before[0].Leaf) {
		t.Error("a certificate without its key is served")
	}
	// A revoked one isn't taken up again.
	current := r.servers(t, serverNames).Current()
	if _, err := r.Revoke(t.Context(), ca.SerialOf(current[1].Leaf), "superseded", "operator"); err != nil {
		t.Fatal(err)
	}
	r.open(t)
	if again := r.servers(t, serverNames).Current(); again[1].Leaf.Equal(current[1].Leaf) {
		t.Error("a revoked server certificate is served")
	}
}

// A server that starts while nothing can be signed, since the disk is full, Vault is
// sealed or the clock is behind, serves what it has, due or not.
func TestServerCertificatesThatCantBeRenewedAtTheStart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := r.servers(t, serverNames)
	r.now = before.Due().Add(5 * 24 * time.Hour) // both
	r.store.FailWith("PutIntent", errors.New("no space left on device"))
	r.open(t)
	after := r.servers(t, serverNames)
	for i, c := range after.Current() {
		if !c.Leaf.Equal(before.Current()[i].Leaf) {
			t.Errorf("certificate %d is another one", i)
		}
	}
	if _, err := r.ServerCertificates(t.Context(), ca.ServerNames{DNS: []string{"new.example.com"}}, filepath.Join(r.dir, "server")); err == nil {
		t.Error("there are certificates for a name that never had one")
	}
	r.store.FailWith("PutIntent", nil)
	if err := after.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, c := range after.Current() {
		if c.Leaf.Equal(before.Current()[i].Leaf) {
			t.Errorf("certificate %d wasn't renewed", i)
		}
	}
}

// Renewed by themselves before half their life is over, each time with a new key;
// a failure leaves the present one in use and is tried again.
func TestServerCertificatesRenewThemselves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := ca.NewMemStore()
		dir := t.TempDir()
		keeper, err := keys.New(keys.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := ca.Init(t.Context(), ca.InitConfig{Store: store, Keeper: keeper, Organisation: "Example CPO", Clock: time.Now}); err != nil {
			t.Fatal(err)
		}
		a, err := ca.New(t.Context(), ca.Config{Store: store, Keeper: keeper, Organisation: "Example CPO", Clock: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		s, err := a.ServerCertificates(t.Context(), serverNames, filepath.Join(dir, "server"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Maintain(ctx) }()
		first := s.Current()
		time.Sleep(41 * 24 * time.Hour)
		synctest.Wait()
		if !s.Current()[0].Leaf.Equal(first[0].Leaf) {
			t.Error("renewed too early")
		}
		if half := first[0].Leaf.NotBefore.Add(first[0].Leaf.NotAfter.Sub(first[0].Leaf.NotBefore) / 2); !s.Due().Before(half) {
			t.Errorf("due at %s, half its life is over at %s", s.Due(), half)
		}
		// Both fall due between day 41.4 and 43.2; when they do, the disk is full.
		store.FailWith("PutIntent", errors.New("no space left on device"))
		time.Sleep(time.Until(s.Due()) + 3*time.Hour)
		synctest.Wait()
		for i, c := range s.Current() {
			if !c.Leaf.Equal(first[i].Leaf) {
				t.Errorf("certificate %d was renewed without a record", i)
			}
		}
		store.FailWith("PutIntent", nil)
		time.Sleep(3 * 24 * time.Hour)
		synctest.Wait()
		for i, c := range s.Current() {
			if c.Leaf.Equal(first[i].Leaf) {
				t.Errorf("certificate %d wasn't renewed", i)
			}
			if bytes.Equal(c.Leaf.RawSubjectPublicKeyInfo, first[i].Leaf.RawSubjectPublicKeyInfo) {
				t.Errorf("certificate %d has its old key", i)
			}
			if !time.Now().Before(c.Leaf.NotAfter) {
				t.Errorf("certificate %d is expired", i)
			}
		}
		// No key is left behind, neither of the old ones nor of failed tries.
		files, err := os.ReadDir(filepath.Join(dir, "server"))
		if err != nil || len(files) != 2 {
			t.Errorf("%d key files, %v", len(files), err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestPickCertificate(t *testing.T) {
	t.Parallel()
	if _, err := ca.PickCertificate(&tls.ClientHelloInfo{}); err == nil {
		t.Error("nothing was picked")
	}
	r := newRig(t)
	pair := r.servers(t, serverNames).Current()
	if _, ok := pair[0].Leaf.PublicKey.(*ecdsa.PublicKey); !ok {
		t.Error("ECDSA doesn't come first")
	}
	got, err := ca.PickCertificate(&tls.ClientHelloInfo{}, nil, pair[0], pair[1])
	if err != nil || got != pair[1] {
		t.Errorf("for a client that fits none: %v, %v", got, err)
	}
	if strings.Contains(pair[1].Leaf.Subject.String(), "NL") {
		t.Error("a leaf carries the country")
	}
}
