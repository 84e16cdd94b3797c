package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bollard/e2e/rawws"
	"bollard/fleet"
	"bollard/gateway"
	"bollard/ocpp"
)

type outcome struct {
	payload json.RawMessage
	err     error
}

func call(s fleet.Session, action string) chan outcome {
	ch := make(chan outcome, 1)
	s.Go(func(ctx context.Context) {
		p, err := s.Call(ctx, action, map[string]int{"n": 1})
		ch <- outcome{p, err}
	})
	return ch
}

// id returns the message id of a frame.
func id(t *testing.T, frame string) string {
	t.Helper()
	h, err := ocpp.ParseHead([]byte(frame))
	if err != nil {
		t.Fatal(err)
	}
	return string(h.ID)
}

func (r *rig) live(t *testing.T, key string) fleet.Session {
	t.Helper()
	eventually(t, "live session", func() bool { _, ok := r.Session(key); return ok })
	s, _ := r.Session(key)
	return s
}

func TestOwnCallsShareTheSlotAndStayHere(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.QueuedCalls = 1 })
	station, backend := r.station(t, "CS-1", nil)
	s := r.live(t, "cs-1")

	backend.send(t, `[2,"a","Reset",{}]`)
	station.want(t, `[2,"a","Reset",{}]`)
	own := call(s, "TriggerMessage")
	backend.send(t, `[2,"b","ClearCache",{}]`)     // waits
	backend.send(t, `[2,"c","ClearCache",{}]`)     // no room
	backend.wantPrefix(t, `[4,"c",`)               // and is told so
	station.send(t, `[2,"h","Heartbeat",{}]`)      // the other direction is free
	backend.want(t, `[2,"h","Heartbeat",{}]`)      //
	backend.send(t, `[3,"h",{}]`)                  //
	station.want(t, `[3,"h",{}]`)                  // nothing of the queue came before
	station.send(t, `[3,"a",{"status":"OK"}]`)     //
	backend.want(t, `[3,"a",{"status":"OK"}]`)     //
	next := station.wantPrefix(t, `[2,"`)          // whoever was first
	if !strings.Contains(next, "TriggerMessage") { // the order of own and b is the race's
		station.send(t, `[3,"b",{}]`)
		backend.want(t, `[3,"b",{}]`)
		next = station.wantPrefix(t, `[2,"bollard:`)
	}
	if n := len(id(t, next)); n > 36 {
		t.Errorf("own id has %d characters", n)
	}
	station.send(t, `[3,"`+id(t, next)+`",{"status":"mine"}]`)
	if got := <-own; got.err != nil || string(got.payload) != `{"status":"mine"}` {
		t.Errorf("own call: %s, %v", got.payload, got.err)
	}
	station.send(t, `[3,"`+id(t, next)+`",{"status":"again"}]`)
	station.send(t, `[2,"end","Heartbeat",{}]`)
	for {
		m := string(must(backend.ReadMessage()))
		if strings.Contains(m, "bollard:") {
			t.Fatalf("an own answer went upstream: %s", m)
		}
		if m == `[2,"end","Heartbeat",{}]` {
			break
		}
	}
}

// clock is a clock the test moves. Timers are real: a gateway with a short
// timeout looks at it often.
type clock struct{ atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(0, c.Load()) }

func TestOwnCallFailures(t *testing.T) {
	t.Parallel()
	const timeout = 100 * time.Millisecond
	var clock clock
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Clock, cfg.Limits.CallTimeout = clock.now, timeout
	})
	station, backend := r.station(t, "CS-1", nil)
	s := r.live(t, "cs-1")

	own := call(s, "Reset")
	frame := station.wantPrefix(t, `[2,"bollard:`)
	station.send(t, `[4,"`+id(t, frame)+`","NotImplemented","sorry",{}]`)
	got := <-own
	if f, ok := errors.AsType[*ocpp.CallFailure](got.err); !ok || f.Code != ocpp.NotImplemented {
		t.Errorf("CALLERROR became %v", got.err)
	}

	own = call(s, "Reset")
	late := id(t, station.wantPrefix(t, `[2,"bollard:`))
	clock.Add(int64(timeout))
	if got := <-own; got.err == nil {
		t.Error("no timeout")
	}
	station.send(t, `[3,"`+late+`",{}]`)
	eventually(t, "late answer counted", func() bool { return r.metric(t, "frames_dropped_total", "reason=late-answer") == 1 })

	// One that waited too long is never sent, the next gets the slot, and the
	// late answer to the back end's CALL is dropped too.
	backend.send(t, `[2,"a","Reset",{}]`)
	station.want(t, `[2,"a","Reset",{}]`)
	seen := func() { // what was sent before it is booked by now
		t.Helper()
		backend.send(t, `[2,"bollard:x","Reset",{}]`)
		backend.wantPrefix(t, `[4,"bollard:x",`)
	}
	backend.send(t, `[2,"stale","Reset",{}]`)
	seen()
	clock.Add(int64(timeout / 2))
	backend.send(t, `[2,"b","Reset",{}]`)
	seen()
	clock.Add(int64(timeout / 2))
	station.want(t, `[2,"b","Reset",{}]`)
	backend.wantPrefix(t, `[4,"stale","GenericError",`)
	station.send(t, `[3,"a",{}]`)
	station.send(t, `[3,"b",{}]`)
	backend.want(t, `[3,"b",{}]`)
	if n := r.metric(t, "call_timeouts_total"); n != 2 {
		t.Errorf("%v timeouts counted, want 2", n)
	}
	if n := r.metric(t, "frames_dropped_total", "reason=late-answer"); n != 2 {
		t.Errorf("%v late answers counted, want 2", n)
	}

	own = call(s, "Reset")
	station.wantPrefix(t, `[2,"bollard:`)
	s.End("over")
	if got := <-own; got.err == nil {
		t.Error("a call outlived its session")
	}
	if _, err := s.Call(t.Context(), "Reset", nil); err == nil {
		t.Error("a call after the end")
	}
}

