package rollout

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Store has the rollouts of a Book.
type Store interface {
	// Rollouts returns those of one kind, newest first.
	Rollouts(ctx context.Context, kind string) ([]Record, error)
	// RolloutMembers returns the members, by ID.
	RolloutMembers(ctx context.Context, id string) ([]Member, error)
}

// Entry is a rollout as its owner has it.
type Entry interface {
	ID() string
	State() *Run
}

// Book has an owner's rollouts that aren't over, and those with members still at work,
// as the store has them. But for Watch it is not safe for concurrent use.
type Book[E Entry] struct {
	kind  string
	store Store
	made  func(Record, *Run) (E, error)
	open  map[string]E // by ID; nil: to be read
	watch atomic.Pointer[Watch]
}

// NewBook is of the rollouts of a kind; made tells what its owner makes of one.
func NewBook[E Entry](kind string, store Store, made func(Record, *Run) (E, error)) *Book[E] {
	return &Book[E]{kind: kind, store: store, made: made}
}

// Load reads them, if they weren't or were forgotten.
func (b *Book[E]) Load(ctx context.Context) (read bool, err error) {
	if b.open != nil {
		return false, nil
	}
	records, err := b.store.Rollouts(ctx, b.kind)
	if err != nil {
		return false, fmt.Errorf("couldn't read the rollouts: %w", err)
	}
	open := map[string]E{}
	for _, record := range records {
		if record.Header.Phase.Over() && !record.AtWork {
			continue
		}
		if open[record.ID], err = b.Entry(ctx, record); err != nil {
			return false, err
		}
	}
	b.open = open
	return true, nil
}

// Open are those it has, by ID.
func (b *Book[E]) Open() map[string]E { return b.open }

// Add takes in a rollout that is stored.
func (b *Book[E]) Add(e E) { b.open[e.ID()] = e }

// Close drops one that is over, once nobody is at work for it.
func (b *Book[E]) Close(e E) {
	if run := e.State(); run.Header().Phase.Over() && len(run.AtWork()) == 0 {
		delete(b.open, e.ID())
	}
}

// Forget has all be read again: what memory says may differ from the disk.
func (b *Book[E]) Forget() { b.open = nil }

// Records are all of its kind, newest first.
func (b *Book[E]) Records(ctx context.Context) ([]Record, error) {
	records, err := b.store.Rollouts(ctx, b.kind)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the rollouts: %w", err)
	}
	return records, nil
}

// Entry is the one of a record: the one it has, or as it is stored.
func (b *Book[E]) Entry(ctx context.Context, record Record) (e E, err error) {
	if e, ok := b.open[record.ID]; ok {
		return e, nil
	}
	members, err := b.store.RolloutMembers(ctx, record.ID)
	if err != nil {
		return e, err
	}
	if e, err = b.made(record, Load(record.Header, members)); err != nil {
		return e, fmt.Errorf("rollout %s is unreadable; restore the database from the backup: %w", record.ID, err)
	}
	return e, nil
}

// Watch is how the rollouts that aren't over stand, for metrics.
type Watch struct {
	Rollouts map[Phase]int
	Stations map[State]int
}

// Count has Watch tell how they stand now.
func (b *Book[E]) Count() {
	w := Watch{Rollouts: map[Phase]int{}, Stations: map[State]int{}}
	for _, e := range b.open {
		if phase := e.State().Header().Phase; !phase.Over() {
			w.Rollouts[phase]++
			for state, n := range e.State().Count() {
				w.Stations[state] += n
			}
		}
	}
	b.watch.Store(&w)
}

// Watch is as of the last Count; it waits for nobody.
func (b *Book[E]) Watch() Watch {
	if w := b.watch.Load(); w != nil {
		return *w
	}
	return Watch{}
}

// LookEvery is how often rollouts are looked at while a server runs.
const LookEvery = 5 * time.Second

// Drive looks at rollouts until ctx ends: at each tick, and whenever it is poked. What
// fails is told, and tried again.
func Drive(ctx context.Context, tick <-chan time.Time, poke <-chan struct{}, look func(context.Context) error, failed func(error)) {
	for {
		if err := look(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
		case <-poke:
		}
	}
}
