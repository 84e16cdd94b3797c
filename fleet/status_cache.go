package fleet

import (
	"container/list"
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"
)

const (
	cacheLongest = 7 * 24 * time.Hour // M06.FR.10, M07.FR.09
	cacheBytes   = 32 << 20
)

// statusCache keeps what was fetched until it says it is over, a week at most.
// Callers that want the same at the same time wait for one fetch.
type statusCache struct {
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

func newStatusCache() *statusCache {
	return &statusCache{entries: map[[32]byte]*list.Element{}, recent: list.New(), flights: map[[32]byte]*flight{}}
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
func (c *statusCache) get(ctx context.Context, key [32]byte, clock func() time.Time, fetch func(context.Context) ([]byte, time.Time, error)) ([]byte, error) {
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

func (c *statusCache) fly(ctx context.Context, key [32]byte, f *flight, clock func() time.Time, fetch func(context.Context) ([]byte, time.Time, error)) {
	alone, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	var until time.Time
	f.err = contained(func() (err error) { f.body, until, err = fetch(alone); return err })
	c.mu.Lock()
	delete(c.flights, key)
	if f.err == nil {
		c.keep(&cached{key, f.body, until}, clock())
	}
	c.mu.Unlock()
	close(f.done)
}

// contained makes a panic an error, where a goroutine of its own reads what outsiders
// wrote: it would end the process.
func contained(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("what was answered couldn't be read, which is a defect of Bollard's: %v", p)
		}
	}()
	return f()
}

// keep and drop are called with the lock held.
func (c *statusCache) keep(entry *cached, now time.Time) {
	if longest := now.Add(cacheLongest); entry.until.After(longest) {
		entry.until = longest
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

func (c *statusCache) drop(e *list.Element) {
	entry := c.recent.Remove(e).(*cached)
	delete(c.entries, entry.key)
	c.bytes -= len(entry.body)
}
