package gateway_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/e2e/rawws"
	"bollard/fleet"
	"bollard/gateway"
	"bollard/ocpp"
)

// nothingArrived checks promise 1: no byte of an unproven station reaches the back end.
func (r *rig) nothingArrived(t *testing.T) {
	t.Helper()
	r.csms.mu.Lock()
	defer r.csms.mu.Unlock()
	if r.csms.accepted != 0 || r.csms.bytes != 0 {
		t.Errorf("the back end saw %d connections and %d bytes", r.csms.accepted, r.csms.bytes)
	}
}

func TestRefusedClaimsReachNoBackend(t *testing.T) {
	t.Parallel()
	p := testPKI()
	basic := func(user, password string) func(*rawws.Request) {
		return func(q *rawws.Request) { q.User, q.Password = user, []byte(password) }
	}
	for _, tt := range []struct {
		name   string
		cert   string
		change func(*rawws.Request)
		door   error
		status int
	}{
		{"TC_A_03 wrong password", "", basic("CS-1", "wrong"), nil, 401},
		{"TC_A_02 other user", "", basic("CS-2", "secret"), nil, 401},
		{"no password", "", basic("", ""), nil, 401},
		{"TC_A_08 other station's certificate", "CS-2", basic("", ""), nil, 401},
		{"refused by the fleet", "", nil, &fleet.Refusal{Status: 404, Reason: "unknown"}, 404},
		{"told to wait", "", nil, &fleet.Refusal{Status: 429, Reason: "slow down", RetryAfter: 90 * time.Second}, 429},
		{"senseless status", "", nil, &fleet.Refusal{Status: 101, Reason: "bug"}, 503},
		{"store down", "", nil, errors.New("disk of stations.db is full"), 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(_ *gateway.Config, r *rig) { r.door.err = tt.door })
			cfg := r.tlsConfig()
			if tt.cert != "" {
				cfg.Certificates = []tls.Certificate{p.client(tt.cert)}
			}
			_, err := r.dial(t, cfg, request("/ocpp/CS-1", tt.change))
			if status(err) != tt.status {
				t.Fatalf("got %v, want status %d", err, tt.status)
			}
			h := err.(*rawws.HandshakeError).Header
			if got := h.Get("WWW-Authenticate"); (got == `Basic realm="ocpp"`) != (tt.status == 401) {
				t.Errorf("WWW-Authenticate is %q", got)
			}
			if want := map[int]string{429: "90"}[tt.status]; want != "" && h.Get("Retry-After") != want {
				t.Errorf("Retry-After is %q, want %s", h.Get("Retry-After"), want)
			}
			r.nothingArrived(t)
		})
	}
}

func TestHostilePathsOverTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, target := range []string{
		"/ocpp/CP%2F..%2Fadmin", "/ocpp/CP%5Cadmin", "/ocpp/..", "/ocpp/%2e%2e", "/ocpp/.", "/ocpp/", "/ocpp", "/", "/ocpp//CS-1",
		"//ocpp/CS-1", "/ocpp/CS-1/", "/ocpp/a/CS-1", "/ocpp/%00", "/ocpp/CS-1%00", "/ocpp/%0d%0aX", "/ocpp/%FF", "/ocpp/%C0%AF",
		"/ocpp/%2541", "/ocpp/CS-1?id=CS-2", "/ocpp/CS-1#x", "/ocpp/" + strings.Repeat("a", 49), "/ocpp/../ocpp/CS-1", "/OCPP/CS-1",
		"/ocpp/e%CC%81", "/ocpp/%EF%BC%A3S-1", "http://localhost/ocpp/CS-1", "/ocpp/%zz", "/ocpp/CS%E2%80%AE1", "*",
	} {
		resp := r.raw(t, "GET "+target+" HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		if !strings.HasPrefix(resp, "HTTP/1.1 400 ") || strings.Contains(resp, "Location:") {
			t.Errorf("%q: got %.60q, want 400", target, resp)
		}
	}
	r.nothingArrived(t)
	if n := len(r.door.claims); n != 0 {
		t.Errorf("%d claims were judged", n)
	}
}

// raw sends bytes over TLS and returns all that comes back.
func (r *rig) raw(t *testing.T, text string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", r.addr, r.tlsConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return string(answer)
}

