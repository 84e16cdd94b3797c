package gateway_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bollard/gateway"
)

// Whoever looks whether a station has hung up meanwhile lets go of the connection.
func TestSlowBackendGetsItsStation(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *gateway.Config, r *rig) {
		r.csms.answer(func(*http.Request) (string, int) {
			<-time.After(3 * gateway.WatchAfter)
			return "ocpp1.6", http.StatusSwitchingProtocols
		})
	})
	s, b := r.station(t, "CS-1", nil)
	b.send(t, `[2,"1","Reset",{"type":"Soft"}]`)
	s.want(t, `[2,"1","Reset",{"type":"Soft"}]`)
	s.send(t, `[3,"1",{"status":"Accepted"}]`)
	b.want(t, `[3,"1",{"status":"Accepted"}]`)
}

// A request that doesn't come ends by the clock, or with the gateway.
func TestHalfARequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		time time.Duration
		end  func(*rig)
	}{
		{"the clock", 50 * time.Millisecond, func(*rig) {}},
		{"the gateway", patience, func(r *rig) { r.stop() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.Header = tt.time })
			conn, err := tls.Dial("tcp", r.addr, r.tlsConfig())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprint(conn, "GET /ocpp/CS-1 HTTP/1.1\r\nHost:")
			tt.end(r)
			_ = conn.SetReadDeadline(time.Now().Add(patience / 2))
			// The gateway may end before it has read the half: a reset is an end, too.
			if answer, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) || len(answer) > 0 {
				t.Errorf("got %q, %v", answer, err)
			}
			r.nothingArrived(t)
		})
	}
}

// stuck is a connection whose reader is held by what it has to write, as crypto/tls is
// by the answers to key updates that nobody takes.
type stuck struct {
	net.Conn
	mu    sync.Mutex
	write *time.Timer
	free  chan struct{}
}

func (s *stuck) Read([]byte) (int, error) {
	<-s.free
	return 0, os.ErrDeadlineExceeded
}

func (s *stuck) SetReadDeadline(time.Time) error { return nil }

func (s *stuck) SetDeadline(at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.write == nil || s.write.Stop() {
		s.write = time.AfterFunc(time.Until(at), func() { close(s.free) })
	}
	return nil
}

// A station that takes nothing holds no reader for longer than a request may take, and
// not when the gateway ends.
func TestReaderHeldByItsAnswersIsFreed(t *testing.T) {
	t.Parallel()
	for name, patience := range map[string]time.Duration{"the clock": time.Second, "the gateway": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan bool)
				go func() { done <- gateway.ReadsRequest(ctx, &stuck{free: make(chan struct{})}, patience) }()
				if patience == time.Hour {
					synctest.Wait()
					cancel()
				}
				if <-done {
					t.Error("a request was read")
				}
				cancel()
			})
		})
	}
}

// On plain ws, too, a refusal arrives before the end of what nobody reads.
func TestRefusalOutlivesUnreadBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain)
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "POST /ocpp/CS-1 HTTP/1.1\r\nHost: l\r\nContent-Length: 100000\r\n\r\n%0100000d", 0)
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 405 ") {
		t.Errorf("got %.40q and %v", answer, err)
	}
}
