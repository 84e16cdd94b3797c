package fleet

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"bollard/ledger"
)

// Pauses between two ledger entries about refused messages of one action for
// one station: a back end that repeats itself must not cost a disk write each,
// nor fill the ledger. The pause doubles while it goes on.
const (
	overrulePause   = time.Minute
	overruleLongest = time.Hour
)

// overruled counts what the back end was refused and isn't written down yet. It
// holds a note per station and guarded action, of which there are few, for as
// long as they are repeated.
type overruled struct {
	mu    sync.Mutex
	notes map[overruledKey]*overruledNote
}

type overruledKey struct{ station, action string }

type overruledNote struct {
	reason string
	count  int // since the last entry
	at     time.Time
	pause  time.Duration
}

func newOverruled() *overruled { return &overruled{notes: make(map[overruledKey]*overruledNote)} }

// add says whether a refusal is to be written at once: the first is.
func (o *overruled) add(key overruledKey, reason string, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.notes[key]
	if n == nil || n.count == 0 && now.Sub(n.at) >= n.pause {
		o.notes[key] = &overruledNote{reason: reason, at: now, pause: overrulePause}
		return true
	}
	n.reason = reason
	n.count++
	return false
}

// due takes the counts that may be written now and forgets who has stopped.
func (o *overruled) due(now time.Time, all bool) map[overruledKey]overruledNote {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make(map[overruledKey]overruledNote)
	for key, n := range o.notes {
		ripe := now.Sub(n.at) >= n.pause
		switch {
		case n.count > 0 && (all || ripe):
			out[key] = *n
			n.count, n.at, n.pause = 0, now, min(2*n.pause, overruleLongest)
		case n.count == 0 && ripe:
			delete(o.notes, key)
		}
	}
	return out
}

// recordVerdict writes down that the back end was refused something: the first
// time at once, repetitions as a count.
func (s *Service) recordVerdict(ctx context.Context, sess Session, action, reason string) {
	key := overruledKey{keyOfSession(sess), action}
	if s.overruled.add(key, reason, s.clock()) {
		s.recordOverruled(ctx, key, reason, 1)
	}
}

// flushOverruled writes the counts whose pause is over, or all.
func (s *Service) flushOverruled(ctx context.Context, all bool) {
	for key, n := range s.overruled.due(s.clock(), all) {
		s.recordOverruled(ctx, key, n.reason, n.count)
	}
}

func (s *Service) recordOverruled(ctx context.Context, key overruledKey, reason string, count int) {
	err := s.record(ctx, ledger.Event{Kind: "backend.refused", Subject: key.station, Actor: "bollard",
		Data: map[string]string{"action": key.action, "reason": fact(reason), "count": strconv.Itoa(count)}})
	if err != nil && ctx.Err() == nil {
		s.log.Warn("couldn't record a refused back-end message", slog.String("station", key.station), slog.Any("err", err))
	}
}
