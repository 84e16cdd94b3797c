package gate

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"bollard/firmware/job"
	"bollard/ocpp"
)

const (
	// resetHold is how long a Reset waits for an installation to end: less than back
	// ends wait for an answer.
	resetHold = 20 * time.Second
	// resetLook is how often it is looked whether it has.
	resetLook = time.Second
)

// Judge is a Session whose CALL others have judged as well: what waited here is judged
// anew by them before it is handed on, since what they have begun meanwhile counts.
type Judge interface {
	// Anew returns a zero Verdict where the CALL may pass.
	Anew(ctx context.Context) Verdict
}

// reset holds a back end's Reset while the station installs firmware, which it could
// break off half-way; one that goes on installing is told no.
func (g *Gate) reset(ctx context.Context, sess Session, st Station, payload []byte, signed bool) Verdict {
	busy, err := g.installs(ctx, st.Key)
	if err != nil {
		return Verdict{Code: ocpp.InternalError, Reason: "couldn't find a firmware update: " + err.Error()}
	}
	if !busy {
		return Verdict{}
	}
	if signed { // it could only be passed as it came, and then out of order
		return g.refuse(ctx, sess, st, ocpp.ActionReset, block(Installing, "the station installs firmware"))
	}
	text := json.RawMessage(append([]byte(nil), payload...))
	return Verdict{Later: func(ctx context.Context) Verdict {
		tick := time.NewTicker(resetLook)
		defer tick.Stop()
		for end := g.cfg.Clock().Add(resetHold); g.cfg.Clock().Before(end); {
			if busy, err := g.installs(ctx, st.Key); err == nil && !busy {
				if others, ok := sess.(Judge); ok {
					if v := others.Anew(ctx); v.Answer != nil || v.Code != "" {
						return v
					}
				}
				return handOn(ctx, sess, text)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return g.refuse(ctx, sess, st, ocpp.ActionReset, block(Installing, "the station installs firmware"))
			}
		}
		return g.refuse(ctx, sess, st, ocpp.ActionReset, block(Installing, "the station installs firmware"))
	}}
}

// installs says whether a station is in the middle of an installation.
func (g *Gate) installs(ctx context.Context, station string) (bool, error) {
	if g.openJob(station) == "" {
		return false, nil
	}
	open, err := g.cfg.Store.OpenJobs(ctx, station)
	return len(open) > 0 && open[0].State == job.Installing, err
}

// handOn sends a back end's CALL that waited, and returns the station's answer.
func handOn(ctx context.Context, sess Session, payload json.RawMessage) Verdict {
	answer, err := sess.Call(ctx, ocpp.ActionReset, payload)
	var failure *ocpp.CallFailure
	switch {
	case errors.As(err, &failure):
		return Verdict{Code: failure.Code, Reason: "the station answered with a CALLERROR"}
	case err != nil:
		return Verdict{Code: ocpp.GenericError, Reason: "the station didn't answer"}
	}
	return Verdict{Answer: answer, Reason: "it waited until firmware was installed"}
}
