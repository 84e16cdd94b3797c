package gateway_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"golang.org/x/sys/unix"

	"bollard/ca"
	"bollard/e2e/rawws"
	"bollard/fleet"
	"bollard/gateway"
	"bollard/ocpp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of the tests. It is for a machine that does much
// else: success never takes so long.
const patience = 2 * time.Minute

// pki is a CA with server and client certificates, made once per test binary.
type pki struct {
	roots      *x509.CertPool
	ecdsa, rsa tls.Certificate
	key        *ecdsa.PrivateKey
	ca         *x509.Certificate
}

var testPKI = sync.OnceValue(func() *pki {
	p := &pki{roots: x509.NewCertPool()}
	p.key = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p.ca = must(x509.ParseCertificate(p.sign(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, p.key.Public())))
	p.roots.AddCert(p.ca)
	p.ecdsa = p.leaf("localhost", must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), "localhost")
	p.rsa = p.leaf("localhost", must(rsa.GenerateKey(rand.Reader, 2048)), "localhost")
	return p
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (p *pki) sign(tmpl *x509.Certificate, pub any) []byte {
	tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := p.ca
	if parent == nil {
		parent = tmpl
	}
	return must(x509.CreateCertificate(rand.Reader, tmpl, parent, pub, p.key))
}

func (p *pki) leaf(cn string, key crypto.Signer, names ...string) tls.Certificate {
	der := p.sign(&x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn},
		DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}, key.Public())
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// client is a station certificate.
func (p *pki) client(cn string) tls.Certificate {
	return p.leaf(cn, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
}

// door is a fake fleet: password "secret", or a certificate whose CN is the identity.
type door struct {
	mu      sync.Mutex
	roots   *x509.CertPool
	claims  []fleet.Claim
	revoked map[string]bool // CN
	err     error
	after   func() // runs between the proof and Admit's return
	adopt   bool   // passwords other than "secret" are for the back end to judge
	adopted []bool // what the back end said
	// enrolled spells identities, by key; others are as they came.
	enrolled  map[string]string
	judged    []string // CNs Judge was shown
	untrusted string   // what it says
	putOff    []string // who had to wait, and why
}

func (d *door) PutOff(_ context.Context, a fleet.Admission, why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.putOff = append(d.putOff, a.Station.Identity+" "+why)
}

func (d *door) Judge(_ context.Context, chain []*x509.Certificate, _ []string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.judged = append(d.judged, chain[0].Subject.CommonName)
	return d.untrusted
}

func (d *door) Admit(_ context.Context, c fleet.Claim) (fleet.Admission, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.claims = append(d.claims, c)
	if d.err != nil {
		return fleet.Admission{}, d.err
	}
	a := fleet.Admission{Station: fleet.Proven{Identity: c.Identity.Name, Vendor: "ACME", Model: "M1"}, Profile: 2}
	if name, ok := d.enrolled[c.Identity.Key()]; ok {
		a.Station.Identity = name
	}
	if !c.TLS {
		a.Profile = 1
	}
	switch {
	case len(c.Certificates) > 0:
		leaf := c.Certificates[0]
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: d.roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil ||
			leaf.Subject.CommonName != c.Identity.Name || d.revoked[leaf.Subject.CommonName] {
			return fleet.Admission{}, &fleet.Refusal{Status: 401, Reason: "certificate refused"}
		}
		a.Profile, a.Leaf = 3, ca.LeafOf(leaf)
	case d.adopt && c.Basic != nil && string(c.Basic.Password) != "secret" && c.Adopts != nil && c.Adopts(a):
		a.Adopting = true
	case c.Basic == nil || c.Basic.User != c.Identity.Name || string(c.Basic.Password) != "secret":
		return fleet.Admission{}, &fleet.Refusal{Status: 401, Reason: "wrong password"}
	}
	if d.after != nil {
		d.after()
	}
	return a, nil
}

// Adopted stands in for the fleet: what the back end took is proven.
func (d *door) Adopted(_ context.Context, c fleet.Claim, a fleet.Admission, accepted bool) (fleet.Admission, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.adopted = append(d.adopted, accepted)
	if !accepted {
		return fleet.Admission{}, &fleet.Refusal{Status: 401, Reason: "back end refused the password"}
	}
	a.Adopting = false
	return a, nil
}

func (d *door) Subjects(context.Context) (*x509.CertPool, error) { return d.roots, nil }

// guard is a fake service. Without functions it is interested in nothing.
type guard struct {
	interest func(ocpp.Direction, string) bool
	message  func(context.Context, fleet.Session, fleet.Message) fleet.Verdict
	answered func(fleet.Message, ocpp.Head)
	then     func() // once an answer is written
	opened   func(fleet.Session)

	mu     sync.Mutex
	events []string
}

func (g *guard) Interest(_ ocpp.Version, d ocpp.Direction, action string) bool {
	return g.interest != nil && g.interest(d, action)
}
func (g *guard) Opened(s fleet.Session) {
	g.record("opened " + s.Admission().Station.Identity)
	if g.opened != nil {
		g.opened(s)
	}
}
func (g *guard) Message(ctx context.Context, s fleet.Session, m fleet.Message) fleet.Verdict {
	return g.message(ctx, s, m)
}
func (g *guard) Answered(_ context.Context, _ fleet.Session, call fleet.Message, answer ocpp.Head) (then func()) {
	if g.answered != nil {
		g.answered(call, answer)
	}
	return g.then
}
func (g *guard) Closed(s fleet.Session) { g.record("closed " + s.Admission().Station.Identity) }
func (g *guard) record(e string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, e)
}
func (g *guard) log() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.events...)
}

