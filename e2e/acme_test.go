package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/net/dns/dnsmessage"
)

// loopbackDNS is a DNS server that knows every name, at 127.0.0.1. For the first second it
// is asked about one below "moody" it can't say (SERVFAIL).
func loopbackDNS(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 1500)
		first := map[string]time.Time{}
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			q := m.Questions[0]
			name := q.Name.String()
			if _, known := first[name]; !known {
				first[name] = time.Now()
			}
			if strings.Contains(name, ".moody.") && time.Since(first[name]) < time.Second {
				m.RCode = dnsmessage.RCodeServerFailure
			} else if q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}
			}
			if packed, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// newACMEServer is a server that asks names at this port. It isn't started yet.
func newACMEServer(t *testing.T, port int) *server {
	t.Helper()
	srv := newESTServer(t)
	srv.conf["acme"] = map[string]any{"names": []string{"*.servers.example"}, "networks": []string{"127.0.0.1/32"}, "resolver": loopbackDNS(t), "http_port": port}
	srv.configure()
	return srv
}

// laterPort is a port that a tool binds later. It is from below those that the
// kernel gives to outgoing connections: one of these could have it by then.
func laterPort(t *testing.T) int {
	t.Helper()
	const first, last = 20000, 32767 // net.ipv4.ip_local_port_range begins at 32768
	for range 100 {
		port := first + mathrand.IntN(last-first+1)
		if bound, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			_ = bound.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// directory of the running server.
func (s *server) directory() string {
	return strings.TrimSuffix(s.est().url, "/.well-known/est/") + "/acme/names/directory"
}

func (s *server) acmeToken() (kid, hmac string) {
	s.t.Helper()
	var made struct {
		KID  string `json:"eab_kid"`
		HMAC string `json:"eab_hmac_key"`
	}
	s.cliJSON(&made, "acme", "token")
	return made.KID, made.HMAC
}

// lego and certbot get, renew and revoke a certificate, though the resolver fails at first.
func TestACMEClients(t *testing.T) {
	t.Parallel()
	for name, tool := range map[string]func(srv *server, port, dir string) (run, renew, revoke []string, cert string){
		"lego": func(srv *server, port, dir string) (run, renew, revoke []string, cert string) {
			kid, hmac := srv.acmeToken()
			all := []string{"lego", "--server", srv.directory(), "--email", "nobody@servers.example", "--accept-tos", "--path", dir, "--domains", "lego.moody.servers.example",
				"--http", "--http.port", "127.0.0.1:" + port, "--eab", "--kid", kid, "--hmac", hmac}
			with := func(more ...string) []string { return append(all[:len(all):len(all)], more...) }
			return with("run"), with("renew", "--days", "365", "--no-random-sleep"), with("revoke", "--keep"), filepath.Join(dir, "certificates", "lego.moody.servers.example.crt")
		},
		"certbot": func(srv *server, port, dir string) (run, renew, revoke []string, cert string) {
			kid, hmac := srv.acmeToken()
			all := func(more ...string) []string {
				return append([]string{"certbot", more[0], "--non-interactive", "--server", srv.directory(), "--config-dir", dir, "--work-dir", dir, "--logs-dir", dir}, more[1:]...)
			}
			cert = filepath.Join(dir, "live", "certbot.moody.servers.example", "cert.pem")
			return all("certonly", "--standalone", "--http-01-port", port, "--http-01-address", "127.0.0.1", "--agree-tos", "--register-unsafely-without-email",
					"--eab-kid", kid, "--eab-hmac-key", hmac, "--domain", "certbot.moody.servers.example"),
				all("renew", "--force-renewal", "--no-random-sleep-on-renew"), all("revoke", "--cert-path", cert, "--no-delete-after-revoke", "--reason", "superseded"), cert
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := laterPort(t)
			srv := newACMEServer(t, port)
			srv.start()
			dir := t.TempDir()
			run, renew, revoke, cert := tool(srv, strconv.Itoa(port), dir)
			var serials []string
			for _, args := range [][]string{run, renew} {
				srv.client(args)
				serials = append(serials, serialOf(t, cert))
			}
			srv.client(revoke)
			if serials[0] == serials[1] {
				t.Error("renewed, it is the same certificate")
			}
			for i, want := range []string{"issued", "revoked"} {
				var shown struct {
					State   string `json:"state"`
					Profile string `json:"profile"`
				}
				srv.cliJSON(&shown, "cert", "show", serials[i])
				if shown.State != want || shown.Profile != "server" {
					t.Errorf("certificate %d is %+v, want %s", i+1, shown, want)
				}
			}
			srv.stop()
			srv.cli("ledger", "verify")
		})
	}
}

// client runs somebody else's ACME client, which must succeed.
func (s *server) client(args []string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "LEGO_CA_CERTIFICATES="+s.root, "REQUESTS_CA_BUNDLE="+s.root)
	if out, err := cmd.CombinedOutput(); err != nil {
		said := strings.Split(strings.TrimSpace(string(out)), "\n")
		s.t.Fatalf("%s: %v: …%s\n%s\n%s\n%s", args[0], err, said[len(said)-1], strings.Join(args, " "), tail(string(out), 3000), tail(s.proc.log.String(), 3000))
	}
}

