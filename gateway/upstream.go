package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// lookEvery is how often a waiting errand looks whether the station's CALLs
// ahead of it have timed out: that makes no event of its own.
const lookEvery = time.Second

// Backend names the session's back end.
func (s *session) Backend() string { return s.backend.Name }

// Upstream sends a CALL of Bollard's own to the back end and waits for the
// answer. It must not be called from Message or Answered: the pumps they hold
// up are what makes the gap and brings the answer.
func (s *session) Upstream(ctx context.Context, action string, payload any) (json.RawMessage, error) {
	one, err := newErrand(action, payload)
	if err != nil {
		return nil, fmt.Errorf("couldn't call the back end: %w", err)
	}
	if err := s.mediator.sendErrand(one, s.now()); err != nil {
		return nil, fmt.Errorf("couldn't call the back end: %w", err)
	}
	if err := s.awaitTurn(ctx, one); err != nil {
		s.mediator.dropErrand(one, s.now())
		return nil, fmt.Errorf("couldn't call the back end: %w", err)
	}
	if err := s.upstream.Write(one.frame); err != nil {
		s.end(cause{class: "backend-lost", reason: err.Error()})
		return nil, fmt.Errorf("couldn't call the back end: %w", err)
	}
	patience := time.NewTimer(min(errandPatience, s.limits.CallTimeout))
	defer patience.Stop()
	select {
	case r := <-one.told:
		return r.payload, r.err
	case <-patience.C:
		err = errBackendTimeout
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.mediator.dropErrand(one, s.now())
	return nil, fmt.Errorf("couldn't wait for the back end's answer: %w", err)
}

// awaitTurn waits for a gap between the station's CALLs, longer than one that
// nobody answers can keep the line.
func (s *session) awaitTurn(ctx context.Context, one *errand) error {
	patience := time.NewTimer(2 * s.limits.CallTimeout)
	defer patience.Stop()
	look := time.NewTicker(min(lookEvery, s.limits.CallTimeout/4))
	defer look.Stop()
	for {
		select {
		case <-one.turn:
			return nil
		case r := <-one.told:
			return r.err
		case <-look.C:
			s.mediator.lookErrand(s.now())
		case <-patience.C:
			s.mediator.lookErrand(s.now()) // the clocks may ring together after a pause of the process
			select {
			case <-one.turn:
				return nil
			default:
				return errNoGap
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
