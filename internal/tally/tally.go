// Package tally counts what repeats itself, so that it costs a record now and
// then instead of one each time.
//
// It promises that the first of a kind is told at once, that none is lost from
// the counts, not even where a record fails, and that records of one kind come ever
// less often while it goes on.
package tally

import (
	"context"
	"sync"
	"time"
)

// Pauses between two records of one kind. The pause doubles while it goes on.
const (
	firstPause   = time.Minute
	longestPause = time.Hour
	longMemory   = 24 * time.Hour
)

// lastPatience is how long what is left when the server stops may take to be written.
const lastPatience = 5 * time.Second

// Run has flush write the counts whose time has come, so often, and all of them once ctx
// has ended.
func Run(ctx context.Context, every time.Duration, flush func(ctx context.Context, all bool)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPatience)
			defer cancel()
			flush(last, true)
			return
		case <-tick.C:
			flush(ctx, false)
		}
	}
}

// Tally counts by kind. It remembers a kind for as long as it repeats.
type Tally[K comparable] struct {
	mu    sync.Mutex
	notes map[K]*note
	keep  time.Duration // how long a kind that stopped is remembered at least
}

type note struct {
	text  string // of those counted
	count int    // since the last record
	at    time.Time
	pause time.Duration
}

// Count is how often a kind came since its last record, with the newest text.
type Count struct {
	Text  string
	Count int
}

// New has counted nothing.
func New[K comparable]() *Tally[K] { return &Tally[K]{notes: make(map[K]*note)} }

// NewLong has counted nothing, and remembers a kind for a day after its last record:
// what comes again just after each pause waits ever longer, too.
func NewLong[K comparable]() *Tally[K] { return &Tally[K]{notes: make(map[K]*note), keep: longMemory} }

// First says whether Add would have one of this kind recorded at once.
func (t *Tally[K]) First(kind K, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first(kind, now)
}

func (t *Tally[K]) first(kind K, now time.Time) bool {
	n := t.notes[kind]
	return n == nil || n.count == 0 && now.Sub(n.at) >= n.pause
}

// Add counts one and says whether it is to be recorded at once.
func (t *Tally[K]) Add(kind K, text string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.notes[kind]
	if t.first(kind, now) {
		pause := firstPause
		if n != nil && now.Sub(n.at) < t.keep {
			pause = min(2*n.pause, longestPause)
		}
		t.notes[kind] = &note{at: now, pause: pause} // its text is recorded now, and needed no more
		return true
	}
	n.text = text
	n.count++
	return false
}

// Tell counts one, and has write record it where it is to be recorded at once.
func (t *Tally[K]) Tell(kind K, text string, now time.Time, write func(K, Count) error) {
	if t.Add(kind, text, now) {
		t.tell(kind, Count{text, 1}, write)
	}
}

// Flush has write record the counts whose time has come, or all, and forgets who has stopped.
func (t *Tally[K]) Flush(now time.Time, all bool, write func(K, Count) error) {
	for kind, c := range t.due(now, all) {
		t.tell(kind, c, write)
	}
}

func (t *Tally[K]) tell(kind K, c Count, write func(K, Count) error) {
	if write(kind, c) != nil {
		t.Back(kind, c)
	}
}

// Back counts again what couldn't be recorded: it is due after the pause before it.
func (t *Tally[K]) Back(kind K, c Count) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.notes[kind]
	if n == nil {
		n = &note{pause: firstPause}
		t.notes[kind] = n
	}
	if n.count == 0 {
		n.text = c.Text
	}
	n.count += c.Count
	n.pause = max(firstPause, n.pause/2)
}

// due takes the counts that may be recorded now, or all, and forgets who has stopped.
func (t *Tally[K]) due(now time.Time, all bool) map[K]Count {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[K]Count)
	for kind, n := range t.notes {
		ripe := now.Sub(n.at) >= n.pause
		switch {
		case n.count > 0 && (all || ripe):
			out[kind] = Count{n.text, n.count}
			n.text, n.count, n.at, n.pause = "", 0, now, min(2*n.pause, longestPause)
		case n.count == 0 && ripe && now.Sub(n.at) >= t.keep:
			delete(t.notes, kind)
		}
	}
	return out
}