func TestRequestsThatAreNoHandshake(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Listeners[0].RefuseOrigin = true })
	upgrade := "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for _, tt := range []struct{ name, head, status string }{
		{"POST", "POST /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\nContent-Length: 0\r\n" + upgrade, "405"},
		{"no upgrade", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\n", "400"},
		{"body that never comes", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\nContent-Length: 9\r\n" + upgrade, "400"},
		{"HTTP/1.0", "GET /ocpp/CS-1 HTTP/1.0\r\nHost: l\r\n" + upgrade, "400"},
		{"key too short", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\n" + strings.Replace(upgrade, "AAAAAAAAAAAAAAAAAAAAAA==", "AAAA", 1), "400"},
		{"no key", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\n" + strings.Replace(upgrade, "AAAAAAAAAAAAAAAAAAAAAA==", "", 1), "400"},
		{"two keys", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\nSec-WebSocket-Key: BBBBBBBBBBBBBBBBBBBBBB==\r\n" + upgrade, "400"},
		{"two versions", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\nSec-WebSocket-Version: 8\r\n" + upgrade, "400"},
		{"version 8", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\n" + strings.Replace(upgrade, "13", "8", 1), "400"},
		{"Origin", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\nOrigin: https://evil.example\r\n" + upgrade, "403"},
		{"two Authorizations", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\nAuthorization: Basic YTpi\r\nAuthorization: Basic YTpj\r\n" + upgrade, "400"},
		{"long head", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\nX: " + strings.Repeat("a", 30000) + "\r\n" + upgrade, "431"},
	} {
		resp := r.raw(t, tt.head+"\r\n")
		if !strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(resp, "HTTP/1.0 "), "HTTP/1.1 "), tt.status) {
			t.Errorf("%s: got %.40q, want %s", tt.name, resp, tt.status)
		}
		if _, body, _ := strings.Cut(resp, "\r\n\r\n"); tt.status != "431" && body != http.StatusText(must(fmtInt(tt.status)))+"\n" {
			t.Errorf("%s: the body says %q", tt.name, body)
		}
	}
	r.nothingArrived(t)
}

func fmtInt(s string) (n int, err error) { _, err = fmt.Sscan(s, &n); return n, err }

func TestClaimIsWhatTheStationSaid(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, r *rig) {
		cfg.Listeners[0].Allow, cfg.Listeners[0].Trust = []string{"CS-1"}, []string{"own"}
		r.door.err = &fleet.Refusal{Status: 401}
	})
	_, _ = r.dial(t, r.tlsConfig(testPKI().client("CS|1")), request("/ocpp/CS%7C1", func(q *rawws.Request) {
		q.User, q.Password = "CS|1", []byte("\x00\x01:\xff")
		q.Subprotocols = []string{"ocpp2.1", "ocpp2.0.1", "ocpp2.1", "ocpp1.6"}
	}))
	got := r.door.claims[0]
	if len(got.Certificates) != 1 || got.Certificates[0].Subject.CommonName != "CS|1" || !got.Source.IsLoopback() {
		t.Errorf("certificates %v, source %v", got.Certificates, got.Source)
	}
	got.Certificates, got.Source = nil, fleet.Claim{}.Source
	want := fleet.Claim{Identity: ocpp.Identity{Name: "CS|1", Escaped: "CS%7C1"}, Listener: "tls", Profiles: []int{2, 3}, TLS: true,
		Allow: []string{"CS-1"}, Trust: []string{"own"}, Basic: &fleet.Basic{User: "CS|1", Password: []byte("\x00\x01:\xff")},
		Offered: []string{"ocpp2.1", "ocpp2.0.1", "ocpp1.6"}}
	if d := cmp.Diff(want.Basic, got.Basic); d != "" {
		t.Error(d)
	}
	if got.Adopts == nil {
		t.Error("nobody is told how the back end would decide")
	}
	want.Basic, got.Basic, got.Adopts = nil, nil, nil
	if fmt.Sprintf("%+v", want) != fmt.Sprintf("%+v", got) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestSubprotocols(t *testing.T) {
	t.Parallel()
	choose := func(name string) func(*http.Request) (string, int) {
		return func(*http.Request) (string, int) { return name, 101 }
	}
	for _, tt := range []struct {
		name    string
		offered []string
		dialled string // header the back end sees; "": not dialled
		chosen  string // by the back end
		version ocpp.Version
		header  string // what the station sees
		hint    bool
	}{
		{"station's order", []string{"ocpp2.1", "ocpp1.6"}, "ocpp2.1, ocpp1.6", "ocpp1.6", ocpp.V16, "ocpp1.6", false},
		{"unknown ones stay here", []string{"ocpp2.0", "ocpp2.0.1"}, "ocpp2.0.1", "ocpp2.0.1", ocpp.V201, "ocpp2.0.1", false},
		{"back end has none", []string{"ocpp1.6"}, "ocpp1.6", "", 0, "", false},
		{"station has none we know", []string{"ocpp2.0"}, "", "", 0, "", false},
		{"station offers none", nil, "", "", 0, "", false},
		{"station offers none, version configured", nil, "ocpp1.6", "ocpp1.6", ocpp.V16, "", true},
		{"neither names it", nil, "ocpp1.6", "", ocpp.V16, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *gateway.Config, r *rig) {
				r.csms.answer(choose(tt.chosen))
				if tt.hint {
					cfg.DefaultVersion = map[string]ocpp.Version{"cs-1": ocpp.V16}
				}
			})
			s, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", func(q *rawws.Request) { q.Subprotocols = tt.offered }))
			if err != nil {
				t.Fatal(err)
			}
			if s.Subprotocol != tt.header {
				t.Errorf("the station was told %q, want %q", s.Subprotocol, tt.header)
			}
			if tt.dialled == "" {
				s.wantClose(t, 1002)
				r.nothingArrived(t)
				return
			}
			b := r.csms.next(t)
			t.Cleanup(func() { b.conn.Close() })
			if got := b.req.Header.Get("Sec-WebSocket-Protocol"); got != tt.dialled {
				t.Errorf("the back end was offered %q, want %q", got, tt.dialled)
			}
			if tt.version == 0 {
				s.wantClose(t, 1002)
				return
			}
			eventually(t, "live session", func() bool { _, ok := r.Session("cs-1"); return ok })
			if live, _ := r.Session("cs-1"); live.Version() != tt.version {
				t.Errorf("version %v, want %v", live.Version(), tt.version)
			}
		})
	}
}

func TestBackendSeesNothingOfTheStationsCredentials(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, b := r.station(t, "CS%7C1", func(q *rawws.Request) {
		q.User = "CS|1"
		q.Header = map[string]string{"Cookie": "c", "X-Forwarded-For": "1.2.3.4"}
	})
	for _, h := range []string{"Authorization", "Cookie", "X-Forwarded-For", "Origin"} {
		if got := b.req.Header.Get(h); got != "" {
			t.Errorf("%s went upstream: %q", h, got)
		}
	}
	if b.req.RequestURI != "/base/CS%7C1" {
		t.Errorf("upstream path is %q", b.req.RequestURI)
	}
}

func TestBackendUnreachable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*gateway.Config, *rig)
	}{
		{"nothing listens", func(cfg *gateway.Config, r *rig) { r.csms.Close() }},
		{"redirect", func(cfg *gateway.Config, r *rig) {
			r.csms.answer(func(*http.Request) (string, int) { return "", 307 })
		}},
		{"none matches", func(cfg *gateway.Config, _ *rig) { cfg.Backends[0].Match.Identity = "other-*" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tt.change)
			_, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", nil))
			if status(err) != 503 || err.(*rawws.HandshakeError).Header.Get("Retry-After") != "7" {
				t.Errorf("got %v, want 503 with Retry-After", err)
			}
			if len(r.Sessions()) != 0 || len(r.guard.log()) != 0 {
				t.Error("a session was made")
			}
		})
	}
}

func TestPanickingDoorClosesOneConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *gateway.Config, r *rig) { r.door.after = func() { panic("boom") } })
	if _, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", nil)); err == nil {
		t.Fatal("admitted")
	}
	r.door.mu.Lock()
	r.door.after = nil
	r.door.mu.Unlock()
	r.station(t, "CS-1", nil)
}

// A01.FR.08-like: what EndIf decides reaches a connection that was proven but is not live yet.
func TestRevocationDuringAdmission(t *testing.T) {
	t.Parallel()
	var r *rig
	r = newRig(t, func(_ *gateway.Config, r2 *rig) {
		r2.door.after = func() {
			r.EndIf(func(a fleet.Admission) (string, bool) { return "revoked", a.Station.Identity == "CS-1" })
		}
	})
	s, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", nil))
	if err != nil {
		t.Fatal(err)
	}
	s.wantClose(t, 1008)
	if len(r.Sessions()) != 0 || slices.Contains(r.guard.log(), "opened CS-1") {
		t.Error("the session became live")
	}
}

func TestMandatorySuites(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, suite := range []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
	} {
		cfg := r.tlsConfig()
		cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{suite}
		conn, err := tls.Dial("tcp", r.addr, cfg)
		if err != nil {
			t.Errorf("A00.FR.318 %s: %v", tls.CipherSuiteName(suite), err)
			continue
		}
		conn.Close()
	}
	cfg := r.tlsConfig()
	cfg.MinVersion, cfg.NextProtos = tls.VersionTLS13, []string{"h2", "http/1.1"}
	conn, err := tls.Dial("tcp", r.addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if p := conn.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("ALPN chose %q", p)
	}
	conn.Close()
}

