package gateway

import (
	"bytes"
	"context"
	"time"

	"bollard/internal/ws"
	"bollard/ocpp"
)

// side is one of a session's two WebSockets: a *ws.Stream on a loop, or a
// *ws.Conn with a pump.
type side interface {
	// Write sends a message of the gateway's own.
	Write(msg []byte) error
	// Pass sends on a message of the other side; raw may be its frame as it came.
	Pass(msg, raw []byte) error
	Ping(ctx context.Context) error
	Close(code int, reason string)
}

// leg takes what a loop reads from one side of a session. It does on the loop
// what can't wait; all else leaves it, and the side isn't read meanwhile, just as
// a pump wouldn't.
type leg struct {
	s      *session
	stream *ws.Stream
	d      ocpp.Direction
	n      uint8
}

// Message judges one whole frame.
func (l *leg) Message(msg, raw []byte) bool {
	s := l.s
	defer s.recovered("loop")
	if s.ending.Load() { // nothing may pass a session that was ended
		return true
	}
	var start time.Time
	measured := l.n%16 == 0
	if measured {
		start = s.now()
	}
	st := s.mediator.judge(l.d, msg, s.gateway.cfg.Clock)
	switch {
	case st.act == actPass:
		if s.handOn(l.d, msg, raw, st) != nil {
			return true
		}
		if l.n++; measured {
			s.gateway.metrics.took(s.now().Sub(start))
		}
		return false
	case st.act == actHeld:
		return false
	case s.quick(st):
		return s.carryOut(l.d, msg, st) != nil
	}
	l.leave(bytes.Clone(msg), st) // the loop's buffer is needed for others
	return true
}

// leave carries a step out beside the loop, and then has the side read on. It is
// apart from Message, whose steps would all be garbage if one could outlive it.
func (l *leg) leave(frame []byte, st step) {
	s := l.s
	st.head.ID, st.head.RawID, st.head.Payload = nil, nil, nil
	s.pumps.Add(1) // Close of the stream waits for Message, and shut for Close before it waits for pumps
	go func() {
		defer s.pumps.Done()
		defer s.recovered("pump " + l.d.String())
		if s.carryOut(l.d, frame, st) == nil {
			l.stream.Resume()
		}
	}()
}

// quick says that a step takes no service, no waiting and no line in the log,
// whose writing might wait for a disk.
func (s *session) quick(st step) bool {
	switch st.act {
	case actDrop, actReply:
		return st.reason == "own-answer" || s.noisy.Load() >= maxNoise
	}
	return false
}

// Lost ends the session with the side.
func (l *leg) Lost(err error) { l.s.end(l.s.lost(l.d, err)) }

// carry hands the session's sides to a loop, or else keeps them for the pumps.
func (s *session) carry(station, upstream *ws.Conn) {
	s.station, s.upstream = station, upstream
	s.legs = [2]leg{{s: s, d: ocpp.FromStation}, {s: s, d: ocpp.FromCSMS}}
	a, b, ok := s.gateway.loops.Load().Pair(station, &s.legs[0], upstream, &s.legs[1])
	if !ok {
		return
	}
	s.legs[0].stream, s.legs[1].stream = a, b
	s.station, s.upstream = a, b
}

// looped says that a loop moves the frames.
func (s *session) looped() bool { return s.legs[0].stream != nil }

// move begins to read.
func (s *session) move() {
	if s.looped() {
		s.legs[0].stream.Resume()
		s.legs[1].stream.Resume()
		s.pumps.Add(-2)
		return
	}
	go func() { defer s.pumps.Done(); s.pump(ocpp.FromStation) }()
	go func() { defer s.pumps.Done(); s.pump(ocpp.FromCSMS) }()
}
