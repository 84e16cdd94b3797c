package gateway_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
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
	r.door.mu.Lock()
	defer r.door.mu.Unlock()
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
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: l\r\n", "405"},
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
		{"HTTP/2", "GET /ocpp/CS-1 HTTP/2.0\r\nHost: l\r\n" + upgrade, "505"},
		{"no host", "GET /ocpp/CS-1 HTTP/1.1\r\n" + upgrade, "400"},
		{"two hosts", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\nHost: m\r\n" + upgrade, "400"},
		{"space in a header's name", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\nContent-Length : 0\r\n" + upgrade, "400"},
		{"header without a colon", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\nA\r\n" + upgrade, "400"},
		{"expects something", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\nExpect: more\r\n" + upgrade, "417"},
		{"long head", "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\nX: " + strings.Repeat("a", 30000) + "\r\n" + upgrade, "431"},
	} {
		resp := r.raw(t, tt.head+"\r\n")
		if !strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(resp, "HTTP/1.0 "), "HTTP/1.1 "), tt.status) {
			t.Errorf("%s: got %.40q, want %s", tt.name, resp, tt.status)
		}
		if want := strings.HasPrefix(tt.name, "version") || tt.name == "two versions"; want && !strings.Contains(resp, "\r\nSec-Websocket-Version: 13\r\n") {
			t.Errorf("%s: the answer doesn't say which version is understood (RFC 6455 §4.4): %q", tt.name, resp)
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
	r.door.mu.Lock()
	got := r.door.claims[0]
	r.door.mu.Unlock()
	if len(got.Certificates) != 1 || got.Certificates[0].Subject.CommonName != "CS|1" || !got.Source.IsLoopback() {
		t.Errorf("certificates %v, source %v", got.Certificates, got.Source)
	}
	got.Certificates, got.Source = nil, fleet.Claim{}.Source
	want := fleet.Claim{Identity: ocpp.Identity{Name: "CS|1", Escaped: "CS%7C1"}, Listener: "tls", Profiles: []int{2, 3}, TLS: true, TLS13: true,
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
	began := time.Now()
	for i := range tries {
		_, err := r.dial(t, r.tlsConfig(), request(fmt.Sprintf("/ocpp/CS-%d/x", i), nil))
		if status(err) != 400 {
			t.Fatalf("got %v, want 400", err)
		}
	}
	if n := r.metric(t, "refusals_total"); n != tries {
		t.Errorf("%v refusals counted, want %d", n, tries)
	}
	// Fifty at once, ten a second.
	if n, most := lines.Load(), 51+int32(10*time.Since(began).Seconds()); n == 0 || n > most {
		t.Errorf("%d log lines of %d refusals, want %d at most", n, tries, most)
	}
}

// Every line about a station names it alike, whichever spelling came and
// whoever writes: the operator looks for one.
func TestLogNamesStationsByKey(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var lines []string
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Log = slog.New(slog.NewTextHandler(writer(func(p []byte) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, string(p))
		}), nil))
	})
	station, backend := r.station(t, "CS-1", nil)
	station.send(t, "no frame")
	station.send(t, `[2,"1","Heartbeat",{}]`)
	backend.want(t, `[2,"1","Heartbeat",{}]`)
	_, _ = r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", func(q *rawws.Request) { q.Subprotocols = []string{"mqtt"} }))
	_ = r.raw(t, "GET /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\n\r\n")
	r.stop()
	mu.Lock()
	defer mu.Unlock()
	if len(lines) != 5 { // opened, no frame, no subprotocol, no handshake, ended
		t.Errorf("%d lines", len(lines))
	}
	for _, line := range lines {
		if !strings.Contains(line, "station=cs-1 ") {
			t.Error(line)
		}
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