func TestFailedHandshakesAreClassified(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.Handshake = 100 * time.Millisecond })
	shake := func(change func(*tls.Config)) func() {
		return func() {
			cfg := r.tlsConfig()
			change(cfg)
			if conn, err := tls.Dial("tcp", r.addr, cfg); err == nil {
				// TLS 1.3: the server's refusal comes with the first read.
				if _, err := conn.Read(make([]byte, 1)); err == nil {
					t.Error("connected")
				}
				conn.Close()
			}
		}
	}
	bytes := func(text string, linger bool) func() {
		return func() {
			conn := must(net.Dial("tcp", r.addr))
			defer conn.Close()
			_, _ = conn.Write([]byte(text))
			if linger {
				_, _ = io.ReadAll(conn)
			}
		}
	}
	stolen := testPKI().client("CS-1")
	stolen.PrivateKey = testPKI().client("CS-2").PrivateKey
	for _, tt := range []struct {
		class string
		do    func()
	}{
		{"version", shake(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })},
		{"suite", shake(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256}
		})},
		{"certificate", shake(func(c *tls.Config) { c.Certificates = []tls.Certificate{stolen} })},
		{"peer-refused", shake(func(c *tls.Config) { c.ServerName = "other.example" })},
		{"not-tls", bytes("GET /ocpp/CS-1 HTTP/1.1\r\n\r\n", true)},
		{"timeout", bytes("\x16\x03\x01", true)},
		{"closed", bytes("", false)},
	} {
		before := r.metric(t, "handshake_failures_total", "class="+tt.class)
		tt.do()
		eventually(t, "A00.FR.408: a failure of class "+tt.class, func() bool {
			return r.metric(t, "handshake_failures_total", "class="+tt.class) == before+1
		})
	}
}

func TestLegacyListener(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Listeners[0].Legacy, cfg.Listeners[0].Allow = true, []string{"CS-1"}
	})
	try := func(version, suite uint16) error {
		cfg := r.tlsConfig()
		cfg.MinVersion, cfg.MaxVersion, cfg.CipherSuites = version, version, []uint16{suite}
		conn, err := tls.Dial("tcp", r.addr, cfg)
		if err == nil {
			conn.Close()
		}
		return err
	}
	for _, v := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		if err := try(v, tls.TLS_RSA_WITH_AES_128_CBC_SHA); err != nil {
			t.Errorf("A00.FR.324 [1.6]: %s: %v", tls.VersionName(v), err)
		}
		if err := try(v, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA); err == nil {
			t.Errorf("%s with another suite", tls.VersionName(v))
		}
	}
	if err := try(tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_CBC_SHA); err == nil {
		t.Error("A00.FR.428 [1.6]: the CBC suite on TLS 1.2")
	}
	if err := try(tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256); err != nil {
		t.Error(err)
	}
}

// A7: tickets are allowed because every connection is judged again.
func TestResumedSessionOfARevokedCertificateIsRefused(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		r := newRig(t, nil)
		cfg := r.tlsConfig(testPKI().client("CS-1"))
		cfg.MaxVersion, cfg.ClientSessionCache = version, tls.NewLRUClientSessionCache(4)
		anonymous := request("/ocpp/CS-1", func(q *rawws.Request) { q.User, q.Password = "", nil })
		for i := range 2 {
			s, err := r.dial(t, cfg, anonymous)
			if err != nil {
				t.Fatal(err)
			}
			b := r.csms.next(t)
			t.Cleanup(func() { b.conn.Close() })
			if resumed := s.conn.(*tls.Conn).ConnectionState().DidResume; resumed != (i == 1) {
				t.Fatalf("connection %d resumed: %t", i, resumed)
			}
			b.send(t, `[2,"1","Reset",{}]`)
			s.want(t, `[2,"1","Reset",{}]`) // and takes the ticket
			if live, ok := r.Session("cs-1"); !ok || live.Admission().Profile != 3 {
				t.Fatal("not live on profile 3")
			}
			s.conn.Close()
			eventually(t, "end", func() bool { return len(r.Sessions()) == 0 })
		}
		r.door.mu.Lock()
		r.door.revoked["CS-1"] = true
		r.door.mu.Unlock()
		if _, err := r.dial(t, cfg, anonymous); status(err) != 401 {
			t.Errorf("%s: got %v, want 401", tls.VersionName(version), err)
		}
	}
}

func TestSlowStrangersDontHoldUpOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.HandshakesAtOnce, cfg.Limits.PerSource = 1, 21 })
	for range 20 { // each stands in the middle of its handshake
		conn := must(net.Dial("tcp", r.addr))
		defer conn.Close()
		_, _ = conn.Write([]byte("\x16\x03\x01\x02"))
	}
	start := time.Now()
	s, b := r.station(t, "CS-1", nil)
	s.send(t, `[2,"1","Heartbeat",{}]`)
	b.want(t, `[2,"1","Heartbeat",{}]`)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	// The session left the lobby: one more stranger fits, the two behind it don't.
	for range 2 {
		defer must(net.Dial("tcp", r.addr)).Close()
	}
	r.station(t, "CS-2", nil) // connections are taken in one after the other
	if n := r.metric(t, "handshake_failures_total", "class=too-many-open"); n != 2 {
		t.Errorf("%v were pushed out, want 2: does the session still count as half-open?", n)
	}
}

// Whoever went away takes no place.
func TestFailedHandshakesLeaveTheLobby(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.PerSource = 2 })
	for i := range 6 {
		conn := must(net.Dial("tcp", r.addr))
		_, _ = conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
		eventually(t, "a failed handshake", func() bool { return r.metric(t, "handshake_failures_total") == float64(i+1) })
	}
	if n := r.metric(t, "handshake_failures_total", "class=too-many-open"); n != 0 {
		t.Errorf("%v were pushed out by connections that had ended", n)
	}
}

// A source that holds the door open is pushed out by whoever comes behind it: a
// fleet behind one address must not be locked out by one of its stations.
func TestFloodOfOneSourceLocksNobodyOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.PerSource = 4 })
	held := make([]net.Conn, 8)
	for i := range held {
		held[i] = must(net.Dial("tcp", r.addr))
		defer held[i].Close()
	}
	s, b := r.station(t, "CS-1", nil)
	s.send(t, `[2,"1","Heartbeat",{}]`)
	b.want(t, `[2,"1","Heartbeat",{}]`)
	for i, conn := range held[:5] { // four may stay, the station took the place of one
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("half-open connection %d: %v, want it closed", i, err)
		}
	}
	if n := r.metric(t, "handshake_failures_total", "class=too-many-open"); n != 5 {
		t.Errorf("%v pushed out, want 5", n)
	}
}

func TestBasicAtTheBackend(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Backends[0].Auth = "basic-per-station"
		cfg.Backends[0].Password = func(_ context.Context, key string) ([]byte, error) { return []byte("up:" + key), nil }
	})
	_, b := r.station(t, "CS-1", nil)
	if got, want := b.req.Header.Get("Authorization"), "Basic "+base64.StdEncoding.EncodeToString([]byte("CS-1:up:cs-1")); got != want {
		t.Errorf("Authorization is %q, want %q", got, want)
	}
}

// Threat F1: the door tells strangers apart by station and minute; the gateway
// must not undo that.
// A claim the Door refuses is the Door's to log, which knows the station.
func TestRefusedClaimsAreNotLoggedTwice(t *testing.T) {
	t.Parallel()
	var lines atomic.Int32
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Log = slog.New(slog.NewTextHandler(writer(func(p []byte) { lines.Add(1) }), nil))
	})
	if _, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", func(q *rawws.Request) { q.Password = []byte("guess") })); status(err) != 401 {
		t.Fatalf("got %v, want 401", err)
	}
	if n := lines.Load(); n != 0 {
		t.Errorf("%d log lines", n)
	}
}

