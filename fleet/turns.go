package fleet

import (
	"context"
	"sync"
)

// turns lets so many at a time do something for one key; others wait.
type turns struct {
	each  int
	mu    sync.Mutex
	byKey map[string]*turn
}

// turn is that of one key, kept while somebody has it or waits for it.
type turn struct {
	slots chan struct{}
	users int
}

func newTurns(each int) *turns { return &turns{each: each, byKey: map[string]*turn{}} }

func (s *turns) take(ctx context.Context, key string) (release func(), err error) {
	s.mu.Lock()
	t := s.byKey[key]
	if t == nil {
		t = &turn{slots: make(chan struct{}, s.each)}
		s.byKey[key] = t
	}
	t.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(s.byKey, key)
		}
	}
	if err := acquire(ctx, t.slots); err != nil {
		leave()
		return nil, err
	}
	return func() { <-t.slots; leave() }, nil
}
