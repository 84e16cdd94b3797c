package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"sync"
	"time"

	"bollard/ledger"
)

const (
	// handTries is how often a log is brought to where its back end wanted it; between
	// two are a minute, and twice as long each time, for eight hours together.
	handTries = 10
	handPause = time.Minute
	handMost  = 4 * time.Hour
	handLook  = time.Minute
	// handAtOnce are brought beside each other.
	handAtOnce = 4
)

// ErrNotTaken says that what is to be handed on is taken by no further try either.
var ErrNotTaken = errors.New("it isn't taken there")

// HandOn brings what stations uploaded here to where their back ends wanted it. It is of
// one Service.
type HandOn struct {
	// Seal and Open are for locations, which may hold secrets.
	Seal func(name string, secret []byte) ([]byte, error)
	Open func(name string, sealed []byte) ([]byte, error)
	// Check says why nothing is handed on to a location; its text names no secret.
	Check func(location string) error
	// Send brings a file there: ErrNotTaken if that is no use. It judges the location
	// anew, and its errors name no secret.
	Send func(ctx context.Context, location string, l StationLog) error

	once  sync.Once
	woken chan struct{}
}

func (h *HandOn) wake() chan struct{} {
	h.once.Do(func() { h.woken = make(chan struct{}, 1) })
	return h.woken
}

func (h *HandOn) poke() {
	select {
	case h.wake() <- struct{}{}:
	default:
	}
}

// accept keeps where a back end wants a log, or why it won't get it there.
func (h *HandOn) accept(l *StationLog, location string) ([]ledger.Event, error) {
	if err := h.Check(location); err != nil {
		return []ledger.Event{l.notHandedOn(placeOf(location), err)}, nil
	}
	sealed, err := h.Seal(l.secret(), []byte(location))
	if err != nil {
		return nil, fmt.Errorf("couldn't keep where a log is wanted: %w", err)
	}
	l.Target = sealed
	return nil, nil
}

// notHandedOn gives it up.
func (l *StationLog) notHandedOn(where string, why error) ledger.Event {
	l.Target, l.Note = nil, fact("not handed on: "+why.Error())
	return ledger.Event{Kind: "log.not-handed-on", Subject: l.Station, Actor: "bollard", Data: map[string]string{
		"request": strconv.Itoa(l.Request), "backend": l.Backend, "where": where, "reason": l.Note, "tries": strconv.Itoa(l.Tries),
	}}
}

// secret names the location of a log, for its seal.
func (l *StationLog) secret() string {
	return "log/" + l.Station + "/" + strconv.Itoa(l.Request)
}

// HandOnLogs brings logs to back ends until ctx ends.
func (s *Service) HandOnLogs(ctx context.Context) error {
	logs := s.logSchedule()
	if logs == nil || logs.HandOn == nil {
		return nil
	}
	tick := time.NewTicker(handLook)
	defer tick.Stop()
	for {
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = s.handOnDue(ctx, logs.HandOn); err != nil && ctx.Err() == nil {
				s.log.Warn("couldn't hand stations' logs on; it is tried again", slog.Any("err", err))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-logs.HandOn.wake():
		}
	}
}

// handOnDue brings some that are due; more says that there may be others.
func (s *Service) handOnDue(ctx context.Context, h *HandOn) (more bool, err error) {
	list, err := s.store.LogsToHandOn(ctx, s.clock(), handAtOnce)
	if err != nil {
		return false, err
	}
	errs := make([]error, len(list))
	var all sync.WaitGroup
	for i, l := range list {
		all.Go(func() { errs[i] = s.handOn(ctx, h, l) })
	}
	all.Wait()
	err = errors.Join(errs...)
	return len(list) == handAtOnce && err == nil, err
}

// handOn brings one, and writes down what came of it. A kill in between brings it again.
func (s *Service) handOn(ctx context.Context, h *HandOn, l StationLog) error {
	location, err := h.Open(l.secret(), l.Target)
	where := ""
	if err != nil { // with another seal key it is never known
		err = fmt.Errorf("%w: %w", ErrNotTaken, err)
	} else {
		where = placeOf(string(location))
		err = h.Send(ctx, string(location), l)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	now := s.clock()
	_, lost := s.store.UpdateLog(ctx, l.Station, l.Request, func(l *StationLog) ([]ledger.Event, error) {
		l.Tries++
		switch {
		case err == nil:
			l.Target, l.HandedAt, l.Note = nil, now, ""
			return []ledger.Event{{Kind: "log.handed-on", Subject: l.Station, Actor: "bollard", Data: map[string]string{
				"request": strconv.Itoa(l.Request), "sha256": l.SHA256, "backend": l.Backend, "where": where,
			}}}, nil
		case errors.Is(err, ErrNotTaken) || l.Tries >= handTries:
			return []ledger.Event{l.notHandedOn(where, err)}, nil
		}
		l.TryAt, l.Note = now.Add(retryDelay(handPause, handMost, l.Tries-1)), fact("to be handed on: "+err.Error())
		return nil, nil
	})
	if err != nil {
		s.log.Warn("couldn't hand a station's log on to where its back end wants it", slog.String("station", l.Station), slog.Int("try", l.Tries+1), slog.Any("err", err))
	}
	return lost
}

// placeOf is scheme and host of a location: the rest may be a secret.
func placeOf(location string) string {
	u, err := url.Parse(location)
	if err != nil {
		return ""
	}
	return fact(u.Scheme + "://" + u.Host)
}