// The operator finds why a proven station has no session, until it has one.
func TestLastFailure(t *testing.T) {
	t.Parallel()
	var lines atomic.Int32
	r := newRig(t, func(cfg *gateway.Config, r *rig) {
		r.csms.answer(func(*http.Request) (string, int) { return "", 307 })
		cfg.Log = slog.New(slog.NewTextHandler(writer(func(p []byte) {
			if strings.Contains(string(p), "backend-down") {
				lines.Add(1)
			}
		}), nil))
	})
	const failures = 300
	start := time.Now()
	var stations sync.WaitGroup
	slots := make(chan struct{}, 50)
	for i := range failures {
		stations.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if _, err := r.dial(t, r.tlsConfig(), request(fmt.Sprintf("/ocpp/CS-%d", 100*i+1), nil)); status(err) != 503 {
				t.Errorf("got %v, want 503", err)
			}
		})
	}
	stations.Wait()
	// 50 at once and 10 a second, however slow this machine is.
	if n, most := int(lines.Load()), 51+int(10*time.Since(start).Seconds()); n == 0 || n > most {
		t.Errorf("%d log lines of %d failures, want at most %d", n, failures, most)
	}
	reason, at := r.LastFailure("cs-1")
	if !strings.Contains(reason, "couldn't reach back end") || !strings.Contains(reason, "307") || at.IsZero() {
		t.Errorf("failure %q at %v", reason, at)
	}
	if reason, _ := r.LastFailure("cs-2"); reason != "" {
		t.Errorf("another's failure %q", reason)
	}
	r.csms.answer(func(q *http.Request) (string, int) {
		first, _, _ := strings.Cut(q.Header.Get("Sec-WebSocket-Protocol"), ",")
		return first, http.StatusSwitchingProtocols
	})
	r.station(t, "CS-1", nil)
	eventually(t, "the failure is over", func() bool { reason, _ := r.LastFailure("cs-1"); return reason == "" })
}

// A station that hangs up while its back end is dialled is named, not a back
// end that was "canceled".
func TestStationGivesUpFirst(t *testing.T) {
	t.Parallel()
	logged := make(chan string, 16)
	dialled, release := make(chan struct{}, 1), make(chan struct{})
	r := newRig(t, func(cfg *gateway.Config, r *rig) {
		r.csms.answer(func(*http.Request) (string, int) { dialled <- struct{}{}; <-release; return "", 500 })
		cfg.Log = slog.New(slog.NewTextHandler(writer(func(p []byte) { logged <- string(p) }), nil))
	})
	defer close(release)
	conn, err := tls.Dial("tcp", r.addr, r.tlsConfig())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /ocpp/CS-1 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: ocpp2.0.1\r\nAuthorization: Basic %s\r\n\r\n",
		base64.StdEncoding.EncodeToString([]byte("CS-1:secret")))
	<-dialled
	_ = conn.Close()
	select {
	case line := <-logged:
		if !strings.Contains(line, "the station gave up") || !strings.Contains(line, "class=gone") {
			t.Errorf("log: %s", line)
		}
	case <-time.After(patience):
		t.Fatal("nothing logged")
	}
}

func TestStrangersDontFillTheLog(t *testing.T) {
	t.Parallel()
	var lines atomic.Int32
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Log = slog.New(slog.NewTextHandler(writer(func(p []byte) { lines.Add(1) }), nil))
	})
	const tries = 150
	for i := range tries {
		_, err := r.dial(t, r.tlsConfig(), request(fmt.Sprintf("/ocpp/CS-%d/x", i), nil))
		if status(err) != 400 {
			t.Fatalf("got %v, want 400", err)
		}
	}
	if n := r.metric(t, "refusals_total"); n != tries {
		t.Errorf("%v refusals counted, want %d", n, tries)
	}
	if n := lines.Load(); n == 0 || n > tries*3/4 {
		t.Errorf("%d log lines of %d refusals", n, tries)
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

// Promise 3: a back end that compares with case must not see somebody else.
func TestBackendIsToldTheEnrolledSpelling(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, r *rig) {
		r.door.enrolled = map[string]string{"cs-1": "CS-1", "cs@2": "Cs@2"}
		cfg.Backends[0].Auth = "basic-shared"
		cfg.Backends[0].Password = func(context.Context, string) ([]byte, error) { return []byte("up"), nil }
	})
	for target, want := range map[string]string{"cs-1": "CS-1", "CS-1": "CS-1", "CS%402": "Cs@2", "Cs%402": "Cs%402"} {
		_, b := r.station(t, target, func(q *rawws.Request) { q.User = must(url.PathUnescape(target)) })
		if b.req.RequestURI != "/base/"+want {
			t.Errorf("%s: the back end saw %s, want it to end with %s", target, b.req.RequestURI, want)
		}
		if user, _, _ := b.req.BasicAuth(); user != must(url.PathUnescape(want)) {
			t.Errorf("%s: the back end saw the user %q", target, user)
		}
	}
}
