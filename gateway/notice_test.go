package gateway_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"testing"

	"bollard/detect"
	"bollard/gateway"
)

// What the gateway itself notices are signs: failed handshakes by address,
// replaced and flapping sessions, frames that are no OCPP and answers nobody
// waits for by station; what the back end sends isn't the station's.
func TestSigns(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var signs []string
	seen := func(want ...string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Join(signs, " ") == strings.Join(want, " ")
		}
	}
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Limits.TakeoversPerMin = 1
		cfg.Notice = func(s detect.Sign) {
			mu.Lock()
			defer mu.Unlock()
			signs = append(signs, fmt.Sprintf("%s:%s:%s:%s:%t", s.Kind, s.Station, s.Source, s.Detail, s.Live))
		}
	})
	old := r.tlsConfig()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := r.dial(t, old, request("/ocpp/CS-1", nil)); err == nil {
		t.Fatal("TLS 1.1 was let in")
	}
	want := []string{"refused-tls::127.0.0.1:version:false"}
	eventually(t, "a failed handshake is a sign", seen(want...))

	s, b := r.station(t, "CS-1", nil)
	s.send(t, "no JSON")
	s.send(t, `[3,"never-asked",{}]`)
	b.send(t, `[3,"never-asked",{}]`)
	b.send(t, "no JSON")
	want = append(want, "bad-frame:cs-1:::true", "replay:cs-1:::true")
	eventually(t, "frames that go nowhere are signs", seen(want...))

	b.conn.Close()
	s.conn.Close()
	eventually(t, "the session has ended", func() bool { return len(r.Sessions()) == 0 })
	_, b1 := r.station(t, "CS-2", nil)
	go func() { _, _ = b1.ReadMessage(); b1.conn.Close() }()
	r.station(t, "CS-2", nil)
	want = append(want, "displaced:cs-2:127.0.0.1::true")
	eventually(t, "a replaced session is a sign", seen(want...))
	if _, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-2", nil)); status(err) != 503 {
		t.Fatalf("third connection within a minute: %v", err)
	}
	eventually(t, "flapping is a sign", seen(append(want, "flapped:cs-2:127.0.0.1::true")...))
}
