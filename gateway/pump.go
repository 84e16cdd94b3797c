package gateway

import (
	"bytes"
	"context"
	"errors"
	"time"

	"bollard/detect"
	"bollard/fleet"
	"bollard/internal/ws"
	"bollard/ocpp"
)

// keepBuffer is the largest read buffer an idle pump holds on to: 99 % of
// messages fit 2 kB (OCPP 2.1 part 4 §5.2).
const keepBuffer = 4 << 10

// errEnded says that the frame just carried out ended the session.
var errEnded = errors.New("the session has ended")

// pump moves whole frames one way until its side is lost or the session ends.
func (s *session) pump(d ocpp.Direction) {
	defer s.recovered("pump " + d.String())
	side := s.station
	if d == ocpp.FromCSMS {
		side = s.upstream
	}
	from, ok := side.(*ws.Conn)
	if !ok { // cannot be: a loop reads the others
		return
	}
	var buf []byte
	for n := 0; ; n++ {
		frame, err := from.Read(buf)
		if err != nil {
			s.end(s.lost(d, err))
			return
		}
		if s.ending.Load() { // nothing may pass a session that was ended
			return
		}
		var start time.Time
		measured := n%16 == 0
		if measured {
			start = s.now()
		}
		st := s.mediator.judge(d, frame, s.gateway.cfg.Clock)
		if err := s.carryOut(d, frame, st); err != nil {
			return
		}
		if measured && st.act == actPass {
			s.gateway.metrics.took(s.now().Sub(start))
		}
		if buf = frame; cap(buf) > keepBuffer {
			buf = nil
		}
	}
}

// lost says what the end of one side means for the other. The peer's own close
// code is passed on where RFC 6455 §7.4.1 lets it be sent; its text is not.
func (s *session) lost(d ocpp.Direction, err error) cause {
	c := cause{class: "station-lost", reason: err.Error()}
	code := ws.CloseStatus(err)
	if violation, ok := errors.AsType[*ws.ViolationError](err); ok {
		c.class = "station-violation"
		s.notice(d, "bad-frame")
		c.reason = violation.Error()
		code = ws.CloseGoingAway
	}
	switch {
	case code == ws.CloseNormal, code == ws.ClosePolicyViolation, code >= 1011 && code <= 1014, code >= 3000 && code <= 4999:
	default:
		code = ws.CloseGoingAway
	}
	if d == ocpp.FromStation {
		c.up = code
		return c
	}
	// The station's socket goes too, so that it queues what nobody would
	// deliver (OCPP 2.0.1 part 4 §6).
	c.class = map[string]string{"station-lost": "backend-lost", "station-violation": "backend-violation"}[c.class]
	c.down = code
	return c
}

// carryOut does what the mediator judged. An error means that the pump ends.
func (s *session) carryOut(d ocpp.Direction, frame []byte, st step) error {
	switch st.act {
	case actPass:
		return s.handOn(d, frame, nil, st)
	case actConsult:
		return s.consult(d, frame)
	case actAnswered:
		var then func()
		if st.call != nil {
			answer := ownAnswer(frame, st)
			ctx, cancel := context.WithTimeout(s.work(), s.limits.CallTimeout)
			then = s.gateway.cfg.Guard.Answered(ctx, s, *st.call, answer)
			cancel()
			if s.ending.Load() {
				return errEnded
			}
		}
		if err := s.handOn(d, s.merged(d, frame, st), nil, st); err != nil || then == nil {
			return err
		}
		then()
		return nil
	case actStall:
		if err := s.stall(st.entry); err != nil {
			return err
		}
		return s.handOn(d, frame, nil, st)
	case actReply:
		s.note(d, st)
		return s.reply(d, st.reply)
	case actEnd:
		s.End(st.detail)
		return errEnded
	case actHeld:
		return nil
	}
	if st.reason != "own-answer" {
		s.note(d, st)
	}
	if st.freed {
		s.advance()
	}
	return nil
}

// merged is the answer to a rewritten CALL for the one who sent it.
func (s *session) merged(d ocpp.Direction, frame []byte, st step) []byte {
	if st.merge == nil || st.head.Type != ocpp.CallResult {
		return frame
	}
	head, err := ocpp.ParseHead(bytes.Clone(frame))
	if err != nil { // cannot be: the same bytes were judged a moment ago
		return frame
	}
	payload, err := st.merge(head.Payload)
	if err == nil {
		var out []byte
		if out, err = ocpp.AppendResult(nil, head.RawID, payload); err == nil {
			return out
		}
	}
	s.note(d, step{reason: "unmerged-answer", detail: err.Error()})
	return frame
}

