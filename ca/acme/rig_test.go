package acme_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	client "golang.org/x/crypto/acme"
	"golang.org/x/net/dns/dnsmessage"

	"bollard/ca"
	"bollard/ca/acme"
	"bollard/keys"
	"bollard/ledger"
	"bollard/store"
)

var start = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// rig is a door over the real store and authority, and the names it asks.
type rig struct {
	t         *testing.T
	store     *store.Store
	authority *ca.Authority
	names     *acme.Names
	config    acme.Config
	server    *httptest.Server
	tls       net.Listener // of tls-alpn-01

	mu      sync.Mutex
	now     time.Time
	address netip.Addr        // of every name
	texts   map[string]string // TXT records
	pages   map[string]string // of http-01
	page    http.HandlerFunc  // instead of pages
	shown   *tls.Certificate  // of tls-alpn-01
	silent  bool              // the DNS server says nothing
	rcode   dnsmessage.RCode  // it says to everything; 0: answers

	probing acme.ProberConfig
}

func newRig(t *testing.T, edit ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, now: start, address: netip.MustParseAddr("127.0.0.1"), texts: map[string]string{}, pages: map[string]string{}}
	dir := t.TempDir()
	var err error
	if r.store, err = store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "bollard.db"), Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.store.Close() })
	keeper, err := keys.New(keys.Config{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Init(t.Context(), ca.InitConfig{Store: r.store, Keeper: keeper, Organisation: "Example CPO", Country: "NL", Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	if r.authority, err = ca.New(t.Context(), ca.Config{Store: r.store, Keeper: keeper, Organisation: "Example CPO", Country: "NL", Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(r.serveName))
	t.Cleanup(web.Close)
	r.listenTLS()
	r.names = &acme.Names{Allow: []string{"one.example", "*.two.example"}, Own: []string{"own.two.example"}, Issuer: r.authority}
	r.probing = acme.ProberConfig{
		Hosts: r.names.Allow, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Resolver: r.listenDNS(),
		HTTPPort: web.Listener.Addr().(*net.TCPAddr).Port, TLSPort: r.tls.Addr().(*net.TCPAddr).Port,
	}
	r.names.Prober, err = acme.NewProber(r.probing)
	if err != nil {
		t.Fatal(err)
	}
	r.config = acme.Config{
		Prefix: "/acme/names", Host: "127.0.0.1", Desk: r.names, Store: r.store, Certificates: r.authority, Clock: r.clock,
		Open: func(_ string, sealed []byte) ([]byte, error) { return bytes.Clone(sealed[1:]), nil },
	}
	for _, f := range edit {
		f(r)
	}
	door, err := acme.New(r.config)
	if err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewTLSServer(door)
	t.Cleanup(r.server.Close)
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func seal(_ string, secret []byte) ([]byte, error) { return append([]byte("s"), secret...), nil }

// token makes one.
func (r *rig) token(names ...string) (kid string, key []byte) {
	r.t.Helper()
	token, text, err := acme.NewToken(r.t.Context(), r.store, seal, r.clock(), "operator", names, time.Hour)
	if err != nil {
		r.t.Fatal(err)
	}
	key, err = base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return token.ID, key
}

// serveName is the web server of every name.
func (r *rig) serveName(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	page, instead := r.pages[q.URL.Path], r.page
	r.mu.Unlock()
	if instead != nil {
		instead(w, q)
		return
	}
	if page == "" {
		http.NotFound(w, q)
		return
	}
	fmt.Fprintln(w, page)
}

// listenTLS answers tls-alpn-01 with the certificate shown.
func (r *rig) listenTLS() {
	r.t.Helper()
	bound, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.tls = bound
	r.t.Cleanup(func() { _ = bound.Close() })
	cfg := &tls.Config{NextProtos: []string{"acme-tls/1"}, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.shown == nil {
			return nil, fmt.Errorf("none")
		}
		return r.shown, nil
	}}
	go func() {
		for {
			conn, err := bound.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = tls.Server(conn, cfg).Handshake()
				_, _ = io.Copy(io.Discard, conn)
			}()
		}
	}()
}

// listenDNS is a DNS server for every name.
func (r *rig) listenDNS() string {
	r.t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			if !r.answer(&m) {
				continue
			}
			if packed, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

func (r *rig) answer(m *dnsmessage.Message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := m.Questions[0]
	m.Response, m.Additionals = true, nil
	head := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
	text := r.texts[q.Name.String()]
	switch {
	case r.rcode != 0:
		m.RCode = r.rcode
	case q.Type == dnsmessage.TypeA && r.address.Is4():
		m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: r.address.As4()}}}
	case q.Type == dnsmessage.TypeTXT && text != "":
		m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.TXTResource{TXT: []string{text}}}}
	case q.Type == dnsmessage.TypeTXT:
		m.RCode = dnsmessage.RCodeNameError
	}
	return !r.silent
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// client is somebody else's ACME client (golang.org/x/crypto/acme).
func (r *rig) client() *client.Client {
	return &client.Client{Key: newKey(r.t), HTTPClient: r.server.Client(), DirectoryURL: r.server.URL + "/acme/names/directory", RetryBackoff: func(int, *http.Request, *http.Response) time.Duration { return -1 }}
}

