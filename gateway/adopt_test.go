package gateway_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bollard/e2e/rawws"
	"bollard/gateway"
)

// checksPassword is a back end that knows one password.
func checksPassword(password string) func(*http.Request) (string, int) {
	return func(r *http.Request) (string, int) {
		user, got, ok := r.BasicAuth()
		if !ok || user != "CS-1" || got != password {
			return "", http.StatusUnauthorized
		}
		return "ocpp1.6", http.StatusSwitchingProtocols
	}
}

func with(password string) func(*rawws.Request) {
	return func(q *rawws.Request) { q.Password = []byte(password) }
}

func (d *door) answers() []bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.adopted)
}

func TestAdoptionByTheBackEndsAnswer(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[time.Time]
	start := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	now.Store(&start)
	kept := make(chan string, 4)
	failing := atomic.Bool{}
	r := newRig(t, func(cfg *gateway.Config, r *rig) {
		r.door.adopt = true
		cfg.Clock = func() time.Time { return *now.Load() }
		cfg.Backends[0].AdoptUntil = start.Add(time.Hour)
		cfg.Backends[0].Keep = func(_ context.Context, station string, password []byte) error {
			if failing.Load() {
				return errors.New("disk is full")
			}
			kept <- station + ":" + string(password)
			return nil
		}
	})
	r.csms.answer(checksPassword("from the back end"))

	// An attacker's guess: the back end's 401 is the station's, nothing is kept.
	_, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", with("a guess")))
	if status(err) != http.StatusUnauthorized || !slices.Equal(r.door.answers(), []bool{false}) || len(kept) != 0 {
		t.Fatalf("guess: %v, told the door %v, kept %d", err, r.door.answers(), len(kept))
	}
	// What can't be kept isn't adopted.
	failing.Store(true)
	if _, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", with("from the back end"))); status(err) != http.StatusServiceUnavailable || len(r.door.answers()) != 1 {
		t.Fatalf("nothing could be kept: %v, told the door %v", err, r.door.answers())
	}
	failing.Store(false)
	// A back end that is away decides nothing.
	r.csms.answer(func(*http.Request) (string, int) { return "", http.StatusBadGateway })
	if _, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", with("from the back end"))); status(err) != http.StatusServiceUnavailable || len(r.door.answers()) != 1 {
		t.Fatalf("back end away: %v, told the door %v", err, r.door.answers())
	}
	r.csms.answer(checksPassword("from the back end"))

	for len(r.csms.links) > 0 { // of the attempts that came to nothing
		<-r.csms.links
	}
	s, b := r.station(t, "CS-1", with("from the back end"))
	if got := r.door.answers(); !slices.Equal(got, []bool{false, true}) {
		t.Errorf("told the door %v", got)
	}
	if got := <-kept; got != "cs-1:from the back end" {
		t.Errorf("kept %q", got)
	}
	s.send(t, `[2,"1","Heartbeat",{}]`)
	b.want(t, `[2,"1","Heartbeat",{}]`)

	// Nothing unproven displaces a live session, not even the right password.
	if _, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", with("from the back end"))); status(err) != http.StatusServiceUnavailable {
		t.Errorf("second connection for adoption: %v", err)
	}
	s.send(t, `[2,"2","Heartbeat",{}]`)
	b.want(t, `[2,"2","Heartbeat",{}]`)
	s.conn.Close()
	eventually(t, "the end of the session", func() bool { return len(r.Sessions()) == 0 })

	// After the date no back end is asked.
	later := start.Add(time.Hour)
	now.Store(&later)
	before := len(r.door.answers())
	if _, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", with("from the back end"))); status(err) != http.StatusUnauthorized || len(r.door.answers()) != before {
		t.Errorf("after the date: %v", err)
	}
}

func TestAdoptionNeedsTheStationsOwnPassword(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	password := func(context.Context, string) ([]byte, error) { return []byte("shared"), nil }
	for auth, b := range map[string]gateway.Backend{
		"basic-shared": {Password: password},
		"mtls":         {TLS: &tls.Config{Certificates: []tls.Certificate{testPKI().ecdsa}}},
	} {
		b.URL, b.Auth, b.AdoptUntil = "wss://csms.example/ocpp", auth, time.Now().Add(time.Hour)
		if err := r.Reload([]gateway.Backend{b}, gateway.Limits{}); err == nil || !strings.Contains(err.Error(), "adopt") {
			t.Errorf("%s: %v", auth, err)
		}
		b.AdoptUntil = time.Time{}
		if err := r.Reload([]gateway.Backend{b}, gateway.Limits{}); err != nil {
			t.Errorf("%s without adopt: %v", auth, err)
		}
	}
}
