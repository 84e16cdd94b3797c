package gateway_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bollard/e2e/rawws"
	"bollard/fleet"
	"bollard/gateway"
	"bollard/ocpp"
)

func TestWhoMovesTheFrames(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change   func(*gateway.Config, *rig)
		secure   bool
		compress bool
		loop     bool
	}{
		"TLS":        {nil, true, false, true},
		"plain":      {plain, false, false, true},
		"compressed": {func(cfg *gateway.Config, _ *rig) { cfg.Limits.WS.Compression = true }, true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tt.change)
			var cfg *tls.Config
			if tt.secure {
				cfg = r.tlsConfig()
			}
			if _, err := r.dial(t, cfg, request("/ocpp/CS-1", func(q *rawws.Request) { q.Compress = tt.compress })); err != nil {
				t.Fatal(err)
			}
			want := tt.loop && runtime.GOOS == "linux"
			if got := gateway.OnLoop(r.live(t, "cs-1")); got != want {
				t.Errorf("on the loop: %t, want %t", got, want)
			}
		})
	}
}

// What the back end sends right behind its 101 is not lost.
func TestEarlyFrameOfTheBackEnd(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	early := `[2,"1","TriggerMessage",{}]`
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		glued := &gluedConn{Conn: conn, tail: append([]byte{0x81, byte(len(early))}, early...)}
		if _, _, err := rawws.Server(glued, func(*http.Request) (string, int) { return "ocpp1.6", 101 }); err == nil {
			_, _ = io.Copy(io.Discard, conn)
		}
	}()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Backends[0].URL = "ws://" + l.Addr().String() })
	station, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", nil))
	if err != nil {
		t.Fatal(err)
	}
	station.want(t, early)
}

// gluedConn writes its tail together with the first thing written.
type gluedConn struct {
	net.Conn
	tail []byte
}

func (g *gluedConn) Write(p []byte) (int, error) {
	all := append(bytes.Clone(p), g.tail...)
	g.tail = nil
	if _, err := g.Conn.Write(all); err != nil {
		return 0, err
	}
	return len(p), nil
}

// TLS beyond the handshake, with another implementation: key updates that want
// an answer, and a renegotiation, which is refused.
func TestTLSBeyondTheHandshake(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "openssl", "s_client", "-connect", r.addr, "-servername", "localhost", version)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out := &seen{}
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cancel(); _ = cmd.Wait() }()
			write := func(b []byte) {
				t.Helper()
				if _, err := in.Write(b); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			write([]byte("GET /ocpp/CS-1 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ocpp1.6\r\nAuthorization: Basic Q1MtMTpzZWNyZXQ=\r\n\r\n"))
			backend := r.csms.next(t)
			_ = backend.conn.SetDeadline(time.Now().Add(patience))
			eventually(t, "101", func() bool { return strings.Contains(out.String(), "101 Switching") })
			trip := func(i int) {
				t.Helper()
				call := fmt.Sprintf(`[2,"%d","Heartbeat",{}]`, i)
				write(append([]byte{0x81, 0x80 | byte(len(call)), 0, 0, 0, 0}, call...))
				backend.want(t, call)
				backend.send(t, fmt.Sprintf(`[3,"%d",{"answer":"number-%d"}]`, i, i))
				eventually(t, "the answer", func() bool { return strings.Contains(out.String(), fmt.Sprintf("number-%d", i)) })
			}
			trip(1)
			if version == "-tls1_2" {
				write([]byte("R\n"))
				backend.wantClose(t, 1001)
				return
			}
			for i := 2; i < 6; i++ {
				write([]byte("K\n"))
				eventually(t, "the key update", func() bool { return strings.Count(out.String(), "KEYUPDATE") == i-1 })
				trip(i)
			}
		})
	}
}

// seen collects output.
type seen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *seen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *seen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// A resumed connection brings its certificate along in the ticket, although the
// loop has let crypto/tls forget it.
func TestResumptionOnTheLoop(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.TakeoversPerMin = 100 })
			cfg := r.tlsConfig(testPKI().client("CS-1"))
			cfg.ClientSessionCache, cfg.MinVersion, cfg.MaxVersion = tls.NewLRUClientSessionCache(4), version, version
			for i := range 5 {
				s, err := r.dial(t, cfg, request("/ocpp/CS-1", func(q *rawws.Request) { q.User, q.Password = "", nil }))
				if err != nil {
					t.Fatal(err)
				}
				b := r.csms.next(t)
				t.Cleanup(func() { b.conn.Close() })
				_ = b.conn.SetDeadline(time.Now().Add(patience))
				s.send(t, `[2,"1","Heartbeat",{}]`) // also reads the tickets
				b.want(t, `[2,"1","Heartbeat",{}]`)
				b.send(t, `[3,"1",{}]`)
				s.want(t, `[3,"1",{}]`)
				if state := s.conn.(*tls.Conn).ConnectionState(); state.DidResume != (i > 0) {
					t.Errorf("connection %d: resumed %t", i, state.DidResume)
				}
				live := r.live(t, "cs-1")
				if leaf := live.Admission().Leaf; leaf == nil || leaf.Sum != sha256.Sum256(cfg.Certificates[0].Certificate[0]) {
					t.Errorf("connection %d: the session has no certificate", i)
				}
			}
		})
	}
}

