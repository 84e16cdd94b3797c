package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/gateway"
	"bollard/ocpp"
)

func upstream(s fleet.Session, action string) chan outcome {
	ch := make(chan outcome, 1)
	s.Go(func(ctx context.Context) {
		p, err := s.Upstream(ctx, action, json.RawMessage(`{"n":1}`))
		ch <- outcome{p, err}
	})
	return ch
}

func TestErrandWaitsForAGapAndItsAnswerStaysHere(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	station, backend := r.station(t, "CS-1", nil)
	s := r.live(t, "cs-1")
	if s.Backend() != "main" {
		t.Errorf("back end %q", s.Backend())
	}

	station.send(t, `[2,"a","Heartbeat",{}]`)
	backend.want(t, `[2,"a","Heartbeat",{}]`)
	own := upstream(s, "SecurityEventNotification")
	backend.send(t, `[2,"r","Reset",{}]`) // the other direction is free
	station.want(t, `[2,"r","Reset",{}]`)
	station.send(t, `[3,"r",{}]`)
	backend.want(t, `[3,"r",{}]`) // nothing of ours came between
	backend.send(t, `[3,"a",{}]`)
	station.want(t, `[3,"a",{}]`)
	frame := backend.wantPrefix(t, `[2,"bollard:`)
	if !strings.HasSuffix(frame, `,"SecurityEventNotification",{"n":1}]`) {
		t.Errorf("frame %s", frame)
	}
	station.send(t, `[2,"b","Heartbeat",{}]`) // waits until the errand is answered
	station.send(t, `[2,"c","Heartbeat",{}]`) // behind it, in order
	backend.send(t, `[3,"`+id(t, frame)+`",{"mine":true}]`)
	if got := <-own; got.err != nil || string(got.payload) != `{"mine":true}` {
		t.Errorf("errand: %s, %v", got.payload, got.err)
	}
	backend.want(t, `[2,"b","Heartbeat",{}]`)
	backend.want(t, `[2,"c","Heartbeat",{}]`)
	backend.send(t, `[3,"`+id(t, frame)+`",{"mine":true}]`) // again: nobody's
	backend.send(t, `[3,"b",{}]`)
	station.want(t, `[3,"b",{}]`)
	if n := r.metric(t, "frames_dropped_total", "reason=unsolicited-answer"); n != 1 {
		t.Errorf("%v unsolicited answers counted", n)
	}
}

func TestRefusedErrand(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, backend := r.station(t, "CS-1", nil)
	own := upstream(r.live(t, "cs-1"), "SecurityEventNotification")
	frame := backend.wantPrefix(t, `[2,"bollard:`)
	backend.send(t, `[4,"`+id(t, frame)+`","NotSupported","sorry",{}]`)
	got := <-own
	if f, ok := errors.AsType[*ocpp.CallFailure](got.err); !ok || f.Code != ocpp.NotSupported {
		t.Errorf("CALLERROR became %v", got.err)
	}
}

// Nothing in here has to be in time: only what is late matters.
func TestErrandsThatTimeOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.CallTimeout = 300 * time.Millisecond })
	station, backend := r.station(t, "CS-1", nil)
	s := r.live(t, "cs-1")

	own := upstream(s, "SecurityEventNotification")
	late := id(t, backend.wantPrefix(t, `[2,"bollard:`))
	station.send(t, `[2,"a","Heartbeat",{}]`) // held up, but not for longer than the errand's time
	backend.want(t, `[2,"a","Heartbeat",{}]`)
	if got := <-own; got.err == nil {
		t.Error("no timeout")
	}
	backend.send(t, `[3,"`+late+`",{}]`)
	backend.send(t, `[3,"a",{}]`)
	station.want(t, `[3,"a",{}]`) // and nothing late before it
	eventually(t, "late answer counted", func() bool { return r.metric(t, "frames_dropped_total", "reason=late-answer") == 1 })

	// CALLs of the station that nobody answers don't keep the line for ever.
	station.send(t, `[2,"b","Heartbeat",{}]`)
	backend.want(t, `[2,"b","Heartbeat",{}]`)
	own = upstream(s, "SecurityEventNotification")
	backend.wantPrefix(t, `[2,"bollard:`)
	<-own
}

func TestErrandsEndWithTheirSession(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, backend := r.station(t, "CS-1", nil)
	s := r.live(t, "cs-1")
	own := upstream(s, "SecurityEventNotification")
	backend.wantPrefix(t, `[2,"bollard:`)
	s.End("over")
	if got := <-own; got.err == nil || strings.Contains(got.err.Error(), "in time") {
		t.Errorf("the end of the session told an errand %v", got.err)
	}
	if _, err := s.Upstream(t.Context(), "SecurityEventNotification", nil); err == nil {
		t.Error("an errand after the end")
	}
}
