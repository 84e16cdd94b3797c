// Package turns lets so many at a time do something for one key; others wait.
package turns

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Turns of all keys. Its methods are safe for concurrent use.
type Turns struct {
	each  int64
	mu    sync.Mutex
	byKey map[string]*queue
}

// queue is that of one key, kept while somebody is in it.
type queue struct {
	turns *semaphore.Weighted
	users int
}

// New lets each so many at a time have one key's turn.
func New(each int) *Turns { return &Turns{each: int64(each), byKey: map[string]*queue{}} }

// Take waits for a turn of a key, those first who came first. The turn lasts until
// release is called. The error is ctx's.
func (t *Turns) Take(ctx context.Context, key string) (release func(), err error) {
	t.mu.Lock()
	q := t.byKey[key]
	if q == nil {
		q = &queue{turns: semaphore.NewWeighted(t.each)}
		t.byKey[key] = q
	}
	q.users++
	t.mu.Unlock()
	if err := q.turns.Acquire(ctx, 1); err != nil {
		t.leave(key, q)
		return nil, err
	}
	return func() { q.turns.Release(1); t.leave(key, q) }, nil
}

func (t *Turns) leave(key string, q *queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(t.byKey, key)
	}
}

// Queue is how many have a key's turn or wait for it.
func (t *Turns) Queue(key string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q := t.byKey[key]; q != nil {
		return q.users
	}
	return 0
}