// registered is a client with an account.
func (r *rig) registered(names ...string) *client.Client {
	r.t.Helper()
	c := r.client()
	account := &client.Account{}
	if r.config.Open != nil {
		kid, key := r.token(names...)
		account.ExternalAccountBinding = &client.ExternalAccountBinding{KID: kid, Key: key}
	}
	if _, err := c.Register(r.t.Context(), account, client.AcceptTOS); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func request(t testing.TB, key crypto.Signer, names ...string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// prove answers the challenge of a kind of each authorization of an order.
func (r *rig) prove(c *client.Client, order *client.Order, kind string) error {
	r.t.Helper()
	for _, url := range order.AuthzURLs {
		z, err := c.GetAuthorization(r.t.Context(), url)
		if err != nil {
			return err
		}
		for _, challenge := range z.Challenges {
			if challenge.Type != kind {
				continue
			}
			r.show(c, z.Identifier.Value, challenge)
			if _, err := c.Accept(r.t.Context(), challenge); err != nil {
				return err
			}
		}
		if _, err := c.WaitAuthorization(r.t.Context(), url); err != nil {
			return err
		}
	}
	return nil
}

// show puts the answer to a challenge where the name has it.
func (r *rig) show(c *client.Client, name string, challenge *client.Challenge) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	switch challenge.Type {
	case "http-01":
		r.pages[c.HTTP01ChallengePath(challenge.Token)], err = c.HTTP01ChallengeResponse(challenge.Token)
	case "dns-01":
		r.texts["_acme-challenge."+name+"."], err = c.DNS01ChallengeRecord(challenge.Token)
	case "tls-alpn-01":
		var cert tls.Certificate
		cert, err = c.TLSALPN01ChallengeCert(challenge.Token, name)
		r.shown = &cert
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// issue takes an order to its certificate.
func (r *rig) issue(c *client.Client, key crypto.Signer, kind string, names ...string) ([][]byte, error) {
	r.t.Helper()
	order, err := c.AuthorizeOrder(r.t.Context(), client.DomainIDs(names...))
	if err != nil {
		return nil, err
	}
	if err := r.prove(c, order, kind); err != nil {
		return nil, err
	}
	chain, _, err := c.CreateOrderCert(r.t.Context(), order.FinalizeURL, request(r.t, key, names...), true)
	return chain, err
}

// raw is a client that says exactly what it is told to.
type raw struct {
	*rig
	key *ecdsa.PrivateKey
	kid string
}

func (r *rig) raw() *raw {
	r.t.Helper()
	c := &raw{rig: r, key: newKey(r.t)}
	payload := "{}"
	if r.config.Open != nil {
		kid, key := r.token()
		payload = `{"externalAccountBinding":` + c.binding(kid, key, c.url("new-account")) + `}`
	}
	status, head, body := c.post("new-account", payload, func(m *spec) { m.kid = "" })
	if status != http.StatusCreated {
		r.t.Fatalf("new-account: %d %s", status, body)
	}
	c.kid = head.Get("Location")
	return c
}

func (r *rig) url(path string) string { return r.server.URL + "/acme/names/" + path }

// binding is an external account binding.
func (c *raw) binding(kid string, key []byte, url string) string {
	c.t.Helper()
	account, err := json.Marshal(jose.JSONWebKey{Key: c.key.Public()})
	if err != nil {
		c.t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: key}, (&jose.SignerOptions{}).WithHeader("url", url).WithHeader("kid", kid))
	if err != nil {
		c.t.Fatal(err)
	}
	jws, err := signer.Sign(account)
	if err != nil {
		c.t.Fatal(err)
	}
	return jws.FullSerialize()
}

// spec is a message before it is signed.
type spec struct {
	nonce, url, kid string
	key             any
	algorithm       jose.SignatureAlgorithm
	kind            string // Content-Type
	method          string
	body            func(string) string
}

func (r *rig) nonce() string {
	r.t.Helper()
	resp, err := r.server.Client().Head(r.url("new-nonce"))
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header.Get("Replay-Nonce")
}

func (c *raw) sign(m *spec, payload string) string {
	c.t.Helper()
	options := &jose.SignerOptions{EmbedJWK: m.kid == ""}
	options.WithHeader("url", m.url)
	if m.nonce != "" {
		options.WithHeader("nonce", m.nonce)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: m.algorithm, Key: jose.JSONWebKey{Key: m.key, KeyID: m.kid}}, options)
	if err != nil {
		c.t.Fatal(err)
	}
	jws, err := signer.Sign([]byte(payload))
	if err != nil {
		c.t.Fatal(err)
	}
	return jws.FullSerialize()
}

// post sends a signed message that edit may have changed before it was signed.
func (c *raw) post(path, payload string, edit ...func(*spec)) (int, http.Header, string) {
	c.t.Helper()
	m := &spec{url: c.url(path), kid: c.kid, key: c.key, algorithm: jose.ES256, kind: "application/jose+json", method: http.MethodPost, nonce: c.nonce()}
	for _, f := range edit {
		f(m)
	}
	body := c.sign(m, payload)
	if m.body != nil {
		body = m.body(body)
	}
	return c.send(m.method, path, m.kind, body)
}

func (r *rig) send(method, path, kind, body string) (int, http.Header, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url(path), strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	resp, err := r.server.Client().Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(answer)
}

// problem is the kind of a problem document; "" for anything else.
func problem(status int, head http.Header, body string) string {
	var p struct {
		Type   string
		Status int
	}
	if head.Get("Content-Type") != "application/problem+json" || json.Unmarshal([]byte(body), &p) != nil || p.Status != status {
		return ""
	}
	return strings.TrimPrefix(p.Type, "urn:ietf:params:acme:error:")
}

// events are the kinds of the ledger's entries about ACME.
func (r *rig) events(kind string) []ledger.Entry {
	r.t.Helper()
	var list []ledger.Entry
	for e, err := range r.store.Entries(r.t.Context(), 1) {
		if err != nil {
			r.t.Fatal(err)
		}
		if e.Kind == kind {
			list = append(list, e)
		}
	}
	return list
}
