package revocation

import (
	"container/list"
	"context"
	"crypto/sha256"
	"sync"
	"time"
)

const (
	// longest is how long an answer is kept (M06.FR.10, M07.FR.09), and counts where it
	// says not when there is a newer one.
	longest    = 7 * 24 * time.Hour
	cacheBytes = 32 << 20
	// patience bounds one fetch.
	patience = 10 * time.Second
)

// cache keeps what was fetched until it says it is over, a week at most.
// Callers that want the same at the same time wait for one fetch.
type cache struct {
	mu      sync.Mutex
	entries map[[32]byte]*list.Element
	recent  *list.List // of *cached, most recently used first
	bytes   int
	flights map[[32]byte]*flight
}

type cached struct {
	key   [32]byte
	body  []byte
	until time.Time
}

// flight is a fetch under way; its fields are read once done is closed.
type flight struct {
	done chan struct{}
	body []byte
	err  error
}

func newCache() *cache {
	return &cache{entries: map[[32]byte]*list.Element{}, recent: list.New(), flights: map[[32]byte]*flight{}}
}

// cacheKey separates by URL: one responder's word is not another's.
func cacheKey(kind, url string, request []byte) [32]byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(kind), []byte(url), request} {
		sum := sha256.Sum256(part)
		h.Write(sum[:])
	}
	return [32]byte(h.Sum(nil))
}

// get returns what is kept, or what fetch brings and until when it is in force.
// One fetch is for all who ask meanwhile: it goes on, within its patience, when none
// of them waits any more, and the next finds what it brought.
func (c *cache) get(ctx context.Context, key [32]byte, clock func() time.Time, fetch func(context.Context) ([]byte, time.Time, error)) ([]byte, error) {
	c.mu.Lock()
	if e, ok := c.entries[key]; ok {
		entry := e.Value.(*cached)
		if clock().Before(entry.until) {
			c.recent.MoveToFront(e)
			c.mu.Unlock()
			return entry.body, nil
		}
		c.drop(e)
	}
	f, ok := c.flights[key]
	if !ok {
		f = &flight{done: make(chan struct{})}
		c.flights[key] = f
		go c.fly(context.WithoutCancel(ctx), key, f, clock, fetch)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		return f.body, f.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *cache) fly(ctx context.Context, key [32]byte, f *flight, clock func() time.Time, fetch func(context.Context) ([]byte, time.Time, error)) {
	alone, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var until time.Time
	func() {
		defer contain(&f.err)
		f.body, until, f.err = fetch(alone)
	}()
	c.mu.Lock()
	delete(c.flights, key)
	if f.err == nil {
		c.keep(&cached{key, f.body, until}, clock())
	}
	c.mu.Unlock()
	close(f.done)
}

// keep and drop are called with the lock held.
func (c *cache) keep(entry *cached, now time.Time) {
	if last := now.Add(longest); entry.until.After(last) {
		entry.until = last
	}
	if !now.Before(entry.until) || len(entry.body) > cacheBytes {
		return
	}
	c.entries[entry.key] = c.recent.PushFront(entry)
	c.bytes += len(entry.body)
	for c.bytes > cacheBytes {
		c.drop(c.recent.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	entry := c.recent.Remove(e).(*cached)
	delete(c.entries, entry.key)
	c.bytes -= len(entry.body)
}
