package gateway_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"bollard/e2e/rawws"
	"bollard/gateway"
)

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
	r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.Handshake = patience })
	hasty := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.Handshake = 100 * time.Millisecond })
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
	bytes := func(r *rig, text string, linger bool) func() {
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
		{"not-tls", bytes(r, "GET /ocpp/CS-1 HTTP/1.1\r\n\r\n", true)},
		{"timeout", bytes(hasty, "\x16\x03\x01", true)},
		{"closed", bytes(r, "", false)},
	} {
		failures := func() float64 {
			class := "class=" + tt.class
			return r.metric(t, "handshake_failures_total", class) + hasty.metric(t, "handshake_failures_total", class)
		}
		before := failures()
		tt.do()
		eventually(t, "A00.FR.408: a failure of class "+tt.class, func() bool { return failures() == before+1 })
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
		for _, c := range r.door.claims { // what a key on P-224 depends on (A00.FR.503)
			if c.TLS13 != (version == tls.VersionTLS13) {
				t.Errorf("%s: told as TLS 1.3: %t", tls.VersionName(version), c.TLS13)
			}
		}
		r.door.revoked["CS-1"] = true
		r.door.mu.Unlock()
		if _, err := r.dial(t, cfg, anonymous); status(err) != 401 {
			t.Errorf("%s: got %v, want 401", tls.VersionName(version), err)
		}
	}
}

// Chains are looked at while their handshake has its desk, resumed or not, before
// anybody is claimed. What was found wrong comes with the claim.
func TestChainIsJudgedInTheHandshake(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		r := newRig(t, nil)
		cfg := r.tlsConfig(testPKI().client("CS-1"))
		cfg.MaxVersion, cfg.ClientSessionCache = version, tls.NewLRUClientSessionCache(4)
		for i := range 2 {
			conn := must(tls.Dial("tcp", r.addr, cfg))
			if resumed := conn.ConnectionState().DidResume; resumed != (i == 1) {
				t.Fatalf("connection %d resumed: %t", i, resumed)
			}
			_ = conn.CloseWrite()
			_, _ = io.Copy(io.Discard, conn) // takes the ticket
			conn.Close()
			r.door.mu.Lock()
			if len(r.door.judged) != i+1 || r.door.judged[i] != "CS-1" || len(r.door.claims) != 0 {
				t.Errorf("%s: after %d handshakes without a request %q were judged and %d claimed", tls.VersionName(version), i+1, r.door.judged, len(r.door.claims))
			}
			r.door.mu.Unlock()
		}
		r.door.mu.Lock()
		r.door.untrusted = "no root"
		r.door.mu.Unlock()
		s, err := r.dial(t, cfg, request("/ocpp/CS-1", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer s.conn.Close()
		r.door.mu.Lock()
		if got := r.door.claims[0].Untrusted; got != "no root" {
			t.Errorf("claimed with %q", got)
		}
		r.door.mu.Unlock()
	}
}

func TestSlowStrangersDontHoldUpOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Limits.HandshakesAtOnce, cfg.Limits.PerSource = 1, 21
		cfg.Limits.Handshake = 2 * patience // nobody is let in because a stranger's time is over
	})
	for range 20 { // each stands in the middle of its handshake
		conn := must(net.Dial("tcp", r.addr))
		defer conn.Close()
		_, _ = conn.Write([]byte("\x16\x03\x01\x02"))
	}
	s, b := r.station(t, "CS-1", nil)
	s.send(t, `[2,"1","Heartbeat",{}]`)
	b.want(t, `[2,"1","Heartbeat",{}]`)
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
