package gateway

import (
	"encoding/json"
	"errors"
	"time"
)

// Errors Session.Call returns beside *ocpp.CallFailure and the context's.
var (
	errCallTimeout = errors.New("the station did not answer the CALL in time")
	errSlotFull    = errors.New("too many CALLs wait for this station; try again later")
	errSessionOver = errors.New("the session has ended")
)

// slot is the one outstanding CALL toward a station (OCPP 2.1 part 4 §4.1.1),
// shared by the back end and the gateway: first come, first served. It is a
// plain state machine; its user guards it and does the writing.
//
// Invariant: at most one CALL is in flight, and a CALL is in flight only
// between the moment offer or next returned it and its answer or expiry. Who
// ends a flight calls next; until then nobody overtakes those that wait.
type slot struct {
	timeout time.Duration // of a CALL in flight, and of one that waits
	bound   int           // CALLs that may wait, the back end's and the gateway's each
	flight  *call
	queue   []*call
	late    idRing // ids that expired in flight: their answers are late, not unsolicited
}

// call is one CALL toward the station.
type call struct {
	id      string
	rawID   []byte // as spelled, for a CALLERROR to the back end
	frame   []byte // what to write; owned by the call once it waits
	waiter  chan<- reply
	watch   *watch
	expires time.Time // of the wait, then of the flight
	gone    bool      // the waiter gave up; the station may still answer
}

// reply is what a waiter gets.
type reply struct {
	payload json.RawMessage
	err     error
}

func (c *call) own() bool { return c.waiter != nil }

// tell hands the outcome of an own call to its waiter, whose channel has room for one.
func (c *call) tell(r reply) {
	if c.waiter != nil && !c.gone {
		c.waiter <- r
	}
}

// offering is what became of an offered CALL.
type offering uint8

const (
	offerSend   offering = iota // in flight: write it now
	offerQueued                 // waits; the slot has it
	offerFull                   // no room
)

// offer takes a CALL. If it has to wait, the slot keeps c.frame: the caller
// must own those bytes.
func (s *slot) offer(c *call, now time.Time) offering {
	c.expires = now.Add(s.timeout)
	if s.flight == nil && len(s.queue) == 0 {
		s.flight = c
		return offerSend
	}
	waiting := 0
	for _, q := range s.queue {
		if q.own() == c.own() {
			waiting++
		}
	}
	if waiting >= s.bound {
		return offerFull
	}
	s.queue = append(s.queue, c)
	return offerQueued
}

// answer ends the flight that the id belongs to. ok is false if nothing with
// that id is in flight; late tells that it once was.
func (s *slot) answer(id []byte) (c *call, late, ok bool) {
	if s.flight == nil || s.flight.id != string(id) {
		return nil, s.late.take(id), false
	}
	c = s.flight
	s.flight = nil
	return c, false, true
}

// expire ends the flight if its time is over.
func (s *slot) expire(now time.Time) (c *call, ok bool) {
	if s.flight == nil || now.Before(s.flight.expires) {
		return nil, false
	}
	c = s.flight
	s.flight = nil
	s.late.add(c.id)
	return c, true
}

// next puts the first CALL still in time in flight, for the caller to write.
// stale are those that waited too long: a command that old must not be obeyed.
func (s *slot) next(now time.Time) (c *call, stale []*call) {
	if s.flight != nil {
		return nil, nil
	}
	for len(s.queue) > 0 {
		c := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		if len(s.queue) == 0 {
			s.queue = nil // give the array back: most stations idle
		}
		if !now.Before(c.expires) {
			stale = append(stale, c)
			continue
		}
		c.expires = now.Add(s.timeout)
		s.flight = c
		return c, stale
	}
	return nil, stale
}

// abandon forgets an own call whose waiter gave up. In flight it keeps the
// slot, because the station is still at it.
func (s *slot) abandon(c *call) {
	c.gone = true
	for i, q := range s.queue {
		if q == c {
			s.queue = append(s.queue[:i], s.queue[i+1:]...)
			return
		}
	}
}

// clear tells every waiter that the session is over.
func (s *slot) clear(err error) {
	if s.flight != nil {
		s.flight.tell(reply{err: err})
	}
	for _, c := range s.queue {
		c.tell(reply{err: err})
	}
	s.flight, s.queue = nil, nil
}

// remembered is how many ids an idRing holds.
const remembered = 8

// idRing remembers the last few ids.
type idRing struct {
	kept *struct { // nil until the first
		ids [remembered]string
		at  int
	}
}

func (r *idRing) add(id string) {
	if r.kept == nil {
		r.kept = &struct {
			ids [remembered]string
			at  int
		}{}
	}
	r.kept.ids[r.kept.at] = id
	r.kept.at = (r.kept.at + 1) % remembered
}

// take reports whether the id is remembered, and forgets it.
func (r *idRing) take(id []byte) bool {
	if r.kept == nil {
		return false
	}
	for i, have := range &r.kept.ids {
		if have == string(id) && have != "" {
			r.kept.ids[i] = ""
			return true
		}
	}
	return false
}
