package fleet

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"bollard/internal/tally"
	"bollard/ledger"
)

// putOffKey is what proven connections are counted by that had to wait: whoever has a
// station's secret can come as often as the network lets it.
type putOffKey struct{ station, why string }

// putOffTimeout bounds what the gateway waits for the record of the first.
const putOffTimeout = 5 * time.Second

// PutOff records that a proven station was put off for a reason that isn't its proof:
// the first time at once, repetitions as a count.
func (s *Service) PutOff(ctx context.Context, adm Admission, why string) {
	key := putOffKey{adm.Station.Key(), why}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putOffTimeout)
	defer cancel()
	s.putOffs.Tell(key, "", s.clock(), s.recordPutOff(ctx))
}

// flushPutOffs writes the counts whose pause is over, or all.
func (s *Service) flushPutOffs(ctx context.Context, all bool) {
	s.putOffs.Flush(s.clock(), all, s.recordPutOff(ctx))
}

func (s *Service) recordPutOff(ctx context.Context) func(putOffKey, tally.Count) error {
	return func(key putOffKey, n tally.Count) error {
		err := s.record(ctx, ledger.Event{Kind: "station.put-off", Subject: key.station, Actor: "bollard",
			Data: map[string]string{"reason": fact(key.why), "count": strconv.Itoa(n.Count)}})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("couldn't record that a station was put off; it is tried again", slog.String("station", key.station), slog.Any("err", err))
		}
		return err
	}
}
