package csms

import (
	"bytes"
	"sync"
	"time"

	"bollard/ocpp"
)

// Frame is one message as it was on the wire.
type Frame struct {
	Identity  string
	Direction ocpp.Direction
	Bytes     []byte
	At        time.Time
}

// EventKind names what happened to a connection.
type EventKind string

// The kinds of events.
const (
	Opened  EventKind = "opened"
	Closed  EventKind = "closed"
	Refused EventKind = "refused"
)

// Event is one thing that happened to a connection, in order.
type Event struct {
	Kind     EventKind
	Identity string
	Hello    Hello
	Status   int // HTTP status of a refusal
	At       time.Time
}

// book keeps frames and events in order.
type book struct {
	off   bool
	clock func() time.Time

	mu     sync.Mutex
	frames []Frame
	events []Event
}

func (b *book) frame(identity string, d ocpp.Direction, frame []byte) {
	if b.off {
		return
	}
	f := Frame{Identity: identity, Direction: d, Bytes: bytes.Clone(frame), At: b.clock()}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frames = append(b.frames, f)
}

func (b *book) event(e Event) {
	if b.off {
		return
	}
	e.At = b.clock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
}

// Frames returns the frames of a station, both directions, in order; of all
// stations with "".
func (s *Server) Frames(identity string) []Frame {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	var out []Frame
	for _, f := range s.book.frames {
		if identity == "" || f.Identity == identity {
			out = append(out, f)
		}
	}
	return out
}

// Seen returns the bytes of one direction of a station's frames, in order.
func (s *Server) Seen(identity string, d ocpp.Direction) [][]byte {
	var out [][]byte
	for _, f := range s.Frames(identity) {
		if f.Direction == d {
			out = append(out, f.Bytes)
		}
	}
	return out
}

// Events returns what happened to a station's connections; of all with "".
func (s *Server) Events(identity string) []Event {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	var out []Event
	for _, e := range s.book.events {
		if identity == "" || e.Identity == identity {
			out = append(out, e)
		}
	}
	return out
}
