package gateway_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"bollard/e2e/rawws"
	"bollard/fleet"
	"bollard/gateway"
	"bollard/ocpp"
)

func TestOneSideLostClosesTheOther(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		lose func(l *link)
		code int
	}{
		{"broken", func(l *link) { l.conn.Close() }, 1001},
		{"closed politely", func(l *link) { _ = l.WriteFrame(rawws.CloseFrame(1000)) }, 1000},
		{"closed with a code nobody may send", func(l *link) { _ = l.WriteFrame(rawws.CloseFrame(1002)) }, 1001},
		{"restarting", func(l *link) { _ = l.WriteFrame(rawws.CloseFrame(1012)) }, 1012},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			station, backend := r.station(t, "CS-1", nil)
			tt.lose(backend)
			station.wantClose(t, tt.code)
			station, backend = r.station(t, "CS-2", nil)
			tt.lose(station)
			backend.wantClose(t, tt.code)
			station.conn.Close()
			eventually(t, "both gone", func() bool { return len(r.Sessions()) == 0 && r.metric(t, "sessions") == 0 })
		})
	}
}

// A peer that writes and never reads must not hold up anybody else.
func TestStuckPeerEndsOnlyItsOwnSession(t *testing.T) {
	t.Parallel()
	for _, stuck := range []string{"station", "backend"} {
		t.Run(stuck, func(t *testing.T) {
			t.Parallel()
			var calm gateway.Config
			r := newRig(t, func(cfg *gateway.Config, _ *rig) {
				calm = *cfg
				cfg.Limits.WS.WriteTimeout = 200 * time.Millisecond
			})
			s1, b1 := r.station(t, "CS-1", nil)
			if err := r.Reload(calm.Backends, calm.Limits); err != nil { // no other session may depend on this machine's speed
				t.Fatal(err)
			}
			s2, b2 := r.station(t, "CS-2", nil)
			flood := s1
			if stuck == "station" {
				flood = b1
			}
			ended := make(chan struct{})
			go func() { // frames that are answered at once, by answers nobody reads
				defer close(ended)
				msg := []byte(`[2,"` + strings.Repeat("y", 100) + `"]`)
				for flood.WriteText(msg) == nil {
				}
			}()
			for range 100 {
				s2.send(t, `[2,"1","Heartbeat",{}]`)
				b2.want(t, `[2,"1","Heartbeat",{}]`)
				b2.send(t, `[3,"1",{}]`)
				s2.want(t, `[3,"1",{}]`)
			}
			eventually(t, "the stuck session ends", func() bool { _, ok := r.Session("cs-1"); return !ok })
			<-ended
			if _, ok := r.Session("cs-2"); !ok {
				t.Error("the other session ended too")
			}
		})
	}
}

func TestSilentStationIsPingedAndGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Limits.WS.PingInterval, cfg.Limits.WS.PongTimeout = 20*time.Millisecond, 3*time.Second
	})
	station, backend := r.station(t, "CS-1", nil)
	if f, err := station.ReadFrame(); err != nil || f.Op != rawws.Ping {
		t.Fatalf("got %v, %v; want a ping", f, err)
	}
	go func() { _, _ = io.Copy(io.Discard, station.conn) }() // reads, answers nothing
	backend.wantClose(t, 1001)
}

func TestDrain(t *testing.T) {
	t.Parallel()
	finished := make(chan struct{})
	begun := make(chan struct{})
	r := newRig(t, func(_ *gateway.Config, r *rig) {
		r.guard.interest = func(_ ocpp.Direction, a string) bool { return a == "SignCertificate" }
		r.guard.message = func(ctx context.Context, _ fleet.Session, _ fleet.Message) fleet.Verdict {
			close(begun)
			select { // a service in the middle of something durable
			case <-time.After(300 * time.Millisecond):
				close(finished)
			case <-ctx.Done():
			}
			return fleet.Verdict{Act: fleet.Answer}
		}
	})
	busy, _ := r.station(t, "CS-1", nil)
	idle, backend := r.station(t, "CS-2", nil)
	tasks := make(chan struct{})
	r.live(t, "cs-2").Go(func(ctx context.Context) { <-ctx.Done(); close(tasks) })
	busy.send(t, `[2,"1","SignCertificate",{}]`)
	<-begun
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	idle.wantClose(t, 1001)
	backend.wantClose(t, 1001)
	busy.wantClose(t, 1001)
	<-stopped
	select {
	case <-finished:
	default:
		t.Error("the service was not allowed to finish")
	}
	<-tasks
	if _, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-3", nil)); err == nil {
		t.Error("a station got in after the end")
	}
}