func serialOf(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("%s has no certificate", file)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert.SerialNumber.Text(16)
}

// kill -9 while a certificate is made through the ACME door: the same request
// brings it after the restart, once, and nothing was signed that isn't recorded
// (Shown by 4).
func TestACMEKilled(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	pages := map[string]string{}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	names := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprint(w, pages[r.URL.Path])
	})}
	go func() { _ = names.Serve(web) }()
	t.Cleanup(func() { _ = names.Close() })
	srv := newACMEServer(t, web.Addr().(*net.TCPAddr).Port)
	srv.start()
	kid, hmac := srv.acmeToken()
	secret, err := base64.RawURLEncoding.DecodeString(hmac)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(srv.root)
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no root", err)
	}
	account := newECKey(t)
	// The port changes with each start, and with it every URL.
	client := func() *acme.Client {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		t.Cleanup(transport.CloseIdleConnections)
		return &acme.Client{Key: account, DirectoryURL: srv.directory(), HTTPClient: &http.Client{Transport: transport},
			RetryBackoff: func(int, *http.Request, *http.Response) time.Duration { return -1 }}
	}
	if _, err := client().Register(t.Context(), &acme.Account{ExternalAccountBinding: &acme.ExternalAccountBinding{KID: kid, Key: secret}}, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	srv.stop()
	for i, point := range []string{"acme.processing", "ca.after-sign", "acme.issued"} {
		srv.start("BOLLARD_FAILPOINT=" + point)
		c := client()
		if _, err := c.GetReg(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		host := fmt.Sprintf("n%d.servers.example", i)
		order, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs(host))
		if err != nil {
			t.Fatal(err)
		}
		z, err := c.GetAuthorization(t.Context(), order.AuthzURLs[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, challenge := range z.Challenges {
			if challenge.Type != "http-01" {
				continue
			}
			mu.Lock()
			pages[c.HTTP01ChallengePath(challenge.Token)], err = c.HTTP01ChallengeResponse(challenge.Token)
			mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Accept(t.Context(), challenge); err != nil {
				t.Fatal(err)
			}
		}
		key := newECKey(t)
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{host}}, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.CreateOrderCert(t.Context(), order.FinalizeURL, csr, false); err == nil {
			t.Fatalf("%s: the server lives on", point)
		}
		<-srv.proc.done
		path := order.URI[strings.Index(order.URI, "/acme/"):]
		srv.start()
		c = client()
		if _, err := c.GetReg(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		base := strings.TrimSuffix(srv.directory(), "/acme/names/directory")
		state, err := c.GetOrder(t.Context(), base+path)
		if err != nil {
			t.Fatalf("%s: %v", point, err)
		}
		var chain [][]byte
		if state.Status == acme.StatusValid {
			chain, err = c.FetchCert(t.Context(), state.CertURL, false)
		} else {
			chain, _, err = c.CreateOrderCert(t.Context(), state.FinalizeURL, csr, false)
		}
		if err != nil {
			t.Fatalf("%s: after the restart, order %s: %v", point, state.Status, err)
		}
		cert, err := x509.ParseCertificate(chain[0])
		if err != nil || !key.PublicKey.Equal(cert.PublicKey) {
			t.Fatalf("%s: another certificate: %v", point, err)
		}
		var list struct {
			Certificates []struct {
				Serial, State, Subject string
			} `json:"certificates"`
		}
		srv.cliJSON(&list, "cert", "list")
		issued, given := 0, false
		for _, one := range list.Certificates {
			if strings.Contains(one.Subject, host) {
				if one.State == "issued" {
					issued++
				}
				given = given || one.Serial == cert.SerialNumber.Text(16) && one.State == "issued"
			}
		}
		if issued != 1 || !given {
			t.Errorf("%s: %d certificates are issued; the one given among them: %t", point, issued, given)
		}
		srv.stop()
	}
	srv.cli("ledger", "verify")
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
