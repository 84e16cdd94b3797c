package fleet

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"bollard/ca"
	"bollard/ledger"
)

const seenTimeout = 10 * time.Second

// staleError is why a session that was just admitted may not stay: something
// changed between its proof and its opening.
type staleError string

func (e staleError) Error() string { return string(e) }

// Opened records what the session proved, before any frame is handed on. Only
// now is the lower profile given up (A05.FR.09): a connection that came to
// nothing, because the back end was gone, leaves the station its way back.
func (s *Service) Opened(sess Session) {
	l := s.open(sess)
	ctx, cancel := context.WithTimeout(s.base, seenTimeout)
	defer cancel()
	s.recordSeen(ctx, l)
}

// retrySeen repeats what the disk didn't take.
func (s *Service) retrySeen(ctx context.Context) {
	for _, l := range s.allLive() {
		l.mu.Lock()
		unseen := l.unseen
		l.mu.Unlock()
		if unseen {
			s.recordSeen(ctx, l)
		}
	}
}

func (s *Service) recordSeen(ctx context.Context, l *live) {
	err := s.seen(ctx, l)
	var stale staleError
	switch {
	case errors.As(err, &stale):
		l.session.End(string(stale))
	case errors.Is(err, ErrUnknownStation):
		l.session.End("station was removed")
	}
	l.mu.Lock()
	first := !l.unseen
	l.unseen = err != nil && stale == "" && !errors.Is(err, ErrUnknownStation)
	failed := l.unseen
	l.mu.Unlock()
	if failed && first {
		s.log.Error("couldn't record a session; it goes on and the record is tried again",
			slog.String("station", l.key), slog.String("session", l.session.ID()), slog.Any("err", err))
	}
}

func (s *Service) seen(ctx context.Context, l *live) error {
	sess := l.session
	adm, now := sess.Admission(), s.clock()
	key := l.key
	serial := ""
	if adm.Leaf != nil && !adm.Factory {
		rec, known, err := s.standingOf(ctx, adm.Leaf)
		if err != nil {
			return fmt.Errorf("couldn't look up the session's certificate: %w", err)
		}
		if known && rec.State != ca.StateIssued {
			return staleError(fmt.Sprintf("certificate %s is %s", rec.Serial, rec.State))
		}
		serial = adm.Leaf.Serial
		if known {
			serial = rec.Serial
		}
	}
	if err := s.seenChain(ctx, key, adm.NewChain); err != nil {
		return err
	}
	st, err := s.store.Station(ctx, key)
	if err != nil {
		return err
	}
	before := st
	events, err := s.applySeen(&st, sess, serial, now)
	if err != nil {
		return err
	}
	way := wayIn(&st, sess, serial)
	come := entrance{key, sha256.Sum256([]byte(way))}
	entering := l.uncounted() && way != before.Admitted && s.entrances.First(come, now)
	if entering || len(events) > 0 || before.SeenProfile != st.SeenProfile || before.Version != st.Version || before.SeenBackend != st.SeenBackend ||
		before.RenewWanted != st.RenewWanted || before.PlanNote != st.PlanNote || !before.AllowExpired.Equal(st.AllowExpired) {
		var earlier Sighting // was by the way of the record
		if entering {
			earlier = s.sightings.drop(key)
		}
		after, err := s.store.UpdateStation(ctx, key, func(st *Station) ([]ledger.Event, error) {
			events, err := s.applySeen(st, sess, serial, now)
			if err == nil && entering {
				st.Admissions += earlier.Admissions
				events = append(events, st.enter(way, now)...)
			}
			return events, err
		})
		if err != nil {
			s.sightings.add(key, earlier)
			return err
		}
		if entering {
			l.count()
			s.entrances.Add(come, way, now)
		}
		if before.Pending != nil && after.Pending == nil {
			s.secrets.forget(key)
			if err := s.learnSecrets(ctx); err != nil {
				return err
			}
		}
		s.mu.Lock()
		if notes := strings.Join(adm.Notes, "; "); notes != "" {
			s.noted[key] = notes
		} else {
			delete(s.noted, key)
		}
		s.mu.Unlock()
	}
	sighting := Sighting{At: now}
	switch counts := l.count(); {
	case counts && way == before.Admitted:
		sighting.Admissions = 1
	case counts:
		s.entrances.Add(come, way, now)
	}
	s.sightings.add(key, sighting)
	if serial == "" {
		return nil
	}
	if err := s.confirm(ctx, key, serial); err != nil {
		return err
	}
	if before.LeafSerial != serial {
		return s.superseded(ctx, key, before.LeafSerial)
	}
	return nil
}

