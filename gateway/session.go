package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"bollard/fleet"
	"bollard/internal/ws"
	"bollard/ocpp"
)

// session is one proven station with its upstream. It is a fleet.Session.
//
// A loop moves the frames, or two pumps. Whatever ends first calls end, which starts the
// one goroutine that closes both sockets and waits for all the others.
type session struct {
	id        string
	key       string
	admission fleet.Admission
	version   ocpp.Version
	backend   *backend
	limits    *Limits       // those of the settings it was opened with
	opened    time.Duration // since the gateway was made

	gateway  *Gateway
	station  side
	upstream side
	legs     [2]leg // without streams there are pumps
	mediator mediator

	ending  atomic.Bool
	cut     ws.Latch // both sockets are closed
	done    ws.Latch // nothing of the session runs any more
	pumps   sync.WaitGroup
	noisy   atomic.Int32 // log lines written about bad frames
	late    atomic.Int32 // verdicts being worked out beside the pumps
	timerMu sync.Mutex
	timer   *time.Timer // expiry of the CALL in flight; nil until the first

	tasksMu sync.Mutex // guards what follows
	closed  bool       // no further task may begin
	tasks   *tasks     // nil while there are none, as in an idle session
}

// tasks are what runs beside a session.
type tasks struct {
	running int
	ctx     context.Context // ends with the session
	cancel  context.CancelFunc
	over    chan struct{} // closed when nothing runs any more; nil until somebody waits for that
}

var _ fleet.Session = (*session)(nil)

// log is made when it is needed: it would be a good part of an idle session. It
// names the station by its key, as every log does: one spelling finds all lines.
func (s *session) log() *slog.Logger { return s.gateway.log.With("station", s.key, "session", s.id) }

// maxNoise is how many log lines one session may cause with bad frames; the
// metrics count all.
const maxNoise = 20

// now is the time by which CALLs expire.
func (s *session) now() time.Time { return s.gateway.cfg.Clock() }

func (s *session) ID() string                   { return s.id }
func (s *session) Version() ocpp.Version        { return s.version }
func (s *session) Security() fleet.SecurityMode { return s.backend.Security }

// Admission is the proof.
func (s *session) Admission() fleet.Admission { return s.admission }

// Call sends a CALL of Bollard's own and waits for the answer. It must not be
// called from Message or Answered: the answer is read by their pump.
func (s *session) Call(ctx context.Context, action string, payload any) (json.RawMessage, error) {
	answer := make(chan reply, 1)
	c, send, err := s.mediator.ownCall(action, payload, answer, s.now())
	if err != nil {
		return nil, fmt.Errorf("couldn't call the station: %w", err)
	}
	if send {
		s.watchSlot()
		if err := s.station.Write(c.frame); err != nil {
			s.end(cause{class: "station-lost", reason: err.Error()})
		}
	}
	select {
	case r := <-answer:
		return r.payload, r.err
	case <-ctx.Done():
		s.mediator.abandon(c)
		return nil, fmt.Errorf("couldn't wait for the station's answer: %w", context.Cause(ctx))
	}
}

// work is the context of Message and Answered: it outlasts the sockets, so that
// what a service has begun it can finish, until the gateway's drain is over.
func (s *session) work() context.Context { return s.gateway.work }

// Go runs f beside the session. After the session's end it does nothing.
func (s *session) Go(f func(ctx context.Context)) {
	ctx, ok := s.begin()
	if !ok {
		return
	}
	go func() {
		defer s.finish()
		defer s.recovered("task")
		f(ctx)
	}()
}

// begin books a task.
func (s *session) begin() (context.Context, bool) {
	s.tasksMu.Lock()
	defer s.tasksMu.Unlock()
	if s.closed {
		return nil, false
	}
	if s.tasks == nil {
		s.tasks = &tasks{}
		s.tasks.ctx, s.tasks.cancel = context.WithCancel(s.work())
		if s.ending.Load() {
			s.tasks.cancel()
		}
	}
	s.tasks.running++
	return s.tasks.ctx, true
}

// finish ends a task.
func (s *session) finish() {
	s.tasksMu.Lock()
	defer s.tasksMu.Unlock()
	t := s.tasks
	if t.running--; t.running > 0 {
		return
	}
	t.cancel()
	s.tasks = nil
	if t.over != nil {
		close(t.over)
	}
}

// finishAll lets no further task begin and waits for those that run.
func (s *session) finishAll() {
	s.tasksMu.Lock()
	s.closed = true
	t := s.tasks
	if t != nil {
		t.over = make(chan struct{})
	}
	s.tasksMu.Unlock()
	if t != nil {
		<-t.over
	}
}