// csms is a raw back end: it hands every accepted upstream to the test.
type csms struct {
	net.Listener
	links  chan *link
	choose func(*http.Request) (string, int)

	mu       sync.Mutex
	accepted int
	open     map[*countedConn]bool
	most     int // connections whose gateway's end was open, at any accept
	bytes    int
}

type link struct {
	*rawws.Conn
	conn net.Conn
	req  *http.Request
}

func newCSMS(t testing.TB) *csms {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &csms{Listener: l, links: make(chan *link, 2048), open: map[*countedConn]bool{}}
	c.choose = func(r *http.Request) (string, int) {
		first, _, _ := strings.Cut(r.Header.Get("Sec-WebSocket-Protocol"), ",")
		return strings.TrimSpace(first), http.StatusSwitchingProtocols
	}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			counted := &countedConn{Conn: conn, c: c}
			c.mu.Lock()
			c.accepted++
			c.open[counted] = true
			c.most = max(c.most, c.established())
			c.mu.Unlock()
			context.AfterFunc(ctx, func() { conn.Close() })
			all.Go(func() {
				c.mu.Lock()
				choose := c.choose
				c.mu.Unlock()
				ws, req, err := rawws.Server(counted, choose)
				if err != nil {
					counted.Close()
					return
				}
				c.links <- &link{ws, counted, req}
			})
		}
	})
	t.Cleanup(func() { l.Close(); cancel(); all.Wait() })
	return c
}

// established counts the connections the gateway hasn't ended, whether this side
// has noticed or not. The caller holds mu.
func (c *csms) established() int {
	n := 0
	for conn := range c.open {
		raw, err := conn.Conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			if err == nil && info.State == 1 { // TCP_ESTABLISHED
				n++
			}
		})
	}
	return n
}

type countedConn struct {
	net.Conn
	c *csms
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.c.mu.Lock()
	c.c.bytes += n
	c.c.mu.Unlock()
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.Close()
	}
	return n, err
}

func (c *countedConn) Close() error {
	c.c.mu.Lock()
	delete(c.c.open, c)
	c.c.mu.Unlock()
	return c.Conn.Close()
}

func (c *csms) answer(choose func(*http.Request) (string, int)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.choose = choose
}

func (c *csms) next(t *testing.T) *link {
	t.Helper()
	select {
	case l := <-c.links:
		return l
	case <-time.After(patience):
		t.Fatal("the back end saw no connection")
		return nil
	}
}

// rig is a gateway with everything around it.
type rig struct {
	*gateway.Gateway
	addr   string
	door   *door
	guard  *guard
	csms   *csms
	reg    *prometheus.Registry
	stop   func()
	served chan error
}

