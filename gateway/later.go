package gateway

import (
	"context"
	"encoding/json"
	"errors"

	"bollard/fleet"
	"bollard/ocpp"
)

// maxLater is how many verdicts of one session may be worked out beside its
// pump. Those over it hold the pump up: that is the back pressure.
const maxLater = 4

// settle carries out a verdict that takes its time, beside the pump if there is
// room: the station's answers to the back end must not wait for it.
func (s *session) settle(d ocpp.Direction, frame []byte, msg fleet.Message, later func(context.Context) fleet.Verdict) error {
	finish := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, s.limits.CallTimeout)
		verdict := later(ctx)
		cancel()
		verdict.Later = nil
		switch {
		case s.ending.Load():
			return errEnded
		case verdict.Act == fleet.Pass: // too late for that: order would be lost
			verdict = fleet.Verdict{Act: fleet.Refuse, Code: ocpp.InternalError, Reason: "internal error: a late verdict can't pass a frame"}
		}
		return s.conclude(d, frame, msg, verdict)
	}
	if s.late.Add(1) > maxLater {
		defer s.late.Add(-1)
		return finish(s.work())
	}
	s.Go(func(ctx context.Context) {
		defer s.late.Add(-1)
		_ = finish(ctx) // errEnded: the session is ending, which is for the pumps to see
	})
	return nil
}

// conclude carries out a verdict.
func (s *session) conclude(d ocpp.Direction, frame []byte, msg fleet.Message, verdict fleet.Verdict) error {
	s.gateway.metrics.guarded.WithLabelValues(d.String(), verdictName(verdict.Act)).Inc()
	if s.ending.Load() && verdict.Act == fleet.Pass {
		return errEnded
	}
	if verdict.Act == fleet.Pass && verdict.Rewrite != nil {
		var err error
		if frame, err = rewritten(&msg, verdict.Rewrite); err != nil {
			verdict = fleet.Verdict{Act: fleet.Refuse, Code: ocpp.InternalError, Reason: err.Error()}
		}
	}
	err := s.carryOut(d, frame, s.mediator.decide(&msg, frame, verdict, s.now()))
	if err == nil && verdict.After != nil {
		s.Go(verdict.After)
	}
	return err
}

// rewritten is the frame with another payload: encoded anew, never patched. What
// its sender signed can't be.
func rewritten(msg *fleet.Message, payload json.RawMessage) ([]byte, error) {
	if _, signed := msg.Head.BaseAction(); signed {
		return nil, errors.New("internal error: a signed message can't be rewritten")
	}
	return ocpp.AppendRequest(nil, msg.Head, payload)
}
