package fleet

import (
	"context"
	"log/slog"
	"strconv"

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
	if s.overruled.Add(key, reason, s.clock()) {
		s.recordOverruled(ctx, key, reason, 1)
	}
}

// flushOverruled writes the counts whose pause is over, or all.
func (s *Service) flushOverruled(ctx context.Context, all bool) {
	for key, n := range s.overruled.Due(s.clock(), all) {
		s.recordOverruled(ctx, key, n.Text, n.Count)
	}
}

func (s *Service) recordOverruled(ctx context.Context, key overruledKey, reason string, count int) {
	err := s.record(ctx, ledger.Event{Kind: "backend.refused", Subject: key.station, Actor: "bollard",
		Data: map[string]string{"action": key.action, "reason": fact(reason), "count": strconv.Itoa(count)}})
	if err != nil && ctx.Err() == nil {
		s.log.Warn("couldn't record a refused back-end message", slog.String("station", key.station), slog.Any("err", err))
	}
}