func newRig(t testing.TB, change func(*gateway.Config, *rig)) *rig {
	t.Helper()
	p := testPKI()
	r := &rig{door: &door{roots: p.roots, revoked: map[string]bool{}}, guard: &guard{}, csms: newCSMS(t), reg: prometheus.NewRegistry()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	cfg := gateway.Config{
		Listeners: []gateway.Listener{{Name: "tls", Net: l, Profiles: []int{2, 3}, Certificate: serverCertificate}},
		Door:      r.door, Guard: r.guard, Metrics: r.reg, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Backends: []gateway.Backend{{Name: "main", URL: "ws://" + r.csms.Addr().String() + "/base"}},
		Limits: gateway.Limits{RetryAfter: 7 * time.Second, Handshake: patience, Header: patience, CallTimeout: patience,
			Alive: patience, DrainTimeout: patience},
	}
	cfg.Limits.WS.Compression = compressed()
	if change != nil {
		change(&cfg, r)
	}
	g, err := gateway.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Gateway = g
	ctx, cancel := context.WithCancel(context.Background())
	r.served = make(chan error, 1)
	go func() { r.served <- g.Serve(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-r.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func serverCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	p := testPKI()
	if hello.SupportsCertificate(&p.ecdsa) == nil {
		return &p.ecdsa, nil
	}
	return &p.rsa, nil
}

// plain makes the rig's listener a profile 1 one.
func plain(cfg *gateway.Config, _ *rig) {
	cfg.Listeners[0].Profiles, cfg.Listeners[0].Certificate = []int{1}, nil
}

func (r *rig) tlsConfig(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: testPKI().roots, ServerName: "localhost", Certificates: certs}
}

func request(target string, change func(*rawws.Request)) rawws.Request {
	req := rawws.Request{Host: "localhost", Target: target, Subprotocols: []string{"ocpp1.6"}, Password: []byte("secret"), Compress: compressed()}
	req.User = target[strings.LastIndexByte(target, '/')+1:]
	if change != nil {
		change(&req)
	}
	return req
}

// dial opens a station; the connection is closed with the test.
func (r *rig) dial(t *testing.T, cfg *tls.Config, req rawws.Request) (*link, error) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", r.addr, patience)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return r.over(conn, cfg, req)
}

// over opens a station on a connection.
func (r *rig) over(conn net.Conn, cfg *tls.Config, req rawws.Request) (*link, error) {
	if cfg != nil {
		secure := tls.Client(conn, cfg)
		if err := secure.Handshake(); err != nil {
			return nil, err
		}
		conn = secure
	}
	ws, err := rawws.Client(conn, req)
	if err != nil {
		return nil, err
	}
	return &link{Conn: ws, conn: conn}, nil
}

// station opens a session and returns both its ends.
func (r *rig) station(t *testing.T, id string, change func(*rawws.Request)) (station, backend *link) {
	t.Helper()
	s, err := r.dial(t, r.tlsConfig(), request("/ocpp/"+id, change))
	if err != nil {
		t.Fatalf("couldn't open a session of %s: %v", id, err)
	}
	b := r.csms.next(t)
	t.Cleanup(func() { b.conn.Close() }) // else every Close waits for its close frame
	_ = b.conn.SetDeadline(time.Now().Add(patience))
	return s, b
}

func (l *link) send(t *testing.T, msg string) {
	t.Helper()
	if err := l.WriteText([]byte(msg)); err != nil {
		t.Fatalf("couldn't send: %v", err)
	}
}

func (l *link) want(t *testing.T, msg string) {
	t.Helper()
	got, err := l.ReadMessage()
	if err != nil {
		t.Fatalf("want %.80q, got error %v", msg, err)
	}
	if string(got) != msg {
		t.Fatalf("got  %.200q\nwant %.200q", got, msg)
	}
}

func (l *link) wantPrefix(t *testing.T, prefix string) string {
	t.Helper()
	got, err := l.ReadMessage()
	if err != nil || !strings.HasPrefix(string(got), prefix) {
		t.Fatalf("got %.200q, %v; want it to begin with %q", got, err, prefix)
	}
	return string(got)
}

// wantClose reads until the close frame.
func (l *link) wantClose(t *testing.T, codes ...int) {
	t.Helper()
	for {
		_, err := l.ReadMessage()
		if err == nil {
			continue
		}
		if closed, ok := errors.AsType[*rawws.CloseError](err); ok {
			for _, code := range codes {
				if closed.Code == code {
					return
				}
			}
		}
		t.Fatalf("ended with %v, want close %v", err, codes)
	}
}

func status(err error) int {
	if e, ok := errors.AsType[*rawws.HandshakeError](err); ok {
		return e.Status
	}
	return 0
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// metric sums a counter or gauge over all its labels that include want ("k=v").
func (r *rig) metric(t *testing.T, name string, want ...string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != "bollard_gateway_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]bool{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()+"="+l.GetValue()] = true
			}
			all := true
			for _, w := range want {
				all = all && labels[w]
			}
			if all {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
