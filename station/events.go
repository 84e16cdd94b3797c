package station

import (
	"context"
	"errors"

	"bollard/ocpp"
)

// securityEvent waits for a connection on which it can be sent.
type securityEvent struct {
	kind, at string
}

// queueEvent keeps a security event and sends it as soon as the station is
// accepted and connected (A04.FR.01, .02).
func (s *Station) queueEvent(kind string) {
	at := s.stamp()
	s.mu.Lock()
	s.logged(kind, at)
	for _, e := range s.events {
		if e.kind == kind {
			s.mu.Unlock()
			return // raised once until it has been told (A00.FR.316, .419)
		}
	}
	s.events = append(s.events, securityEvent{kind, at})
	l := s.link
	s.mu.Unlock()
	if l != nil {
		s.flushEvents(l)
	}
}

// flushEvents sends queued events in order, beside everything else. An event
// leaves the queue when it was answered, whatever the answer: a CSMS that does
// not know the message will not know it later either.
func (s *Station) flushEvents(l *link) {
	s.mu.Lock()
	idle := len(s.events) == 0 || s.state.Registration != accepted
	s.mu.Unlock()
	if idle {
		return
	}
	s.background(func(ctx context.Context) {
		s.flushing.Lock()
		defer s.flushing.Unlock()
		for {
			s.mu.Lock()
			if len(s.events) == 0 || s.state.Registration != accepted || s.link != l {
				s.mu.Unlock()
				return
			}
			e := s.events[0]
			s.mu.Unlock()
			payload := object{"type": e.kind, "timestamp": e.at}
			if _, err := s.Call(ctx, "SecurityEventNotification", payload); err != nil && !isFailure(err) {
				return // kept for the next connection
			}
			s.mu.Lock()
			s.events = s.events[1:]
			s.mu.Unlock()
		}
	})
}

func isFailure(err error) bool {
	var f *ocpp.CallFailure
	return errors.As(err, &f)
}
