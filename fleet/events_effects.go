package fleet

import (
	"context"
	"log/slog"
	"strconv"

	"bollard/internal/tally"
	"bollard/ledger"
)

// doubt is what security events about certificates are counted by: a station can
// send as many as it likes, and each would be an entry for ever.
type doubt struct{ station, event string }

// noteEvent tells the certificate life that the station refused or threw away a
// certificate of its own: event is the 2.x name of InvalidChargingStationCertificate
// (A02.FR.07) or of DiscardedRenewedClientCertificate, after which it lives on
// its old certificate (A02.FR.28). The plan looks at the station anew.
func (s *Service) noteEvent(ctx context.Context, sess Session, event string) {
	s.doubts.Tell(doubt{keyOfSession(sess), event}, "", s.clock(), s.recordDoubt(ctx))
	if l := s.liveOf(sess); l != nil {
		l.aside(event, func(ctx context.Context) { s.certificateEvent(ctx, sess, event) })
	}
}

// flushDoubts writes the counts whose pause is over, or all.
func (s *Service) flushDoubts(ctx context.Context, all bool) {
	s.doubts.Flush(s.clock(), all, s.recordDoubt(ctx))
}

func (s *Service) recordDoubt(ctx context.Context) func(doubt, tally.Count) error {
	return func(d doubt, n tally.Count) error {
		err := s.record(ctx, ledger.Event{Kind: "certificate.doubted", Subject: d.station, Actor: "station:" + d.station,
			Data: map[string]string{"event": d.event, "count": strconv.Itoa(n.Count)}})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("couldn't record a security event about a certificate; it is tried again", slog.String("station", d.station), slog.Any("err", err))
		}
		return err
	}
}
