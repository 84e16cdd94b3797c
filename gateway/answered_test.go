package gateway_test

import (
	"context"
	"sync"
	"testing"

	"bollard/detect"
	"bollard/e2e/rawws"
	"bollard/fleet"
	"bollard/gateway"
	"bollard/ocpp"
)

// What an answer allows happens after the peer has it: a CALL of Bollard's own
// must not overtake the answer to a BootNotification (OCPP 2.0.1 B01, B02).
func TestAnswerIsWrittenBeforeWhatItAllows(t *testing.T) {
	t.Parallel()
	read := make(chan struct{})
	done := sync.OnceFunc(func() { close(read) })
	r := newRig(t, func(cfg *gateway.Config, r *rig) {
		r.guard.interest = func(_ ocpp.Direction, action string) bool { return action == ocpp.ActionBootNotification }
		r.guard.message = func(context.Context, fleet.Session, fleet.Message) fleet.Verdict { return fleet.Verdict{Watch: true} }
		r.guard.then = func() { <-read } // if this came first, nobody would ever read the answer
	})
	t.Cleanup(done) // before the rig closes, which waits for the session
	station, backend := r.station(t, "CS-1", nil)
	station.send(t, `[2,"1","BootNotification",{}]`)
	backend.want(t, `[2,"1","BootNotification",{}]`)
	backend.send(t, `[3,"1",{"status":"Accepted"}]`)
	station.want(t, `[3,"1",{"status":"Accepted"}]`)
	done()
}

// A complaint about an answer of Bollard's own (CALLRESULTERROR, OCPP 2.1 part 4 §4.1.3)
// is the operator's to hear, once, and no answer to something nobody asked.
func TestComplaintAboutAnOwnAnswer(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var signs []detect.Kind
	r := newRig(t, func(cfg *gateway.Config, r *rig) {
		r.guard.interest = func(_ ocpp.Direction, action string) bool { return action == ocpp.ActionSecurityEvent }
		r.guard.message = func(context.Context, fleet.Session, fleet.Message) fleet.Verdict {
			return fleet.Verdict{Act: fleet.Answer, Payload: struct{}{}}
		}
		cfg.Notice = func(s detect.Sign) {
			mu.Lock()
			defer mu.Unlock()
			signs = append(signs, s.Kind)
		}
	})
	station, backend := r.station(t, "CS-1", func(q *rawws.Request) { q.Subprotocols = []string{"ocpp2.1"} })
	station.send(t, `[2,"e","SecurityEventNotification",{}]`)
	station.want(t, `[3,"e",{}]`)
	station.send(t, `[5,"e","FormatViolation","",{}]`)
	station.send(t, `[2,"h","Heartbeat",{}]`)
	backend.want(t, `[2,"h","Heartbeat",{}]`)
	if n := r.metric(t, "frames_dropped_total", "reason=answer-not-understood"); n != 1 {
		t.Errorf("%v complaints were counted", n)
	}
	mu.Lock()
	if len(signs) != 0 {
		t.Errorf("it is a sign of %v", signs)
	}
	mu.Unlock()
	station.send(t, `[5,"e","FormatViolation","",{}]`)
	station.send(t, `[2,"h2","Heartbeat",{}]`)
	backend.want(t, `[2,"h2","Heartbeat",{}]`)
	if n := r.metric(t, "frames_dropped_total", "reason=unsolicited-answer"); n != 1 {
		t.Errorf("%v repetitions were counted", n)
	}
}
