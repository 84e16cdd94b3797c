package station

import (
	"bytes"
	"sync"
	"time"

	"bollard/ocpp"
)

// Frame is one WebSocket text message as it was on the wire.
type Frame struct {
	Connection int // number of the station's connection, from 1
	Direction  ocpp.Direction
	Bytes      []byte
	At         time.Time
}

// recorder keeps frames in the order of the wire.
type recorder struct {
	off   bool
	trace func(Frame)
	clock func() time.Time

	mu     sync.Mutex
	frames []Frame
}

// add notes a frame. The caller holds whatever orders the wire: the write lock
// for sent frames, the reading goroutine for received ones.
func (r *recorder) add(connection int, d ocpp.Direction, frame []byte) {
	if r.trace == nil && r.off {
		return
	}
	f := Frame{Connection: connection, Direction: d, Bytes: frame, At: r.clock()}
	if r.trace != nil {
		r.trace(f)
	}
	if r.off {
		return
	}
	f.Bytes = bytes.Clone(frame)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames = append(r.frames, f)
}

// Frames returns every frame of both directions so far, in the order in which
// they were written or read.
func (s *Station) Frames() []Frame {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	return append([]Frame(nil), s.rec.frames...)
}

// Sent returns the frames of one direction, oldest first.
func (s *Station) Sent(d ocpp.Direction) [][]byte {
	var out [][]byte
	for _, f := range s.Frames() {
		if f.Direction == d {
			out = append(out, f.Bytes)
		}
	}
	return out
}
