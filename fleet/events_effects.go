package fleet

import (
	"context"
	"log/slog"

	"bollard/ledger"
)

// noteEvent tells the certificate life that the station refused or threw away a
// certificate of its own: event is the 2.x name of InvalidChargingStationCertificate
// (A02.FR.07) or of DiscardedRenewedClientCertificate, after which it lives on
// its old certificate (A02.FR.28). The plan looks at the station anew.
func (s *Service) noteEvent(sess Session, event string) {
	adm := sess.Admission()
	key := adm.Station.Key()
	sess.Go(func(ctx context.Context) {
		err := s.record(ctx, ledger.Event{Kind: "certificate.doubted", Subject: key, Actor: "station:" + key, Data: map[string]string{"event": event}})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("couldn't record a security event about a certificate", slog.String("station", key), slog.String("session", sess.ID()), slog.Any("err", err))
		}
		s.certificateEvent(ctx, sess, event)
	})
}
