package fleet

import (
	"context"
	"log/slog"
	"strconv"

	"bollard/internal/tally"
	"bollard/ledger"
)

// overruledKey is what repetitions are counted by: a back end that repeats itself
// must not cost a disk write each, nor fill the ledger. There are few stations
// and guarded actions.
type overruledKey struct{ station, action string }

// recordVerdict writes down that the back end was refused something: the first
// time at once, repetitions as a count.
func (s *Service) recordVerdict(ctx context.Context, sess Session, action, reason string) {
	key := overruledKey{keyOfSession(sess), action}
	s.overruled.Tell(key, reason, s.clock(), s.recordOverruled(ctx))
}

// flushOverruled writes the counts whose pause is over, or all.
func (s *Service) flushOverruled(ctx context.Context, all bool) {
	s.overruled.Flush(s.clock(), all, s.recordOverruled(ctx))
}

func (s *Service) recordOverruled(ctx context.Context) func(overruledKey, tally.Count) error {
	return func(key overruledKey, n tally.Count) error {
		err := s.record(ctx, ledger.Event{Kind: "backend.refused", Subject: key.station, Actor: "bollard",
			Data: map[string]string{"action": key.action, "reason": fact(n.Text), "count": strconv.Itoa(n.Count)}})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("couldn't record a refused back-end message; it is tried again", slog.String("station", key.station), slog.Any("err", err))
		}
		return err
	}
}
