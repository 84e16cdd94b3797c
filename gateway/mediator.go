package gateway

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"bollard/fleet"
	"bollard/ocpp"
)

// ownPrefix begins the id of every CALL of the gateway's own. An id with it is
// refused from either side, so that answers can't be confused.
const ownPrefix = "bollard:"

func reserved(id []byte) bool { return bytes.HasPrefix(id, []byte(ownPrefix)) }

// act is what the I/O around a mediator has to do with one frame.
type act uint8

const (
	actDrop     act = iota // nothing; step.reason is counted
	actPass                // write the frame, as it came, to the other side
	actHeld                // nothing now; the slot has a copy
	actReply               // write step.reply to the frame's sender
	actConsult             // ask the Guard, then go on with decide
	actAnswered            // show step.call's answer to the Guard and merge it, then pass
	actStall               // wait until enter takes step.entry, then pass
	actEnd                 // close the session
)

// merge is fleet.Verdict.Merge.
type merge = func(result json.RawMessage) (any, error)

// step is the judgement on one frame.
type step struct {
	act    act
	reason string // class, for the metrics; never text of a peer
	detail string // for the operator
	reply  []byte
	head   ocpp.Head
	call   *fleet.Message // actAnswered: the CALL, if the Guard is to see its answer
	merge  merge          // actAnswered: makes another answer of it; nil: as it came
	entry  asked          // actStall
	freed  bool           // the slot became free: go on with next
}

// mediator is the state of one session's frames, without any I/O: every frame
// goes in, what is to be done comes out. Both pumps and the services use it.
type mediator struct {
	interests *interests

	mu        sync.Mutex // guards all below
	slot      slot
	asked     outstanding
	room      chan struct{} // wakes a CALL of the station that waits to be booked; nil until the first
	errands   errands
	toStation idRing // CALLRESULTs handed on lately, which 2.1 allows to complain about
	toBackend idRing
	answered  idRing // CALLs of the station answered here lately, whose CALLRESULTs it may complain about
	stalled   bool   // a CALL of the station waits to be booked
	over      bool

	version ocpp.Version // never changes
}

func newMediator(v ocpp.Version, t *interests, l *Limits) mediator {
	return mediator{
		version: v, interests: t,
		slot:  slot{timeout: l.CallTimeout, bound: l.QueuedCalls},
		asked: outstanding{timeout: l.CallTimeout, bound: l.Outstanding},
	}
}

// judge looks at one whole frame. Few of them need to know the time.
func (m *mediator) judge(d ocpp.Direction, frame []byte, now func() time.Time) step {
	head, err := ocpp.ParseHead(frame)
	if err != nil {
		return m.bad(err)
	}
	switch head.Type {
	case ocpp.Call:
		return m.request(d, head, frame, now)
	case ocpp.CallResult, ocpp.CallError:
		if d == ocpp.FromStation {
			return m.stationAnswer(head, frame)
		}
		if reserved(head.ID) {
			return m.errandAnswer(head, frame, now())
		}
		return m.backendAnswer(head, now)
	case ocpp.CallResultError, ocpp.Send:
		if m.version != ocpp.V21 {
			return m.unknownType(head.RawID)
		}
		if head.Type == ocpp.Send {
			return m.request(d, head, frame, now)
		}
		return m.complaint(d, head)
	}
	return m.unknownType(head.RawID)
}

// request judges a CALL or SEND.
func (m *mediator) request(d ocpp.Direction, head ocpp.Head, frame []byte, now func() time.Time) step {
	if reserved(head.ID) {
		return m.refuse(head, ocpp.PropertyConstraintViolation, "message id is reserved", "reserved-id")
	}
	action, _ := head.BaseAction()
	if m.interests.wants(m.version, d, action) {
		return step{act: actConsult, head: head}
	}
	return m.pass(d, head, frame, nil, now())
}

// decide carries out the Guard's verdict on a frame that judge wanted to consult about.
func (m *mediator) decide(msg *fleet.Message, frame []byte, v fleet.Verdict, now time.Time) step {
	head := msg.Head
	switch v.Act {
	case fleet.Pass:
		return m.pass(msg.Direction, head, frame, watching(msg, v), now)
	case fleet.Answer:
		if head.Type == ocpp.Send { // a SEND has no answer of any kind (OCPP 2.1 part 4 §4.1.3)
			return step{act: actDrop, head: head, reason: "answered-send", detail: v.Reason}
		}
		out, err := ocpp.AppendResult(nil, head.RawID, v.Payload)
		if err != nil {
			s := m.refuse(head, ocpp.InternalError, "", "unencodable-answer")
			s.detail = err.Error()
			return s
		}
		if m.version == ocpp.V21 && msg.Direction == ocpp.FromStation {
			m.mu.Lock()
			m.answered.add(string(head.ID))
			m.mu.Unlock()
		}
		return step{act: actReply, head: head, reason: "answered", detail: v.Reason, reply: out}
	case fleet.Refuse:
		s := m.refuse(head, v.Code, "refused by policy", "refused")
		s.detail = v.Reason
		return s
	case fleet.End:
		return step{act: actEnd, head: head, reason: "ended", detail: v.Reason}
	}
	return step{act: actDrop, head: head, reason: "dropped", detail: v.Reason}
}