// While a service works on a message nothing behind it is read, and the other
// direction goes on.
func TestSlowServiceHoldsOnlyItsDirection(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := newRig(t, func(_ *gateway.Config, r *rig) {
		r.guard.interest = func(d ocpp.Direction, a string) bool { return a == "Slow" }
		r.guard.message = func(context.Context, fleet.Session, fleet.Message) fleet.Verdict {
			<-release
			return fleet.Verdict{Act: fleet.Pass}
		}
	})
	s, b := r.station(t, "CS-1", nil)
	const behind = 50
	s.send(t, `[2,"slow","Slow",{}]`)
	for i := range behind {
		s.send(t, fmt.Sprintf(`[2,"%d","Heartbeat",{}]`, i))
	}
	b.send(t, `[2,"down","Reset",{}]`)
	s.want(t, `[2,"down","Reset",{}]`)
	close(release)
	b.want(t, `[2,"slow","Slow",{}]`)
	for i := range behind {
		b.want(t, fmt.Sprintf(`[2,"%d","Heartbeat",{}]`, i))
	}
}

// A thousand stations for a few seconds, some of which break off at any time:
// what arrives is in order, complete and unchanged, and nothing stays behind.
func TestSoakWithDisconnects(t *testing.T) {
	before := descriptors(t)
	t.Run("soak", func(t *testing.T) { soak(t, 1000, 3*time.Second) })
	eventually(t, "all descriptors closed", func() bool { return descriptors(t) <= before+2 })
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func soak(t *testing.T, stations int, length time.Duration) {
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Limits.PerSource, cfg.Limits.TakeoversPerMin = 4096, 1000
		cfg.Log = nil
	})
	var trips atomic.Int64
	var back sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	back.Go(func() { // each CALL is answered with its own payload
		for {
			var l *link
			select {
			case l = <-r.csms.links:
			case <-ctx.Done():
				return
			}
			back.Go(func() {
				defer l.conn.Close()
				for {
					msg, err := l.ReadMessage()
					if err != nil {
						return
					}
					id, payload, ok := bytes.Cut(bytes.TrimPrefix(msg, []byte(`[2,"`)), []byte(`","DataTransfer",`))
					if !ok {
						t.Errorf("the back end got %.80q", msg)
						return
					}
					if l.WriteText(fmt.Appendf(nil, `[3,"%s",%s`, id, payload)) != nil {
						return
					}
				}
			})
		}
	})
	var front sync.WaitGroup
	slots := make(chan struct{}, 32) // handshakes at once
	ends := time.Now().Add(length)
	for i := range stations {
		front.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for n, first := 0, true; first || time.Now().Before(ends); first = false {
				slots <- struct{}{}
				conn, err := net.Dial("tcp", r.addr)
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.SetDeadline(time.Now().Add(2 * patience))
				secure := tls.Client(conn, r.tlsConfig())
				ws, err := rawws.Client(secure, request(fmt.Sprintf("/ocpp/CS-%d", i), nil))
				<-slots
				if err != nil {
					conn.Close()
					if status(err) != 503 { // the last session still closes
						t.Errorf("station %d: %v", i, err)
					}
					return
				}
				for range 1 + rnd.IntN(40) {
					n++
					pad := strings.Repeat("p", 1<<rnd.IntN(15))
					call := fmt.Sprintf(`[2,"%d-%d","DataTransfer",{"n":%d,"p":"%s"}]`, i, n, n, pad)
					cut := rnd.IntN(len(call))
					if rnd.IntN(4) == 0 {
						err = ws.WriteFrames(rawws.Frame{Op: rawws.Text, Payload: []byte(call[:cut])},
							rawws.Frame{Op: rawws.Continuation, Fin: true, Payload: []byte(call[cut:])})
					} else {
						err = ws.WriteText([]byte(call))
					}
					var got []byte
					if err == nil {
						got, err = ws.ReadMessage()
					}
					if want := fmt.Sprintf(`[3,"%d-%d",{"n":%d,"p":"%s"}]`, i, n, n, pad); err != nil || string(got) != want {
						t.Errorf("station %d, message %d: %v\ngot  %.120q\nwant %.120q", i, n, err, got, want)
						break
					}
					trips.Add(1)
					if !time.Now().Before(ends) {
						break
					}
				}
				if rnd.IntN(2) == 0 { // in the middle of a message
					_ = ws.WriteFrame(rawws.Frame{Op: rawws.Text, Payload: []byte(`[2,"cut`)})
				}
				conn.Close()
			}
		})
	}
	front.Wait()
	eventually(t, "no session left", func() bool { return len(r.Sessions()) == 0 })
	r.stop()
	cancel()
	back.Wait()
	t.Logf("%d round trips", trips.Load())
	if panics := r.metric(t, "panics_total"); panics != 0 {
		t.Errorf("%v panics", panics)
	}
}