// handOn writes the frame, byte for byte, to the other side. raw may be the
// WebSocket frame it came in.
func (s *session) handOn(d ocpp.Direction, frame, raw []byte, st step) error {
	to, class := s.upstream, "backend-lost"
	if d == ocpp.FromCSMS {
		to, class = s.station, "station-lost"
	}
	if err := to.Pass(frame, raw); err != nil {
		s.end(cause{class: class, reason: err.Error()})
		return errEnded
	}
	s.gateway.metrics.passed(d, st.head.Type, len(frame))
	switch {
	case d == ocpp.FromCSMS && st.head.Type == ocpp.Call:
		s.watchSlot()
	case st.freed:
		s.advance()
	}
	return nil
}

// reply writes an answer of the gateway's own back to the sender.
func (s *session) reply(d ocpp.Direction, frame []byte) error {
	to, class := s.station, "station-lost"
	if d == ocpp.FromCSMS {
		to, class = s.upstream, "backend-lost"
	}
	if err := to.Write(frame); err != nil {
		s.end(cause{class: class, reason: err.Error()})
		return errEnded
	}
	return nil
}

// stall waits until a CALL of the station can be booked. Meanwhile nothing is
// read from the station: that is the back pressure.
func (s *session) stall(entry asked) error {
	for {
		if s.ending.Load() {
			return errEnded
		}
		room, wait, ok := s.mediator.enter(entry, s.now())
		if ok {
			return nil
		}
		timer := time.NewTimer(max(wait, time.Millisecond))
		select {
		case <-room:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// consult asks the Guard about a CALL or SEND and carries out its verdict. The
// service gets a copy of the frame: it may keep it, the pump's buffer it may not.
func (s *session) consult(d ocpp.Direction, frame []byte) error {
	own := bytes.Clone(frame)
	head, err := ocpp.ParseHead(own)
	if err != nil { // cannot be: the same bytes were judged a moment ago
		return s.carryOut(d, frame, s.mediator.bad(err))
	}
	action, signed := head.BaseAction()
	msg := fleet.Message{Direction: d, Head: head, Action: action, Payload: head.Payload}
	if signed {
		if msg.Payload, err = ocpp.DecodeSigned(head.Payload); err != nil {
			refusal := s.mediator.refuse(head, ocpp.FormatViolation, "not a signed message", "bad-signed")
			refusal.detail = err.Error()
			return s.carryOut(d, frame, refusal)
		}
	}
	ctx, cancel := context.WithTimeout(s.work(), s.limits.CallTimeout)
	verdict := s.gateway.cfg.Guard.Message(ctx, s, msg)
	cancel()
	if verdict.Later != nil {
		return s.settle(d, own, msg, verdict.Later)
	}
	return s.conclude(d, frame, msg, verdict)
}

func verdictName(a fleet.Act) string {
	return [...]string{fleet.Pass: "pass", fleet.Answer: "answer", fleet.Refuse: "refuse",
		fleet.Drop: "drop", fleet.End: "end"}[min(a, fleet.End)]
}

// ownAnswer copies a watched answer, so that a service may keep it, and opens
// a signed one: a station that can sign answers a signed CALL so (OCPP 2.1
// part 4 §7).
func ownAnswer(frame []byte, st step) ocpp.Head {
	head, err := ocpp.ParseHead(bytes.Clone(frame))
	if err != nil {
		return st.head
	}
	if _, signed := st.call.Head.BaseAction(); signed && head.Type == ocpp.CallResult {
		if inner, err := ocpp.DecodeSigned(head.Payload); err == nil {
			head.Payload = inner
		}
	}
	return head
}

// note counts a frame that goes nowhere and tells the operator, a few times a session.
func (s *session) note(d ocpp.Direction, st step) {
	if st.reason == "answered" || st.reason == "refused" {
		return // a service's decision: counted as such, and recorded by the service
	}
	s.gateway.metrics.dropped.WithLabelValues(d.String(), st.reason).Inc()
	if n := s.noisy.Add(1); n <= maxNoise {
		s.notice(d, st.reason)
		s.log().Warn("frame not handed on", "direction", d.String(), "reason", st.reason, "detail", capped(st.detail),
			"last_notice", n == maxNoise)
	}
}

// notice tells of what a station's frame that goes nowhere is a sign of, as
// often as of any the log is told.
func (s *session) notice(d ocpp.Direction, reason string) {
	if d != ocpp.FromStation {
		return
	}
	switch reason {
	case "bad-frame", "unknown-type", "bad-signed":
		s.gateway.cfg.Notice(detect.Sign{Kind: detect.BadFrame, Station: s.key, Live: true})
	case "unsolicited-answer", "reserved-id":
		s.gateway.cfg.Notice(detect.Sign{Kind: detect.Replay, Station: s.key, Live: true})
	}
}