func TestGivenUpCallKeepsTheSlot(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	station, backend := r.station(t, "CS-1", nil)
	s := r.live(t, "cs-1")
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { _, err := s.Call(ctx, "Reset", nil); failed <- err }()
	frame := station.wantPrefix(t, `[2,"bollard:`)
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	backend.send(t, `[2,"a","Reset",{}]`)
	station.send(t, `[2,"h","Heartbeat",{}]`)
	backend.want(t, `[2,"h","Heartbeat",{}]`)
	backend.send(t, `[3,"h",{}]`)
	station.want(t, `[3,"h",{}]`) // not "a": the station still works on ours
	station.send(t, `[3,"`+id(t, frame)+`",{}]`)
	station.want(t, `[2,"a","Reset",{}]`)
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	ran := make(chan struct{}, 1)
	watched := make(chan string, 4)
	r := newRig(t, func(_ *gateway.Config, r *rig) {
		r.guard.interest = func(_ ocpp.Direction, a string) bool { return strings.HasPrefix(a, "X") }
		r.guard.message = func(_ context.Context, s fleet.Session, m fleet.Message) fleet.Verdict {
			switch m.Action {
			case "XAnswer":
				return fleet.Verdict{Act: fleet.Answer, Payload: map[string]string{"status": "Accepted"},
					After: func(context.Context) { ran <- struct{}{} }}
			case "XRefuse":
				return fleet.Verdict{Act: fleet.Refuse, Code: ocpp.OccurrenceConstraintViolation, Reason: "secret reason"}
			case "XDrop":
				return fleet.Verdict{Act: fleet.Drop}
			case "XWatch":
				return fleet.Verdict{Watch: true}
			case "XEnd":
				return fleet.Verdict{Act: fleet.End, Reason: "serial differs"}
			}
			panic("boom")
		}
		r.guard.answered = func(c fleet.Message, a ocpp.Head) { watched <- c.Action + string(a.Payload) }
	})
	station, backend := r.station(t, "CS-1", nil)
	for _, side := range []struct{ from, to *link }{{station, backend}, {backend, station}} {
		side.from.send(t, `[2, "1" ,"XAnswer",{}]`)
		side.from.want(t, `[3,"1",{"status":"Accepted"}]`)
		<-ran
		side.to.send(t, `[3,"1",{"status":"forged"}]`) // the answer was ours
		side.from.send(t, `[2,"2","XRefuse",{}]`)
		if m := side.from.wantPrefix(t, `[4,"2","OccurenceConstraintViolation"`); strings.Contains(m, "secret") {
			t.Errorf("the reason leaked: %s", m)
		}
		side.from.send(t, `[2,"3","XDrop",{}]`)
		side.from.send(t, `[2,"4","XWatch",{ }]`)
		side.to.want(t, `[2,"4","XWatch",{ }]`)
		side.to.send(t, `[3,"4",{"seen":1}]`)
		side.from.want(t, `[3,"4",{"seen":1}]`)
		if got := <-watched; got != `XWatch{"seen":1}` {
			t.Errorf("watched %s", got)
		}
	}
	station.send(t, `[2,"5","XEnd",{}]`)
	station.wantClose(t, 1008)
	backend.wantClose(t, 1001)

	station, backend = r.station(t, "CS-2", nil)
	station.send(t, `[2,"6","XPanic",{}]`)
	station.wantClose(t, 1011)
	backend.wantClose(t, 1001)
	r.station(t, "CS-3", nil) // the process lives
	if r.metric(t, "panics_total") != 1 {
		t.Error("the panic was not counted")
	}
}

func TestOutstandingCallsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.Outstanding = 2 })
	station, backend := r.station(t, "CS-1", nil)
	for i := range 3 {
		station.send(t, fmt.Sprintf(`[2,"%d","Heartbeat",{}]`, i))
	}
	backend.want(t, `[2,"0","Heartbeat",{}]`)
	backend.want(t, `[2,"1","Heartbeat",{}]`)
	_ = backend.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if m, err := backend.ReadMessage(); err == nil {
		t.Fatalf("a third CALL came through: %s", m)
	}
	_ = backend.conn.SetReadDeadline(time.Now().Add(patience))
	backend.send(t, `[3,"0",{}]`)
	station.want(t, `[3,"0",{}]`)
	backend.want(t, `[2,"2","Heartbeat",{}]`)
	backend.send(t, `[3,"9",{}]`) // never asked
	backend.send(t, `[3,"1",{}]`)
	station.want(t, `[3,"1",{}]`)
	backend.send(t, `[3,"1",{}]`) // twice
	backend.send(t, `[3,"2",{}]`)
	station.want(t, `[3,"2",{}]`)
}

func TestRetriesWithTheSameID(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	station, backend := r.station(t, "CS-1", func(q *rawws.Request) { q.Subprotocols = []string{"ocpp2.0.1"} })
	for range 2 {
		station.send(t, `[2,"r","Heartbeat",{}]`)
		backend.want(t, `[2,"r","Heartbeat",{}]`)
	}
	for range 3 {
		backend.send(t, `[3,"r",{}]`)
	}
	backend.send(t, `[2,"end","Reset",{}]`)
	station.want(t, `[3,"r",{}]`)
	station.want(t, `[3,"r",{}]`)
	station.want(t, `[2,"end","Reset",{}]`)
}