// interrupt tells the tasks that the session ends.
func (s *session) interrupt() {
	s.tasksMu.Lock()
	defer s.tasksMu.Unlock()
	if s.tasks != nil {
		s.tasks.cancel()
	}
}

// End closes the session with a policy violation.
func (s *session) End(reason string) {
	s.end(cause{class: "ended", reason: reason, down: ws.ClosePolicyViolation, up: ws.CloseGoingAway})
}

// cause is why a session ends and which close codes the two sides see.
type cause struct {
	class    string // metric label
	reason   string // for the operator
	down, up int    // close codes toward station and back end; 0: going away
}

// end starts the session's end; the first cause wins. It doesn't wait.
func (s *session) end(c cause) {
	if !s.ending.CompareAndSwap(false, true) {
		return
	}
	s.interrupt()
	s.mediator.close()
	go s.shut(c) // owned by the gateway: counted in its sessions group since open
}

// shut closes both sides and waits for everything that belongs to the session.
func (s *session) shut(c cause) {
	defer s.gateway.running.Done()
	defer s.done.Open()
	if c.down == 0 {
		c.down = ws.CloseGoingAway
	}
	if c.up == 0 {
		c.up = ws.CloseGoingAway
	}
	var sockets sync.WaitGroup
	sockets.Go(func() { s.station.Close(c.down, "") })
	sockets.Go(func() { s.upstream.Close(c.up, "") })
	sockets.Wait()
	s.cut.Open()
	s.stopTimer()
	lasted := time.Since(s.gateway.made) - s.opened
	s.gateway.registry.remove(s, lasted)
	s.gateway.metrics.live(s.version, s.admission.Profile).Dec()
	s.gateway.metrics.ends.WithLabelValues(c.class).Inc()

	s.pumps.Wait()
	s.finishAll()
	s.guarded("closed", func() { s.gateway.cfg.Guard.Closed(s) })
	s.log().Info("session ended", "cause", c.class, "reason", c.reason, "lasted", lasted.Round(time.Millisecond))
}

// recovered keeps a panic from taking the process, and every other session, with it.
func (s *session) recovered(where string) {
	p := recover()
	if p == nil {
		return
	}
	s.gateway.metrics.panics.Inc()
	s.log().Error("panic in a session", "where", where, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
	s.end(cause{class: "panic", reason: "internal error", down: ws.CloseInternalError, up: ws.CloseGoingAway})
}

// guarded runs f and survives its panic.
func (s *session) guarded(where string, f func()) {
	defer s.recovered(where)
	f()
}

// watchSlot sets the timer to the expiry of the CALL in flight.
func (s *session) watchSlot() {
	s.timerMu.Lock()
	defer s.timerMu.Unlock()
	due, ok := s.mediator.due() // asked under the lock: an older answer would stop the timer of a newer CALL
	switch {
	case s.ending.Load():
	case !ok && s.timer != nil:
		s.timer.Stop()
	case !ok:
	case s.timer == nil:
		s.timer = time.AfterFunc(due.Sub(s.now()), s.slotDue)
	default:
		s.timer.Reset(due.Sub(s.now()))
	}
}

func (s *session) stopTimer() {
	s.timerMu.Lock()
	defer s.timerMu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
}

// slotDue frees the slot from a CALL nobody answered. The writing that follows
// may block, so the session owns it.
func (s *session) slotDue() {
	s.Go(func(context.Context) {
		if s.mediator.expire(s.now()) {
			s.gateway.metrics.callTimeouts.Inc()
			s.log().Warn("the station did not answer a CALL in time", "timeout", s.limits.CallTimeout)
			s.advance()
			return
		}
		s.watchSlot() // another CALL took the slot while the timer fired
	})
}

// advance writes the CALL whose turn it is.
func (s *session) advance() {
	frame, own, refusals := s.mediator.next(s.now())
	s.watchSlot()
	if frame != nil {
		if err := s.station.Write(frame); err != nil {
			s.end(cause{class: "station-lost", reason: err.Error()})
			return
		}
		if !own {
			s.gateway.metrics.passed(ocpp.FromCSMS, ocpp.Call, len(frame))
		}
	}
	for _, refusal := range refusals {
		s.gateway.metrics.dropped.WithLabelValues(ocpp.FromCSMS.String(), "stale-call").Inc()
		if err := s.upstream.Write(refusal); err != nil {
			s.end(cause{class: "backend-lost", reason: err.Error()})
			return
		}
	}
}
