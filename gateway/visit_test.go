package gateway_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
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
