package gateway_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bollard/detect"
	"bollard/e2e/rawws"
	"bollard/fleet"
	"bollard/gateway"
)

// Promise 2 and threat A2: at every instant at most one session is registered
// and one upstream is open.
func TestThousandParallelHandshakesOfOneIdentity(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Limits.PerSource, cfg.Limits.TakeoversPerMin = 5000, 5000
	})
	// Back ends answer a close, as real ones do.
	ctx, cancel := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case l := <-r.csms.links:
				readers.Go(func() {
					for {
						if _, err := l.ReadMessage(); err != nil {
							l.conn.Close()
							return
						}
					}
				})
			case <-ctx.Done():
				return
			}
		}
	})
	stop := make(chan struct{})
	readers.Go(func() { // the registry as others see it
		for {
			if n := len(r.Sessions()); n > 1 {
				t.Errorf("%d sessions at once", n)
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	cfg := r.tlsConfig()
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	var stations sync.WaitGroup
	var opened, refused atomic.Int32
	slots := make(chan struct{}, 200)
	for range 1000 {
		stations.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			s, err := r.dial(t, cfg, request("/ocpp/CS-1", nil))
			switch {
			case err == nil:
				opened.Add(1)
				_, _ = s.ReadMessage() // until it is replaced
				s.conn.Close()
			case status(err) == http.StatusServiceUnavailable:
				refused.Add(1)
			default:
				t.Errorf("unexpected: %v", err)
			}
		})
	}
	// Whoever is live at the end has nobody to replace it.
	eventually(t, "all but one have ended", func() bool { return opened.Load()+refused.Load() >= 990 && len(slots) <= 1 })
	r.EndIf(func(fleet.Admission) (string, bool) { return "done", true })
	stations.Wait()
	close(stop)
	if opened.Load() < 1 {
		t.Error("nobody got in")
	}
	r.csms.mu.Lock()
	if r.csms.most > 1 {
		t.Errorf("%d upstreams were open at once", r.csms.most)
	}
	r.csms.mu.Unlock()
	eventually(t, "every session closed", func() bool { return len(r.Sessions()) == 0 })
	r.stop()
	for i, e := range r.guard.log() {
		if want := []string{"opened CS-1", "closed CS-1"}[i%2]; e != want {
			t.Fatalf("event %d is %q: two sessions overlapped", i, e)
		}
	}
	cancel()
	readers.Wait()
	t.Logf("%d opened, %d told to come again", opened.Load(), refused.Load())
}

func TestNewestProvenConnectionWins(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.TakeoversPerMin = 2 })
	old, oldBackend := r.station(t, "CS-1", nil)
	first := r.live(t, "cs-1")
	done := make(chan struct{})
	go func() { // an upstream that closes politely
		defer close(done)
		oldBackend.wantClose(t, 1001)
		oldBackend.conn.Close()
	}()
	oldDone := make(chan struct{})
	go func() { defer close(oldDone); old.wantClose(t, 1008) }()
	fresh, b := r.station(t, "cs-1", nil) // the same identity: case doesn't count
	<-done
	<-oldDone
	fresh.send(t, `[2,"1","Heartbeat",{}]`)
	b.want(t, `[2,"1","Heartbeat",{}]`)
	if r.live(t, "cs-1").ID() == first.ID() {
		t.Error("the registry has the old session")
	}
	r.csms.mu.Lock()
	most := r.csms.most
	r.csms.mu.Unlock()
	if most > 1 {
		t.Error("the new upstream was dialled before the old one was closed")
	}

	// One more, then it flaps: refused, and the live one isn't disturbed.
	go func() { b.conn.Close(); fresh.conn.Close() }()
	eventually(t, "end", func() bool { return len(r.Sessions()) == 0 })
	third, b3 := r.station(t, "CS-1", nil) // no takeover: nobody was there
	go func() { third.wantClose(t, 1008); b3.conn.Close() }()
	fourth, b4 := r.station(t, "CS-1", nil)
	_, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-1", nil))
	if status(err) != 503 || err.(*rawws.HandshakeError).Header.Get("Retry-After") != "7" {
		t.Errorf("flapping: got %v", err)
	}
	if r.metric(t, "flapping_total") != 1 {
		t.Error("flapping was not counted")
	}
	r.door.mu.Lock()
	defer r.door.mu.Unlock()
	if !slices.Equal(r.door.putOff, []string{"CS-1 flapping"}) {
		t.Errorf("kept as put off: %v", r.door.putOff)
	}
	fourth.send(t, `[2,"1","Heartbeat",{}]`)
	b4.want(t, `[2,"1","Heartbeat",{}]`)
}