func TestDrainTimeoutCancelsServices(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	r := newRig(t, func(cfg *gateway.Config, r *rig) {
		cfg.Limits.DrainTimeout = 50 * time.Millisecond
		r.guard.interest = func(ocpp.Direction, string) bool { return true }
		r.guard.message = func(ctx context.Context, _ fleet.Session, _ fleet.Message) fleet.Verdict {
			close(begun)
			<-ctx.Done()
			return fleet.Verdict{}
		}
	})
	s, _ := r.station(t, "CS-1", nil)
	s.send(t, `[2,"1","A",{}]`)
	<-begun
	r.stop()
}

func TestTasksOfASession(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	station, _ := r.station(t, "CS-1", nil)
	s := r.live(t, "cs-1")
	done := make(chan struct{})
	s.Go(func(ctx context.Context) { <-ctx.Done(); close(done) })
	s.Go(func(context.Context) { panic("boom") })
	station.wantClose(t, 1011)
	<-done
	eventually(t, "Closed is last", func() bool {
		log := r.guard.log()
		return len(log) > 0 && log[len(log)-1] == "closed CS-1"
	})
	s.Go(func(context.Context) { t.Error("a task ran after the end") })
	r.stop()
}

// The context of tasks is made for the first and given up with the last; the next
// task gets another, and the session's end reaches it.
func TestTasksHaveAContextOfTheirTime(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.station(t, "CS-1", nil)
	s := r.live(t, "cs-1")
	run := func(f func(context.Context)) (ended chan struct{}) {
		ended = make(chan struct{})
		s.Go(func(ctx context.Context) { defer close(ended); f(ctx) })
		return ended
	}
	for range 3 {
		<-run(func(ctx context.Context) {
			if ctx.Err() != nil {
				t.Error("a task began with a context that was over")
			}
		})
		eventually(t, "no context without tasks", func() bool { return gateway.TaskContext(s) == nil })
	}
	last := run(func(ctx context.Context) { <-ctx.Done() })
	s.End("enough")
	<-last
	eventually(t, "session gone", func() bool { return len(r.Sessions()) == 0 })
}

func TestReload(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	other := newCSMS(t)
	if err := r.Reload([]gateway.Backend{{URL: "http://x"}}, gateway.Limits{}); err == nil {
		t.Error("a bad back end was taken")
	}
	old, backend := r.station(t, "CS-1", nil)
	if err := r.Reload([]gateway.Backend{
		{URL: "ws://" + other.Addr().String(), Match: gateway.Match{Identity: "cs-2*", Vendor: "acme", Profile: 2}, Security: fleet.SecurityObserve},
		{URL: "ws://" + r.csms.Addr().String()},
	}, gateway.Limits{}); err != nil {
		t.Fatal(err)
	}
	old.send(t, `[2,"1","Heartbeat",{}]`)
	backend.want(t, `[2,"1","Heartbeat",{}]`)
	if _, err := r.dial(t, r.tlsConfig(), request("/ocpp/CS-22", nil)); err != nil {
		t.Fatal(err)
	}
	b := other.next(t)
	b.conn.Close()
	r.station(t, "CS-3", nil)
}

func TestServeFailsWithItsListener(t *testing.T) {
	t.Parallel()
	var l *gateway.Listener
	r := newRig(t, func(cfg *gateway.Config, _ *rig) { l = &cfg.Listeners[0] })
	l.Net.Close()
	if err := <-r.served; err == nil {
		t.Error("Serve went on without its listener")
	}
	r.served <- nil // for the clean-up
}
