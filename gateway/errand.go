package gateway

import (
	"errors"
	"time"

	"bollard/ocpp"
)

// Errors Session.Upstream returns beside *ocpp.CallFailure and the context's.
var (
	errBackendTimeout = errors.New("the back end did not answer the CALL in time")
	errBackendBusy    = errors.New("too many CALLs wait for this back end; try again later")
	errNoGap          = errors.New("the station's own CALLs left no gap; try again later")
)

const (
	// queuedErrands bounds the gateway's CALLs that wait for a gap of one session.
	queuedErrands = 16
	// errandPatience is how long the back end may take to answer one: as long
	// the station's own CALLs can be held up behind it.
	errandPatience = 10 * time.Second
)

// errands are the gateway's own CALLs toward one back end. They share its one
// outstanding CALL (OCPP 2.1 part 4 §4.1.1) with the station, whose CALLs go
// first: an errand sets out only while none of those is unanswered or stalled.
// It is a plain state machine; the mediator guards it, the waiter writes.
//
// Invariant: at most one errand is out, and while it is no CALL of the station
// is handed on.
type errands struct {
	out   *errand
	queue []*errand
	late  idRing // ids given up while out: their answers are late, not unsolicited
}

type errand struct {
	id    string
	frame []byte
	turn  chan struct{} // closed when the waiter is to write the frame
	told  chan reply    // has room for the one outcome
}

func newErrand(action string, payload any) (*errand, error) {
	id := ownPrefix + randomID()
	frame, err := ocpp.AppendCall(nil, id, action, payload)
	if err != nil {
		return nil, err
	}
	return &errand{id: id, frame: frame, turn: make(chan struct{}), told: make(chan reply, 1)}, nil
}

// add queues an errand; false means no room.
func (e *errands) add(one *errand) bool {
	if len(e.queue) >= queuedErrands {
		return false
	}
	e.queue = append(e.queue, one)
	return true
}

// grant lets the first errand out, unless the line is busy.
func (e *errands) grant(busy bool) {
	if busy || e.out != nil || !e.waiting() {
		return
	}
	e.out = e.queue[0]
	e.queue[0] = nil
	if e.queue = e.queue[1:]; len(e.queue) == 0 {
		e.queue = nil
	}
	close(e.out.turn)
}

// waiting tells that errands want to set out.
func (e *errands) waiting() bool { return len(e.queue) > 0 }

// answer ends the errand with this id, if it is out; late tells that it once was.
func (e *errands) answer(id []byte, r reply) (late, ok bool) {
	if e.out == nil || e.out.id != string(id) {
		return e.late.take(id), false
	}
	e.out.told <- r
	e.out = nil
	return false, true
}

// drop forgets an errand whose waiter gave up. How long a CALL is waited for is
// its sender's choice, so the line is free again.
func (e *errands) drop(one *errand) {
	if e.out == one {
		e.late.add(one.id)
		e.out = nil
		return
	}
	for i, q := range e.queue {
		if q == one {
			e.queue = append(e.queue[:i], e.queue[i+1:]...)
			return
		}
	}
}

// clear tells every waiter that the session is over.
func (e *errands) clear(err error) {
	if e.out != nil {
		e.out.told <- reply{err: err}
	}
	for _, q := range e.queue {
		q.told <- reply{err: err}
	}
	e.out, e.queue = nil, nil
}

// errandLine grants what may set out now. It is called, with the lock held,
// whenever the line may have become free.
func (m *mediator) errandLine(now time.Time) {
	m.errands.grant(m.stalled || m.asked.waiting(now))
}

// sendErrand queues an errand of the gateway's own.
func (m *mediator) sendErrand(one *errand, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return errSessionOver
	}
	if !m.errands.add(one) {
		return errBackendBusy
	}
	m.errandLine(now)
	return nil
}

// lookErrand lets errands out that waited for CALLs of the station which
// nobody will answer any more.
func (m *mediator) lookErrand(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.errandLine(now)
}

// dropErrand forgets an errand.
func (m *mediator) dropErrand(one *errand, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.errands.drop(one)
	m.errandLine(now)
	m.madeRoom()
}

// errandAnswer matches an answer whose id has the gateway's prefix: whatever it
// is, it never reaches the station.
func (m *mediator) errandAnswer(head ocpp.Head, frame []byte, now time.Time) step {
	m.mu.Lock()
	defer m.mu.Unlock()
	late, ok := m.errands.answer(head.ID, ownReply(head, frame))
	switch {
	case late:
		return step{act: actDrop, head: head, reason: "late-answer"}
	case !ok:
		return step{act: actDrop, head: head, reason: "unsolicited-answer"}
	}
	m.errandLine(now)
	m.madeRoom()
	return step{act: actDrop, head: head, reason: "own-answer"}
}

// waiting reports whether a CALL is still to be answered. Those older than the
// timeout are not waited for.
func (o *outstanding) waiting(now time.Time) bool {
	n := len(o.calls)
	return n > 0 && now.Sub(o.calls[n-1].at) < o.timeout
}
