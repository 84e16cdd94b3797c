package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"bollard/fleet"
)

// maxWaiting is how many proven connections of one identity may wait for their
// turn. A station has one or two; more are a fault or a clone.
const maxWaiting = 16

// A session that ends within briefly counts as brief. No station's restart or flaky link
// makes maxBrief of them in a minute, each of which costs a handshake, a dial to the back
// end and two lines in the log; a fault, or somebody with its credentials, does.
const (
	briefly  = 10 * time.Second
	maxBrief = 60
)

// Errors of registry.turn and registry.enlist.
var (
	errCrowd    = errors.New("too many connections of this identity wait already")
	errDraining = errors.New("the gateway is shutting down")
)

// registry holds the live session of each identity, at most one, and lets the
// connections of one identity in one after the other.
type registry struct {
	clock func() time.Time

	mu       sync.Mutex
	seats    map[string]*seat
	pending  map[*pending]struct{}
	draining bool

	admitting sync.WaitGroup // one for each pending
}

// seat is the place of one identity. It exists while somebody sits, waits, or
// has lately been replaced.
type seat struct {
	session *session
	taken   bool  // somebody has the turn
	rush    *rush // nil while nobody waits and nobody was replaced lately
}

// rush is what goes on at a seat beyond somebody's sitting there.
type rush struct {
	waiting   []chan struct{} // in order
	takeovers []time.Time     // of the last minute
	brief     []time.Time     // when brief sessions ended, of the last minute, the newest maxBrief
}

// rushing is the seat's rush, made if there was none.
func (s *seat) rushing() *rush {
	if s.rush == nil {
		s.rush = &rush{}
	}
	return s.rush
}

// pending is a connection between its claim and its session. What EndIf asks
// meanwhile is asked of it before it becomes live.
type pending struct {
	questions []func(fleet.Admission) (string, bool)
}

func newRegistry(clock func() time.Time) *registry {
	return &registry{clock: clock, seats: map[string]*seat{}, pending: map[*pending]struct{}{}}
}

// expect books a connection before its claim is judged; nil while draining.
func (r *registry) expect() *pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return nil
	}
	p := &pending{}
	r.pending[p] = struct{}{}
	r.admitting.Add(1)
	return p
}

func (r *registry) forget(p *pending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, p)
	r.admitting.Done()
}

// haunt has every pending connection asked later.
func (r *registry) haunt(why func(fleet.Admission) (string, bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pending {
		p.questions = append(p.questions, why)
	}
}

// turn waits until the caller alone acts for the identity. release gives the
// turn to the next in line.
func (r *registry) turn(ctx context.Context, key string) (release func(), err error) {
	r.mu.Lock()
	s := r.seats[key]
	if s == nil {
		s = &seat{}
		r.seats[key] = s
	}
	if !s.taken {
		s.taken = true
		r.mu.Unlock()
		return func() { r.release(key, s) }, nil
	}
	crowd := s.rushing()
	if len(crowd.waiting) >= maxWaiting {
		r.mu.Unlock()
		return nil, errCrowd
	}
	ready := make(chan struct{})
	crowd.waiting = append(crowd.waiting, ready)
	r.mu.Unlock()
	select {
	case <-ready:
		return func() { r.release(key, s) }, nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	for i, w := range crowd.waiting {
		if w == ready {
			crowd.waiting = append(crowd.waiting[:i], crowd.waiting[i+1:]...)
			r.mu.Unlock()
			return nil, context.Cause(ctx)
		}
	}
	r.mu.Unlock()
	r.release(key, s) // the turn came at the same moment
	return nil, context.Cause(ctx)
}

func (r *registry) release(key string, s *seat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.rush != nil && len(s.rush.waiting) > 0 {
		close(s.rush.waiting[0])
		s.rush.waiting = s.rush.waiting[1:]
		return
	}
	s.taken = false
	r.tidy(key, s)
}

// tidy drops a seat nobody needs. The caller holds r.mu.
func (r *registry) tidy(key string, s *seat) {
	s.trim(r.clock())
	if s.session == nil && !s.taken && s.rush == nil {
		delete(r.seats, key)
	}
}

// trim forgets what is long over. The caller holds r.mu.
func (s *seat) trim(now time.Time) {
	if s.rush == nil {
		return
	}
	for _, list := range []*[]time.Time{&s.rush.takeovers, &s.rush.brief} {
		for len(*list) > 0 && now.Sub((*list)[0]) >= time.Minute {
			*list = (*list)[1:]
		}
	}
	if len(s.rush.takeovers) == 0 && len(s.rush.brief) == 0 && len(s.rush.waiting) == 0 {
		s.rush = nil
	}
}

// occupant returns the session in the seat, even if it is ending: its upstream
// may still be open.
func (r *registry) occupant(key string) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.seats[key]; s != nil {
		return s.session
	}
	return nil
}

// takeover books that the caller, who has the turn, replaces the session in
// the seat. It reports false if that happened too often in the last minute.
func (r *registry) takeover(key string, perMinute int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, now := r.seats[key], r.clock()
	s.trim(now)
	rush := s.rushing()
	if len(rush.takeovers) >= perMinute {
		return false
	}
	rush.takeovers = append(rush.takeovers, now)
	return true
}

// enlist makes a session live. Its maker has the turn and has seen to it that
// the seat is empty. count is called under the lock, so that a drain that
// follows finds the session counted.
func (r *registry) enlist(p *pending, s *session, count func()) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return errDraining
	}
	for _, why := range p.questions {
		if reason, end := why(s.Admission()); end {
			return errors.New(reason)
		}
	}
	seat := r.seats[s.key]
	if seat.session != nil {
		panic("internal error: two sessions of one identity")
	}
	seat.session = s
	delete(r.pending, p)
	count()
	return nil
}

// restless reports whether the identity has opened and ended so many sessions in the
// last minute that the next one has to wait.
func (r *registry) restless(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seats[key]
	s.trim(r.clock())
	return s.rush != nil && len(s.rush.brief) >= maxBrief
}

// remove empties the seat if this very session sits in it, which lasted so long.
func (r *registry) remove(s *session, lasted time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seat := r.seats[s.key]; seat != nil && seat.session == s {
		seat.session = nil
		if lasted < briefly {
			brief := append(seat.rushing().brief, r.clock())
			seat.rush.brief = brief[max(0, len(brief)-maxBrief):]
		}
		r.tidy(s.key, seat)
	}
}

// live returns the session of the identity unless it is ending.
func (r *registry) live(key string) *session {
	if s := r.occupant(key); s != nil && !s.ending.Load() {
		return s
	}
	return nil
}

func (r *registry) all() []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*session, 0, len(r.seats))
	for _, seat := range r.seats {
		if s := seat.session; s != nil && !s.ending.Load() {
			list = append(list, s)
		}
	}
	return list
}

// drain lets no further session become live, and no further connection ask for one.
func (r *registry) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
}