// applySeen changes the record to what the session proved and returns what of
// it is evidence. It is called twice: to see whether there is anything to
// write, and to write it.
func (s *Service) applySeen(st *Station, sess Session, serial string, now time.Time) ([]ledger.Event, error) {
	adm := sess.Admission()
	key := keyOf(st)
	var events []ledger.Event
	event := func(kind string, data map[string]string) {
		events = append(events, ledger.Event{Kind: kind, Subject: key, Actor: "station:" + key, Data: data})
	}
	if !st.LostAt.IsZero() {
		return nil, staleError(st.lost())
	}
	if adm.Profile < st.floor(now) {
		return nil, staleError("security profile was raised while the station connected")
	}
	if adm.Profile < 3 {
		decided, err := loginDecides(st, &adm, now)
		if err != nil {
			return nil, err
		}
		events = append(events, decided...)
	}
	if adm.Profile < st.FloorProfile { // it came down, as was approved
		event("station.floor", map[string]string{"from": strconv.Itoa(st.FloorProfile), "to": strconv.Itoa(adm.Profile)})
		st.FloorProfile, st.LowerUntil = adm.Profile, time.Time{}
	}
	// The maker's certificate proves who the station is, but not that it can
	// live on ours; it raises the floor only where profile 3 is wanted anyway.
	if adm.Profile > st.FloorProfile && (!adm.Factory || st.WantedProfile >= 3) {
		event("station.floor", map[string]string{"from": strconv.Itoa(st.FloorProfile), "to": strconv.Itoa(adm.Profile)})
		st.FloorProfile = adm.Profile
		if st.FloorProfile >= 3 {
			st.Pending, st.RotateWanted = nil, false // no password is taken any more
		}
		st.WantedProfile = max(st.WantedProfile, adm.Profile)
	}
	if serial != "" && serial != st.LeafSerial {
		data := map[string]string{"serial": serial}
		if st.LeafSerial != "" {
			// It is not revoked by itself: the station may fall back to it (A02.FR.28).
			data["no-longer-needed"] = st.LeafSerial
		}
		event("certificate.seen", data)
		st.LeafSerial = serial
	}
	st.SeenProfile, st.SeenAt, st.Version, st.SeenBackend = adm.Profile, now, sess.Version().String(), sess.Backend()
	expired := adm.Leaf != nil && now.After(adm.Leaf.NotAfter())
	switch {
	case adm.Factory || expired: // A00.FR.406, .429
		st.RenewWanted = true
	case serial != "":
		st.AllowExpired = time.Time{}
	}
	if adm.Profile >= st.WantedProfile && !st.RenewWanted {
		st.PlanNote = ""
	}
	s.mu.Lock()
	noted := s.noted[key]
	s.mu.Unlock()
	if notes := strings.Join(adm.Notes, "; "); notes != "" && notes != noted {
		event("check.warned", map[string]string{"notes": fact(notes)})
	}
	return events, nil
}

// confirm closes the order whose certificate the station was seen with.
func (s *Service) confirm(ctx context.Context, key, serial string) error {
	order, ok, err := s.store.UnconfirmedOrder(ctx, key, serial)
	if err != nil || !ok {
		return err
	}
	_, err = s.store.UpdateOrder(ctx, order.ID, func(o *Order) ([]ledger.Event, error) {
		return s.move(o, OrderConfirmed, "", "station:"+key), nil
	})
	if err != nil {
		return err
	}
	return s.forget(ctx, key, StepCertificate)
}
