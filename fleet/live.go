package fleet

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// quietStart is how long after opening a session counts as accepted by its back
// end if it sent no BootNotification: a reconnect alone sends none (B01).
const quietStart = 10 * time.Second

// live is the fleet's side of one open session.
type live struct {
	session Session
	key     string

	mu      sync.Mutex
	booted  bool // a BootNotification was seen: its answer decides, not the clock
	ready   bool // Bollard may send CALLs of its own
	ended   bool
	running bool      // a plan is running
	again   bool      // and is to run once more
	unseen  bool      // what the session proved couldn't be recorded yet
	counted bool      // its admission is, or stands in the ledger
	steps   int       // steps and orders that are changing the station at this moment
	renewAt time.Time // its turn to renew; zero: none taken
	alarms  []*alarm  // that are set
	// asides is what follows from messages and is being done, by its name, with what is
	// to be done next; nil while there is nothing.
	asides map[string]func(context.Context)

	logAt      time.Time // when its security log is due, as far as known
	backendLog time.Time // when the back end last asked it for a log

	post postbox // copies for the back end
}

// open registers a session and starts the clock toward its plan.
func (s *Service) open(sess Session) *live {
	adm := sess.Admission()
	l := &live{session: sess, key: adm.Station.Key()}
	s.mu.Lock()
	s.lives[sess.ID()] = l
	s.mu.Unlock()
	s.quiet(l)
	return l
}

func (s *Service) liveOf(sess Session) *live { return s.liveBy(sess.ID()) }

func (s *Service) liveBy(id string) *live {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lives[id]
}

// Ready is a station's session, if Bollard may send it CALLs of its own now.
func (s *Service) Ready(key string) (Session, bool) {
	s.mu.Lock()
	sessions := s.sessions
	s.mu.Unlock()
	if sessions == nil {
		return nil, false
	}
	sess, ok := sessions.Session(key)
	if !ok {
		return nil, false
	}
	l := s.liveOf(sess)
	return sess, l != nil && l.isReady()
}

// allLive returns the open sessions in a stable order.
func (s *Service) allLive() []*live {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*live, 0, len(s.lives))
	for _, l := range s.lives {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b *live) int { return strings.Compare(a.session.ID(), b.session.ID()) })
	return list
}

// Closed forgets the session.
func (s *Service) Closed(sess Session) {
	s.mu.Lock()
	l := s.lives[sess.ID()]
	delete(s.lives, sess.ID())
	s.mu.Unlock()
	if l == nil {
		return
	}
	l.mu.Lock()
	l.ended = true
	alarms := l.alarms
	l.alarms = nil
	l.mu.Unlock()
	for _, a := range alarms {
		a.stop()
	}
}

// later runs f after d unless the session ends first.
func (l *live) later(s *Service, d time.Duration, f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	a := &alarm{}
	a.stop = s.after(d, func() {
		l.forget(a)
		f()
	})
	l.alarms = append(l.alarms, a)
}

// alarm is a timer of a session.
type alarm struct{ stop func() bool }

// forget drops an alarm that went off: an idle session keeps none.
func (l *live) forget(a *alarm) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alarms = slices.DeleteFunc(l.alarms, func(other *alarm) bool { return other == a })
	if len(l.alarms) == 0 {
		l.alarms = nil
	}
}

// bootAnswered takes note of the back end's answer to a BootNotification. After
// Rejected nothing may be sent until the next one (B03.FR.03); Pending allows
// variables and certificates (B02.FR.01), once the station has read the answer.
func (l *live) bootAnswered(s *Service, status string) (then func()) {
	accepted := status == "Accepted"
	if !accepted {
		l.openPost(s, false)
	}
	if accepted || status == "Pending" {
		return func() {
			if accepted {
				l.openPost(s, true)
			}
			l.markReady(s)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready = false
	return nil
}

func (l *live) bootSent() {
	l.mu.Lock()
	l.booted = true
	l.post.open = false // until the back end has answered
	l.mu.Unlock()
}

func (l *live) markReady(s *Service) {
	l.mu.Lock()
	l.ready = true
	l.mu.Unlock()
	l.poke(s)
}

func (l *live) isReady() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready && !l.ended
}

// begin counts a change of the station's security that is being made, until
// done is called.
func (l *live) begin() (done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.steps--
	}
}

// changing says whether one is being made.
func (l *live) changing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.steps > 0
}

// poke runs the session's plan, or once more if it is running: one at a time.
func (l *live) poke(s *Service) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.ready || l.ended:
		return
	case l.running:
		l.again = true
		return
	}
	l.running = true
	l.session.Go(func(ctx context.Context) {
		for {
			s.plan(ctx, l)
			l.mu.Lock()
			if !l.again || ctx.Err() != nil || l.ended {
				l.running, l.again = false, false
				l.mu.Unlock()
				return
			}
			l.again = false
			l.mu.Unlock()
		}
	})
}

// aside does beside the session what follows from one of its messages. Under a name it
// is done once at a time, and of what comes meanwhile only the newest is done next:
// however many messages a station sends, what waits for the disk is bounded.
func (l *live) aside(name string, f func(ctx context.Context)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	_, busy := l.asides[name]
	if busy {
		l.asides[name] = f
		return
	}
	if l.asides == nil {
		l.asides = map[string]func(context.Context){}
	}
	l.asides[name] = nil
	l.session.Go(func(ctx context.Context) {
		for f != nil {
			f(ctx)
			f = l.nextAside(ctx, name)
		}
	})
}

func (l *live) nextAside(ctx context.Context, name string) (next func(context.Context)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if next = l.asides[name]; next != nil && ctx.Err() == nil {
		l.asides[name] = nil
		return next
	}
	if delete(l.asides, name); len(l.asides) == 0 {
		l.asides = nil
	}
	return nil
}

// takeTurn lets one goroutine at a time work on a station's orders, over sessions:
// an old session's may still be ending while the new one's begins.
func (s *Service) takeTurn(ctx context.Context, key string) (release func(), err error) {
	return s.turns.Take(ctx, key)
}

// count says whether the session's admission is to be counted: once, however often
// what it proved has to be recorded.
func (l *live) count() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := !l.counted
	l.counted = true
	return first
}

func (l *live) uncounted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.counted
}
