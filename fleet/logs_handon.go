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
		return []ledger.Event{l.NotHandedOn(placeOf(location), err)}, nil
	}
	sealed, err := h.Seal(l.secret(), []byte(location))
	if err != nil {
		return nil, fmt.Errorf("couldn't keep where a log is wanted: %w", err)
	}
	l.Target = sealed
	return nil, nil
}

// NotHandedOn gives it up, and is the entry that says so.
func (l *StationLog) NotHandedOn(where string, why error) ledger.Event {
	l.Target, l.Note = nil, fact("not handed on: "+why.Error())
	return ledger.Event{Kind: "log.not-handed-on", Subject: l.Station, Actor: "bollard", Data: map[string]string{
		"request": strconv.Itoa(l.Request), "backend": l.Backend, "where": where, "reason": l.Note, "tries": strconv.Itoa(l.Tries),
	}}
}

// secret names the location of a log, for its seal.
func (l *StationLog) secret() string {
	return "log/" + l.Station + "/" + strconv.Itoa(l.Request)
}

// HandOnLogs brings logs to back ends until ctx ends: one at a time to each, so that a
// slow one holds up itself alone.
func (s *Service) HandOnLogs(ctx context.Context) error {
	logs := s.logSchedule()
	if logs == nil || logs.HandOn == nil {
		return nil
	}
	tick := time.NewTicker(handLook)
	defer tick.Stop()
	c := &courier{busy: map[string]bool{}}
	defer c.all.Wait()
	for {
		if err := s.handOnDue(ctx, logs.HandOn, c); err != nil && ctx.Err() == nil {
			s.log.Warn("couldn't hand stations' logs on; it is tried again", slog.Any("err", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-logs.HandOn.wake():
		}
	}
}

// courier knows which back ends something is on its way to.
type courier struct {
	mu   sync.Mutex
	busy map[string]bool
	all  sync.WaitGroup
}

func (c *courier) take(backend string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[backend] {
		return false
	}
	c.busy[backend] = true
	return true
}

func (c *courier) free(backend string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, backend)
}

// handOnDue sends the next on its way to each back end that has none. Once one is there
// the next follows.
func (s *Service) handOnDue(ctx context.Context, h *HandOn, c *courier) error {
	now := s.clock()
	list, err := s.store.LogsToHandOn(ctx, now, now.Add(2*handMost))
	if err != nil {
		return err
	}
	for _, l := range list {
		if !c.take(l.Backend) {
			continue
		}
		c.all.Go(func() {
			err := s.handOn(ctx, h, l)
			c.free(l.Backend)
			switch {
			case err == nil:
				h.poke()
			case ctx.Err() == nil: // not at once: what fails to be written fails again
				s.log.Warn("couldn't write down what became of a log to hand on; it is tried again", slog.Any("err", err))
			}
		})
	}
	return nil
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
			return []ledger.Event{l.NotHandedOn(where, err)}, nil
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
