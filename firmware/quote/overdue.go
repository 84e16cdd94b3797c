package quote

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"bollard/detect"
	"bollard/ledger"
)

const (
	// lookEvery is how often it is looked who is late.
	lookEvery = 10 * time.Minute
	// againEvery is how often people are told again of one who still is.
	againEvery = 24 * time.Hour
)

// Run looks who is late until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := s.Look(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("couldn't look which stations haven't shown what they run", slog.Any("err", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Look raises an alarm for each station that hasn't shown for longer than is demanded
// of it that it runs what was delivered. Its time begins with the demand.
func (s *Service) Look(ctx context.Context) error {
	if s.cfg.CheckClock(ctx) != nil {
		return nil //nolint:nilerr // what it would note would be long ago once the clock is right
	}
	demands, err := s.cfg.Demands(ctx)
	if err != nil {
		return err
	}
	records, err := s.cfg.Store.Quotes(ctx)
	if err != nil {
		return err
	}
	now := s.cfg.Clock()
	var failed []error
	for station, r := range records {
		if demands[station] == 0 && !r.DemandedAt.IsZero() {
			failed = append(failed, s.change(ctx, station, func(r *Record) []ledger.Event {
				r.DemandedAt, r.OverdueAt = time.Time{}, time.Time{}
				return nil
			}))
		}
	}
	for station, every := range demands {
		r := records[station]
		switch {
		case r.DemandedAt.IsZero():
			failed = append(failed, s.change(ctx, station, func(r *Record) []ledger.Event { r.DemandedAt = now; return nil }))
		case r.ahead(now):
			failed = append(failed, s.change(ctx, station, func(r *Record) []ledger.Event { r.setRight(now); return nil }))
		case r.late(every, now) && now.Sub(r.OverdueAt) >= againEvery:
			failed = append(failed, s.overdue(ctx, station, every, now))
		}
	}
	return errors.Join(failed...)
}

func (r *Record) late(every time.Duration, now time.Time) bool {
	since := r.DemandedAt
	if r.ShownAt.After(since) {
		since = r.ShownAt
	}
	return now.Sub(since) > every
}

// ahead says whether a clock that was ahead noted what is later than now.
func (r *Record) ahead(now time.Time) bool {
	return r.DemandedAt.After(now) || r.ShownAt.After(now) || r.OverdueAt.After(now)
}

// setRight has that be now: else nobody would be told of the station until that time has
// come.
func (r *Record) setRight(now time.Time) {
	for _, at := range []*time.Time{&r.DemandedAt, &r.ShownAt, &r.OverdueAt} {
		if at.After(now) {
			*at = now
		}
	}
}

// overdue tells of a station that is late: before it is kept, so that a kill in between
// tells of it twice.
func (s *Service) overdue(ctx context.Context, station string, every time.Duration, now time.Time) error {
	if err := s.cfg.Alarm(ctx, detect.Sign{Kind: detect.QuoteOverdue, Station: station}); err != nil {
		return err
	}
	return s.change(ctx, station, func(r *Record) []ledger.Event {
		if !r.late(every, now) {
			return nil
		}
		first := r.OverdueAt.IsZero()
		r.OverdueAt = now
		if !first {
			return nil
		}
		return []ledger.Event{{Kind: "quote.overdue", Subject: station, Actor: "bollard", Data: map[string]string{"every": every.String()}}}
	})
}

func (s *Service) change(ctx context.Context, station string, change func(*Record) []ledger.Event) error {
	_, err := s.cfg.Store.UpdateQuote(ctx, station, nil, func(r *Record) ([]ledger.Event, error) { return change(r), nil })
	if errors.Is(err, ErrUnknown) { // removed meanwhile
		return nil
	}
	return err
}