// watch is what is to happen with the answer of a CALL that was handed on.
type watch struct {
	call  *fleet.Message // shown to the Guard with its answer; nil: not
	merge merge
}

func watching(msg *fleet.Message, v fleet.Verdict) *watch {
	if msg.Head.Type != ocpp.Call || !v.Watch && v.Merge == nil {
		return nil
	}
	w := &watch{merge: v.Merge}
	if v.Watch {
		w.call = msg
	}
	return w
}

// pass books a CALL and lets it go on.
func (m *mediator) pass(d ocpp.Direction, head ocpp.Head, frame []byte, w *watch, now time.Time) step {
	if head.Type == ocpp.Send {
		return step{act: actPass, head: head}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if d == ocpp.FromStation {
		entry := asked{id: string(head.ID), at: now, watch: w}
		if m.errands.out != nil || !m.asked.add(entry) {
			m.stalled = true
			return step{act: actStall, head: head, reason: "outstanding-full", entry: entry}
		}
		return step{act: actPass, head: head}
	}
	if m.over {
		return step{act: actDrop, head: head, reason: "session-over"}
	}
	c := &call{id: string(head.ID), frame: frame, watch: w}
	switch m.slot.offer(c, now) {
	case offerSend:
		c.frame = nil // the caller writes it
		return step{act: actPass, head: head}
	case offerQueued:
		c.frame = bytes.Clone(frame)
		c.rawID = bytes.Clone(head.RawID)
		return step{act: actHeld, head: head}
	}
	return m.refuse(head, ocpp.GenericError, "too many requests wait for the station", "queue-full")
}

// enter takes the entry of an actStall, or tells what wakes the one who waits
// for room and how long that may take.
func (m *mediator) enter(entry asked, now time.Time) (room <-chan struct{}, wait time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.room == nil {
		m.room = make(chan struct{}, 1)
	}
	if m.over {
		m.madeRoom() // to see that
	}
	entry.at = now
	if m.errands.out != nil { // its end makes room
		return m.room, m.asked.timeout, false
	}
	if m.asked.add(entry) {
		m.stalled = false
		return nil, 0, true
	}
	return m.room, m.asked.patience(entry, now), false
}

// madeRoom wakes the CALL of the station that waits. The caller holds m.mu.
func (m *mediator) madeRoom() {
	select {
	case m.room <- struct{}{}:
	default: // nobody waits, or is awake already
	}
}

// stationAnswer matches an answer with the CALL in flight toward the station.
func (m *mediator) stationAnswer(head ocpp.Head, frame []byte) step {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, late, ok := m.slot.answer(head.ID)
	switch {
	case !ok && late:
		return step{act: actDrop, head: head, reason: "late-answer"}
	case !ok:
		return step{act: actDrop, head: head, reason: "unsolicited-answer"}
	case c.own(): // never upstream
		c.tell(ownReply(head, frame))
		return step{act: actDrop, head: head, reason: "own-answer", freed: true}
	}
	if m.version == ocpp.V21 && head.Type == ocpp.CallResult {
		m.toBackend.add(string(head.ID))
	}
	if c.watch != nil {
		return step{act: actAnswered, head: head, call: c.watch.call, merge: c.watch.merge, freed: true}
	}
	return step{act: actPass, head: head, freed: true}
}

func ownReply(head ocpp.Head, frame []byte) reply {
	if head.Type == ocpp.CallResult {
		return reply{payload: bytes.Clone(head.Payload)}
	}
	failure, err := ocpp.ParseCallFailure(frame)
	if err != nil {
		return reply{err: err}
	}
	return reply{err: failure}
}

// backendAnswer matches an answer with a CALL the station has sent and the back end was given.
func (m *mediator) backendAnswer(head ocpp.Head, now func() time.Time) step {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.asked.take(head.ID)
	if !ok {
		return step{act: actDrop, head: head, reason: "unsolicited-answer"}
	}
	if m.errands.waiting() {
		m.errandLine(now())
	}
	m.madeRoom()
	if m.version == ocpp.V21 && head.Type == ocpp.CallResult {
		m.toStation.add(string(head.ID))
	}
	if a.watch != nil {
		return step{act: actAnswered, head: head, call: a.watch.call, merge: a.watch.merge}
	}
	return step{act: actPass, head: head}
}

// complaint judges a CALLRESULTERROR: to go on it must be about a CALLRESULT that its
// sender was given by the other side. One about an answer of the gateway's own is for
// the operator, and no sign of a replay.
func (m *mediator) complaint(d ocpp.Direction, head ocpp.Head) step {
	m.mu.Lock()
	defer m.mu.Unlock()
	answered := &m.toStation
	if d == ocpp.FromCSMS {
		answered = &m.toBackend
	}
	switch {
	case answered.take(head.ID):
		return step{act: actPass, head: head}
	case d == ocpp.FromStation && m.answered.take(head.ID):
		return step{act: actDrop, head: head, reason: "answer-not-understood", detail: "the station can't use an answer that Bollard gave it"}
	}
	return step{act: actDrop, head: head, reason: "unsolicited-answer"}
}

// bad answers a frame that is no OCPP message, as the version has it.
func (m *mediator) bad(err error) step {
	fault, ok := errors.AsType[*ocpp.FrameError](err)
	if !ok {
		return step{act: actDrop, reason: "bad-frame"}
	}
	s := step{act: actDrop, reason: "bad-frame", detail: fault.Reason}
	switch {
	case fault.Code == ocpp.MessageTypeNotSupported:
		return m.unknownType(fault.RawID)
	case fault.Type > int(ocpp.Call): // an answer or SEND: nothing may answer it
		return s
	case m.version == ocpp.V16 && fault.RawID == nil:
		return s
	}
	rawID, code := fault.RawID, ocpp.FormatViolation
	if rawID == nil { // OCPP 2.0.1 part 4 §4.2.3: the id is "-1" then
		rawID, code = []byte(`"-1"`), ocpp.RPCFrameworkError
	}
	s.act = actReply
	s.reply = ocpp.AppendError(nil, rawID, m.version, code, "not an OCPP message")
	return s
}

// unknownType answers a message type the version does not have: 2.0.1 says so
// (part 4 §4.4), 1.6 and 2.1 ignore it.
func (m *mediator) unknownType(rawID []byte) step {
	s := step{act: actDrop, reason: "unknown-type"}
	if m.version == ocpp.V201 && rawID != nil {
		s.act = actReply
		s.reply = ocpp.AppendError(nil, rawID, m.version, ocpp.MessageTypeNotSupported, "")
	}
	return s
}

// refuse answers a CALL with a CALLERROR; a SEND is dropped.
func (m *mediator) refuse(head ocpp.Head, code ocpp.ErrorCode, description, reason string) step {
	if head.Type != ocpp.Call {
		return step{act: actDrop, head: head, reason: reason}
	}
	if code == "" {
		code = ocpp.SecurityError
	}
	return step{act: actReply, head: head, reason: reason,
		reply: ocpp.AppendError(nil, head.RawID, m.version, code, description)}
}

// next returns the CALL that is in flight now and must be written to the
// station, if any, whether it is the gateway's own, and CALLERRORs for the back
// end about those that waited too long.
func (m *mediator) next(now time.Time) (frame []byte, own bool, refusals [][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, stale := m.slot.next(now)
	for _, old := range stale {
		if old.own() {
			old.tell(reply{err: errCallTimeout})
			continue
		}
		refusals = append(refusals, ocpp.AppendError(nil, old.rawID, m.version, ocpp.GenericError,
			"the station was busy for too long"))
	}
	if c != nil {
		frame, own = c.frame, c.own()
		c.frame = nil
	}
	return frame, own, refusals
}

// expire frees the slot if the CALL in flight is over its time.
func (m *mediator) expire(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.slot.expire(now)
	if ok {
		c.tell(reply{err: errCallTimeout})
	}
	return ok
}

// due returns when the CALL in flight expires; ok is false without one.
func (m *mediator) due() (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.slot.flight == nil {
		return time.Time{}, false
	}
	return m.slot.flight.expires, true
}

// ownCall offers a CALL of the gateway's own. send says that the caller has to
// write its frame now.
func (m *mediator) ownCall(action string, payload any, waiter chan<- reply, now time.Time) (c *call, send bool, err error) {
	id := ownPrefix + randomID()
	frame, err := ocpp.AppendCall(nil, id, action, payload)
	if err != nil {
		return nil, false, err
	}
	c = &call{id: id, frame: frame, waiter: waiter}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return nil, false, errSessionOver
	}
	switch m.slot.offer(c, now) {
	case offerSend:
		return c, true, nil
	case offerQueued:
		return c, false, nil
	}
	return nil, false, errSlotFull
}

// abandon forgets an own call.
func (m *mediator) abandon(c *call) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slot.abandon(c)
}

// close ends every own call and takes no more.
func (m *mediator) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = true
	m.slot.clear(errSessionOver)
	m.errands.clear(errSessionOver)
	m.madeRoom()
}

// randomID returns 128 random bits in 26 characters.
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])
}