// A station that comes and goes without end waits after a while, for a minute at most;
// others don't, and the back end isn't dialled.
func TestComingAndGoingHasAnEnd(t *testing.T) {
	t.Parallel()
	began := time.Now()
	var passed, connected, away atomic.Int64
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Clock = func() time.Time { return began.Add(time.Duration(passed.Load())) }
		cfg.Notice = func(s detect.Sign) {
			switch {
			case s.Kind != detect.Flapped:
			case s.Live:
				connected.Add(1)
			default:
				away.Add(1)
			}
		}
	})
	ended := 0
	visit := func(identity string) error {
		t.Helper()
		c, err := r.dial(t, r.tlsConfig(), request("/ocpp/"+identity, nil))
		if err != nil {
			return err
		}
		b := r.csms.next(t)
		b.conn.Close()
		c.conn.Close()
		ended++
		eventually(t, "the session has ended", func() bool {
			closed := slices.DeleteFunc(r.guard.log(), func(line string) bool { return !strings.HasPrefix(line, "closed ") })
			return len(closed) == ended
		})
		return nil
	}
	for n := range 60 {
		if err := visit("CS-1"); err != nil {
			t.Fatalf("session %d: %v", n, err)
		}
	}
	if err := visit("CS-1"); status(err) != 503 {
		t.Fatalf("one more within a minute: %v, want 503", err)
	}
	if away.Load() != 1 || connected.Load() != 0 {
		t.Errorf("told of as flapping: %d times while away, %d while connected", away.Load(), connected.Load())
	}
	r.csms.mu.Lock()
	if r.csms.accepted != ended {
		t.Errorf("the back end was dialled %d times for %d sessions", r.csms.accepted, ended)
	}
	r.csms.mu.Unlock()
	if err := visit("CS-2"); err != nil {
		t.Errorf("another station: %v", err)
	}
	passed.Store(int64(time.Minute))
	if err := visit("CS-1"); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

func TestProfile1DoesNotDisplaceTheLiving(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain)
	old, err := r.dial(t, nil, request("/ocpp/CS-1", nil))
	if err != nil {
		t.Fatal(err)
	}
	b := r.csms.next(t)
	t.Cleanup(func() { b.conn.Close() })
	messages := make(chan string, 4)
	go func() { // answers pings as it reads
		for {
			m, err := old.ReadMessage()
			if err != nil {
				close(messages)
				return
			}
			messages <- string(m)
		}
	}()
	if _, err := r.dial(t, nil, request("/ocpp/CS-1", nil)); status(err) != 503 {
		t.Fatalf("got %v, want 503", err)
	}
	b.send(t, `[2,"1","Reset",{}]`)
	if m := <-messages; m != `[2,"1","Reset",{}]` {
		t.Errorf("the live session was disturbed: %q", m)
	}
	r.door.mu.Lock()
	defer r.door.mu.Unlock()
	if !slices.Equal(r.door.putOff, []string{"CS-1 alive"}) {
		t.Errorf("kept as put off: %v", r.door.putOff)
	}
}

func TestAttackersNeverDisturbTheLiveSession(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.PerSource = 1000 })
	s, b := r.station(t, "CS-1", nil)
	live := r.live(t, "cs-1")
	r.csms.mu.Lock()
	before := r.csms.accepted
	r.csms.mu.Unlock()
	other := testPKI().client("CS-2")
	var attack sync.WaitGroup
	for i := range 40 {
		attack.Go(func() {
			cfg := r.tlsConfig()
			if i%2 == 0 {
				cfg.Certificates = []tls.Certificate{other}
			}
			_, err := r.dial(t, cfg, request("/ocpp/CS-1", func(q *rawws.Request) { q.Password = []byte("guess") }))
			if status(err) != 401 {
				t.Errorf("attacker got %v", err)
			}
		})
	}
	for range 50 {
		s.send(t, `[2,"1","Heartbeat",{}]`)
		b.want(t, `[2,"1","Heartbeat",{}]`)
		b.send(t, `[3,"1",{}]`)
		s.want(t, `[3,"1",{}]`)
	}
	attack.Wait()
	if now, ok := r.Session("cs-1"); !ok || now.ID() != live.ID() {
		t.Error("the session was replaced")
	}
	r.csms.mu.Lock()
	defer r.csms.mu.Unlock()
	if r.csms.accepted != before {
		t.Error("the back end was dialled for an attacker")
	}
}

func TestEndIf(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	one, _ := r.station(t, "CS-1", nil)
	two, b := r.station(t, "CS-2", nil)
	r.live(t, "cs-1")
	r.live(t, "cs-2")
	n := r.EndIf(func(a fleet.Admission) (string, bool) { return "revoked", a.Station.Identity == "CS-1" })
	if n != 1 {
		t.Errorf("ended %d", n)
	}
	one.wantClose(t, 1008)
	two.send(t, `[2,"1","Heartbeat",{}]`)
	b.want(t, `[2,"1","Heartbeat",{}]`)
	eventually(t, "Closed", func() bool { return slices.Contains(r.guard.log(), "closed CS-1") })
	if strings.Contains(strings.Join(r.guard.log(), ","), "closed CS-2") {
		t.Error("the other session was ended")
	}
}

// Half-open sockets are normal on mobile links: a profile 1 session that no
// longer answers a ping gives way.
func TestProfile1DisplacesTheDead(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, r *rig) {
		plain(cfg, r)
		cfg.Limits.Alive = 50 * time.Millisecond
	})
	if _, err := r.dial(t, nil, request("/ocpp/CS-1", nil)); err != nil { // reads nothing, so answers no ping
		t.Fatal(err)
	}
	dead := r.csms.next(t)
	t.Cleanup(func() { dead.conn.Close() })
	station, err := r.dial(t, nil, request("/ocpp/CS-1", nil))
	if err != nil {
		t.Fatal(err)
	}
	dead.wantClose(t, 1001)
	b := r.csms.next(t)
	t.Cleanup(func() { b.conn.Close() })
	station.send(t, `[2,"1","Heartbeat",{}]`)
	b.want(t, `[2,"1","Heartbeat",{}]`)
}
