// Package witness takes the ledger's checkpoints to where the ledger's machine
// can't change them: a file on another disk, syslog, a webhook, or a witness
// that signs what it saw (c2sp.org/tlog-witness).
//
// It promises that each place has, within the interval and when the server
// stops, a checkpoint of everything recorded before, or that its fault is told;
// and that no place is handed a checkpoint that takes back what it has.
package witness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bollard/ledger"
)

// ErrSetBack is in the error of a place that has seen more of the ledger, or
// another history of it: the data directory was set back, or exists twice.
var ErrSetBack = errors.New("it has seen another or a longer history of this ledger: the data directory was set back to an older state, or runs twice")

// Place keeps checkpoints. It is used by one goroutine at a time.
type Place interface {
	// Name tells places apart in logs and metrics.
	Name() string
	// Keep hands a checkpoint over and returns it, with the signatures the
	// place added. It returns when ctx ends.
	Keep(ctx context.Context, n ledger.Note) (ledger.Note, error)
}

// Notary signs the ledger as it stands. Methods are safe for concurrent use.
type Notary interface {
	Checkpoint(ctx context.Context) (ledger.Note, error)
	// Cosigned keeps a checkpoint with the signatures it gained.
	Cosigned(ctx context.Context, n ledger.Note) error
}

// patience bounds one hand-over; retry is the pause after a failure.
const (
	patience = 15 * time.Second
	retry    = time.Minute
)

// Config of a Service.
type Config struct {
	Notary Notary
	Places []Place
	Every  time.Duration // between checkpoints
	Log    *slog.Logger
}

// Service hands checkpoints over.
type Service struct {
	cfg Config

	mu   sync.Mutex
	seen map[string]State // by place
}

// State is how a place stands.
type State struct {
	Entries uint64 // of the newest checkpoint it has; 0: none since the start
	Err     error  // of the last try; nil: it has what there was
}

// New returns a Service that works while Run runs.
func New(cfg Config) *Service { return &Service{cfg: cfg, seen: map[string]State{}} }

// Run hands over a checkpoint at once, after each interval, and one last time
// when ctx ends.
func (s *Service) Run(ctx context.Context) error {
	for {
		pause := s.cfg.Every
		if !s.Round(ctx) {
			pause = min(pause, retry)
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
			defer cancel()
			s.Round(last)
			return nil
		case <-time.After(pause):
		}
	}
}

// Round signs the ledger and hands the checkpoint to each place that lacks it;
// false if one failed.
func (s *Service) Round(ctx context.Context) bool {
	n, err := s.cfg.Notary.Checkpoint(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.cfg.Log.Error("couldn't sign a checkpoint of the ledger", "err", err)
		}
		return false
	}
	var wait sync.WaitGroup
	signed := make([]ledger.Note, len(s.cfg.Places))
	for i, p := range s.cfg.Places {
		before := s.State(p.Name())
		if before.Err == nil && before.Entries == n.Size {
			continue
		}
		wait.Go(func() {
			limited, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			kept, err := p.Keep(limited, n)
			s.note(ctx, p.Name(), n.Size, err)
			if err == nil {
				signed[i] = kept
			}
		})
	}
	wait.Wait()
	if err := s.merge(ctx, n, signed); err != nil {
		s.cfg.Log.Error("couldn't keep the signatures of witnesses", "err", err)
	}
	return s.Fault() == nil
}

// merge keeps the checkpoint with all signatures that were added to it.
func (s *Service) merge(ctx context.Context, n ledger.Note, signed []ledger.Note) error {
	all := n
	for _, kept := range signed {
		if kept.Signed != "" {
			all = all.With(kept)
		}
	}
	if all == n {
		return nil
	}
	return s.cfg.Notary.Cosigned(ctx, all)
}

// note takes down how a hand-over went, and logs what changed.
func (s *Service) note(ctx context.Context, place string, size uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.seen[place]
	now := State{Entries: size}
	if err != nil {
		now = State{Entries: before.Entries, Err: err}
	}
	s.seen[place] = now
	switch {
	case ctx.Err() != nil && err != nil:
	case errors.Is(err, ErrSetBack):
		s.cfg.Log.Error("the ledger isn't what was seen elsewhere", "place", place, "err", err)
	case err != nil && before.Err == nil:
		s.cfg.Log.Warn("couldn't take a checkpoint of the ledger to where it is kept; it is tried again", "place", place, "err", err)
	case err == nil && before.Err != nil:
		s.cfg.Log.Info("checkpoints are kept again", "place", place)
	}
}

// State is how a place stands.
func (s *Service) State(place string) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[place]
}

// Fault names a place that lacks the newest checkpoint because the last try
// failed; nil if none does.
func (s *Service) Fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.cfg.Places {
		if err := s.seen[p.Name()].Err; err != nil {
			return fmt.Errorf("%s: %w", p.Name(), err)
		}
	}
	return nil
}
