package fleet

import (
	"sync"
	"time"
)

// openingsPause is how long a session may wait beyond its time, so that those that came
// together are looked at together.
const openingsPause = 100 * time.Millisecond

// openings are the sessions that opened lately, oldest first. All have the same time to
// wait, so that one timer does for a fleet that comes back.
type openings struct {
	mu    sync.Mutex
	queue []opening // not empty: the timer is set
}

// opening names its session and doesn't hold it: one that has ended is forgotten at once.
type opening struct {
	session string // id
	due     time.Time
}

// quiet looks in quietStart whether the session's BootNotification came.
func (s *Service) quiet(l *live) {
	o := &s.openings
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue = append(o.queue, opening{l.session.ID(), s.clock().Add(quietStart)})
	if len(o.queue) == 1 {
		s.after(quietStart, s.lookAtOpenings)
	}
}

func (s *Service) lookAtOpenings() {
	for _, id := range s.openings.take(s) {
		if l := s.liveBy(id); l != nil {
			l.opened(s)
		}
	}
}

// take takes out those whose time has come, and sets the timer for the others.
func (o *openings) take(s *Service) (due []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := s.clock()
	for len(o.queue) > 0 && !o.queue[0].due.After(now) {
		due = append(due, o.queue[0].session)
		o.queue[0] = opening{}
		o.queue = o.queue[1:]
	}
	if len(o.queue) == 0 {
		o.queue = nil
		return due
	}
	s.after(max(o.queue[0].due.Sub(now), openingsPause), s.lookAtOpenings)
	return due
}

// opened counts a session as accepted that sent no BootNotification.
func (l *live) opened(s *Service) {
	l.mu.Lock()
	wait := l.booted || l.ended
	l.mu.Unlock()
	if !wait {
		l.markReady(s)
		l.openPost(s, true)
	}
}
