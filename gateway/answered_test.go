package gateway_test

import (
	"context"
	"sync"
	"testing"

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
