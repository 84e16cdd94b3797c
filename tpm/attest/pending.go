package attest

import (
	"errors"
	"sync"
	"time"
)

// Pending keeps what was asked until it is answered: each once, for a while, and at
// most so many. It outlives no restart: who was asked asks again.
type Pending[T any] struct {
	mu    sync.Mutex
	limit int
	life  time.Duration
	open  map[string]pending[T]
}

type pending[T any] struct {
	value T
	ends  time.Time
}

// ErrBusy says that too many questions are open.
var ErrBusy = errors.New("too many questions are open; try again in a minute")

// NewPending returns an empty one.
func NewPending[T any](limit int, life time.Duration) *Pending[T] {
	return &Pending[T]{limit: limit, life: life, open: map[string]pending[T]{}}
}

// Put keeps a value under its key; one that was there is over.
func (p *Pending[T]) Put(now time.Time, key string, value T) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, again := p.open[key]; !again && len(p.open) >= p.limit {
		for k, o := range p.open {
			if !now.Before(o.ends) {
				delete(p.open, k)
			}
		}
		if len(p.open) >= p.limit {
			return ErrBusy
		}
	}
	p.open[key] = pending[T]{value, now.Add(p.life)}
	return nil
}

// Take returns a value, this once.
func (p *Pending[T]) Take(now time.Time, key string) (T, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o, ok := p.open[key]
	delete(p.open, key)
	if !ok || !now.Before(o.ends) {
		var none T
		return none, false
	}
	return o.value, true
}
