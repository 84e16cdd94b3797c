package fleet

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"bollard/internal/failpoint"
	"bollard/ledger"
	"bollard/ocpp"
)

const (
	parcelBatch = 16
	parcelAge   = 7 * 24 * time.Hour // older copies are given up
	parcelTries = 5                  // refusals by the back end before a copy is given up
	parcelRetry = time.Second        // doubling up to parcelRetryMax, with jitter
	parcelPause = 10 * time.Minute
	unableFor   = 7 * 24 * time.Hour // then one copy asks whether the back end learned it
)

// postbox is the delivery of one session's copies. Its live's mutex guards it.
type postbox struct {
	open     bool // the back end accepted the station
	running  bool
	again    bool
	failures int // in a row
	noticed  int // events that reached the log
}

// openPost lets copies go: the back end takes messages of this station now.
func (l *live) openPost(s *Service, open bool) {
	l.mu.Lock()
	l.post.open = open
	l.mu.Unlock()
	if open {
		l.deliver(s)
	}
}

// HandOver delivers what waits in the outbox for a session's back end.
func (s *Service) HandOver(sess Session) {
	if l := s.liveOf(sess); l != nil {
		l.deliver(s)
	}
}

// notices counts an event that reaches the log; false means enough.
func (l *live) notices() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.post.noticed++
	return l.post.noticed <= eventNotices
}

// deliver runs the session's deliveries, or once more if they run: one at a
// time, so that copies arrive in order.
func (l *live) deliver(s *Service) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.post.open || l.ended:
		return
	case l.post.running:
		l.post.again = true
		return
	}
	l.post.running = true
	l.session.Go(func(ctx context.Context) {
		for {
			done := s.deliverAll(ctx, l)
			l.mu.Lock()
			if !done || !l.post.again || ctx.Err() != nil || l.ended {
				l.post.running, l.post.again = false, false
				failures := l.post.failures
				l.mu.Unlock()
				if !done && ctx.Err() == nil {
					l.later(s, parcelDelay(failures), func() { l.deliver(s) })
				}
				return
			}
			l.post.again = false
			l.mu.Unlock()
		}
	})
}

// parcelDelay is how long to wait after failures in a row.
func parcelDelay(failures int) time.Duration {
	d := parcelRetry << min(failures, 20)
	d = min(d, parcelPause)
	return d + rand.N(d/4)
}

// deliverAll hands the station's copies to its back end until none is left;
// false means to try again later.
func (s *Service) deliverAll(ctx context.Context, l *live) bool {
	for ctx.Err() == nil {
		parcels, err := s.store.Parcels(ctx, l.key, parcelBatch)
		if err != nil {
			return s.deliveryFailed(ctx, l, err)
		}
		if len(parcels) == 0 {
			return true
		}
		for _, p := range parcels {
			l.mu.Lock()
			open := l.post.open
			l.mu.Unlock()
			if !open {
				return true // opening again starts anew
			}
			if err := s.deliverOne(ctx, l, &p); err != nil {
				return s.deliveryFailed(ctx, l, err)
			}
			l.mu.Lock()
			l.post.failures = 0
			l.mu.Unlock()
		}
	}
	return false
}

func (s *Service) deliveryFailed(ctx context.Context, l *live, err error) bool {
	l.mu.Lock()
	l.post.failures++
	first := l.post.failures == 1
	l.mu.Unlock()
	if first && ctx.Err() == nil {
		s.log.Warn("couldn't hand a copy to the back end; it waits in the outbox", slog.String("station", l.key), slog.String("session", l.session.ID()), slog.Any("err", err))
	}
	return false
}

// deliverOne hands over one copy. It leaves the outbox after the answer, so that
// it arrives at least once. A copy the back end keeps refusing is given up: those
// behind it must not wait for ever.
func (s *Service) deliverOne(ctx context.Context, l *live, p *Parcel) error {
	if s.unable(ctx, l.session, p.Action) {
		return s.store.RemoveParcel(ctx, p.ID)
	}
	failpoint.Hit("outbox.before-send")
	_, err := l.session.Upstream(ctx, p.Action, p.Payload)
	failpoint.Hit("outbox.after-send")
	var refused *ocpp.CallFailure
	switch {
	case err == nil:
	case !errors.As(err, &refused):
		return err
	case refused.Code == ocpp.NotSupported || refused.Code == ocpp.NotImplemented:
		if err := s.setUnable(ctx, l.session, p.Action); err != nil {
			return err
		}
	case p.Tries+1 < parcelTries:
		if err := s.store.TriedParcel(ctx, p.ID); err != nil {
			return err
		}
		return refused
	default:
		return s.store.LoseParcel(ctx, p.ID, s.lost)
	}
	return s.store.RemoveParcel(ctx, p.ID)
}

// unable says whether the session's back end is known not to support an action.
// In doubt it is asked.
func (s *Service) unable(ctx context.Context, sess Session, action string) bool {
	since, err := s.store.Unable(ctx, sess.Backend(), sess.Version().String(), action)
	return err == nil && !since.IsZero() && putOff(s.clock(), since.Add(unableFor), unableFor)
}

// setUnable remembers that the back end doesn't support an action, so that it is
// not bothered with it again.
func (s *Service) setUnable(ctx context.Context, sess Session, action string) error {
	version := sess.Version().String()
	return s.store.SetUnable(ctx, sess.Backend(), version, action, s.clock(), ledger.Event{Kind: "backend.unable", Subject: sess.Backend(),
		Actor: "bollard", Data: map[string]string{"action": action, "version": version}})
}

// sweepOutbox gives up what has waited for too long.
func (s *Service) sweepOutbox(ctx context.Context) {
	n, err := s.store.LoseParcels(ctx, s.clock().Add(-parcelAge), s.lost)
	switch {
	case err != nil && ctx.Err() == nil:
		s.log.Warn("couldn't look for old copies in the outbox", slog.Any("err", err))
	case n > 0:
		s.log.Warn("copies of security events were given up: no back end took them in time", slog.Int("count", n))
	}
}
