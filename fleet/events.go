package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"bollard/internal/failpoint"
	"bollard/internal/redact"
	"bollard/ledger"
	"bollard/ocpp"
)

// Bounds of what one station can fill. Critical events and the others are
// counted apart, so that a flood of the latter can't wash the former away.
const (
	EventsKept  = 500 // events of either criticality
	ParcelsKept = 250 // copies that wait for the back end
	// parcelBytes is the longest payload copied as it came; a longer one is
	// copied with the fields of the message alone.
	parcelBytes = 4 << 10
	// eventNotices is how many events of one session reach the log.
	eventNotices = 20
	// maxStamp is the longest timestamp that is kept.
	maxStamp = 64
)

// SecurityEvent is one security event as a station told it. Type, if it isn't
// Listed, SentAs, Timestamp and TechInfo are the station's text: hostile until
// quoted, and TechInfo maybe personal data. None of them goes to a log or the
// ledger.
type SecurityEvent struct {
	ID         int64 // rises with the order of recording; the store sets it
	Station    string
	Type       string // the version's name of a listed event, else as sent
	SentAs     string // what was sent, if that isn't Type
	Listed     bool   // the name is one of the standard's
	Critical   bool   // as the version has it; unlisted ones are not
	Version    string
	Timestamp  string // as sent
	ReceivedAt time.Time
	TechInfo   redact.Personal
}

// Parcel is a copy of a message for the back end, in the outbox.
type Parcel struct {
	ID       int64 // rises with the order of queueing, never used twice; the store sets it
	Station  string
	Action   string
	Payload  json.RawMessage
	QueuedAt time.Time
	Tries    int // answers that were no acceptance
}

// EventLosses counts what was given up of a station's events: New by one call,
// the others so far.
type EventLosses struct {
	Station              string
	Events, Copies       int // events not kept any more, copies no back end got
	NewEvents, NewCopies int
}

// EventStore keeps security events and the outbox, under the promises of Store.
// A removed station takes its own along.
type EventStore interface {
	// AddEvent stores an event and, unless parcel is nil, its copy: both or
	// neither. ErrUnknownStation without such a station. Of each station the
	// newest EventsKept of either criticality and ParcelsKept copies stay; lost
	// is told of the others and its events are recorded.
	AddEvent(ctx context.Context, e SecurityEvent, parcel *Parcel, lost func(EventLosses) []ledger.Event) error
	// SecurityEvents returns a station's events, newest first, at most limit.
	SecurityEvents(ctx context.Context, station string, limit int) ([]SecurityEvent, error)
	EventLosses(ctx context.Context, station string) (EventLosses, error)

	// Parcels returns a station's copies, oldest first, at most limit.
	Parcels(ctx context.Context, station string, limit int) ([]Parcel, error)
	RemoveParcel(ctx context.Context, id int64) error
	TriedParcel(ctx context.Context, id int64) error
	LoseParcel(ctx context.Context, id int64, lost func(EventLosses) []ledger.Event) error
	// LoseParcels gives up every copy queued before a time.
	LoseParcels(ctx context.Context, before time.Time, lost func(EventLosses) []ledger.Event) (int, error)
	// Unable returns since when a back end is known not to support an action of
	// a version; the zero time if it isn't.
	Unable(ctx context.Context, backend, version, action string) (time.Time, error)
	SetUnable(ctx context.Context, backend, version, action string, since time.Time, events ...ledger.Event) error
}

// securityEvent takes a SecurityEventNotification (A04), whether the station is
// accepted yet or not. Where Bollard answers certificate messages it answers
// this one too, once the event is durable, and the back end gets a copy from the
// outbox: a back end that doesn't know the message would make the station
// repeat it for ever. Elsewhere it goes on and Bollard keeps the copy.
func (s *Service) securityEvent(ctx context.Context, sess Session, m Message) (Verdict, error) {
	e, err := s.readEvent(sess, m)
	if err != nil {
		return Verdict{}, err
	}
	var parcel *Parcel
	answers := sess.Security() == SecurityBollard
	if answers {
		parcel = s.parcelOf(ctx, sess, m, &e)
	}
	err = s.store.AddEvent(ctx, e, parcel, s.lost)
	switch {
	case err != nil && !answers:
		s.log.Error("couldn't store a security event; the back end has it", slog.String("station", e.Station), slog.String("session", sess.ID()), slog.Any("err", err))
		return Verdict{Act: Pass}, nil
	case errors.Is(err, ErrUnknownStation):
		return Verdict{Act: End, Reason: "station was removed"}, nil
	case err != nil: // the station keeps it (A04.FR.02)
		s.log.Error("couldn't store a security event; the station has to repeat it", slog.String("station", e.Station), slog.String("session", sess.ID()), slog.Any("err", err))
		return Verdict{Act: Refuse, Code: ocpp.InternalError, Reason: "security event couldn't be stored"}, nil
	}
	failpoint.Hit("fleet.event-stored")
	if err := s.eventSigns(ctx, &e); err != nil {
		s.log.Error("couldn't record what a security event is a sign of", slog.String("station", e.Station), slog.String("session", sess.ID()), slog.Any("err", err))
		if answers { // the station keeps it and tells it again
			return Verdict{Act: Refuse, Code: ocpp.InternalError, Reason: "security event couldn't be looked at"}, nil
		}
	}
	if e.Listed && strings.EqualFold(e.Type, ocpp.EventFirmwareUpdated) {
		s.announced(ctx, e.Station)
	}
	s.notice(ctx, sess, &e)
	if !answers {
		return Verdict{Act: Pass}, nil
	}
	return Verdict{Act: Answer, Payload: struct{}{}, Reason: "security event stored", After: func(context.Context) {
		if l := s.liveOf(sess); l != nil {
			l.deliver(s)
		}
	}}, nil
}

// readEvent makes the record of a notification. Longer text than the schema
// allows is cut, not refused: stations send it.
func (s *Service) readEvent(sess Session, m Message) (SecurityEvent, error) {
	var request ocpp.SecurityEventRequest
	if err := ocpp.DecodeStrict(m.Payload, &request); err != nil {
		return SecurityEvent{}, err
	}
	if request.Type == "" {
		return SecurityEvent{}, &ocpp.FrameError{Code: ocpp.OccurrenceConstraintViolation, Reason: "security event has no type"}
	}
	adm := sess.Admission()
	e := SecurityEvent{
		Station: adm.Station.Key(), Type: cutText(request.Type, ocpp.MaxEventType), Version: sess.Version().String(),
		Timestamp: cutText(request.Timestamp, maxStamp), ReceivedAt: s.clock(), TechInfo: redact.Personal(cutText(request.TechInfo, ocpp.MaxEventTechInfo)),
	}
	if listed, ok := ocpp.FindSecurityEvent(request.Type); ok {
		name, critical := listed.In(sess.Version())
		if name != e.Type {
			e.SentAs = e.Type
		}
		e.Type, e.Listed, e.Critical = name, true, critical
	}
	return e, nil
}

// parcelOf is the copy for the back end, or nil if that can't take it.
func (s *Service) parcelOf(ctx context.Context, sess Session, m Message, e *SecurityEvent) *Parcel {
	if s.unable(ctx, sess, m.Head.Action) {
		return nil
	}
	p := &Parcel{Station: e.Station, Action: m.Head.Action, Payload: json.RawMessage(m.Head.Payload), QueuedAt: e.ReceivedAt}
	if len(p.Payload) > parcelBytes || m.Head.Payload == nil {
		sent := e.Type
		if e.SentAs != "" {
			sent = e.SentAs
		}
		p.Action = m.Action
		plain, err := json.Marshal(ocpp.SecurityEventRequest{Type: sent, Timestamp: e.Timestamp, TechInfo: string(e.TechInfo)})
		if err != nil {
			panic("internal error: couldn't encode an own payload: " + err.Error())
		}
		p.Payload = plain
	}
	return p
}

// lost records losses at the first and whenever their number has doubled: a
// flood must not fill the ledger.
func (s *Service) lost(n EventLosses) []ledger.Event {
	var events []ledger.Event
	if doubled(n.Events, n.NewEvents) {
		events = append(events, ledger.Event{Kind: "event.dropped", Subject: n.Station, Actor: "bollard", Data: map[string]string{"total": strconv.Itoa(n.Events)}})
	}
	if doubled(n.Copies, n.NewCopies) {
		events = append(events, ledger.Event{Kind: "outbox.dropped", Subject: n.Station, Actor: "bollard", Data: map[string]string{"total": strconv.Itoa(n.Copies)}})
	}
	return events
}

// doubled says whether a count that grew by n reached a power of two.
func doubled(count, n int) bool {
	for power := 1; power <= count && n > 0; power *= 2 {
		if power > count-n {
			return true
		}
	}
	return false
}

// notice tells the log of a critical event and the certificate life of what
// concerns it.
func (s *Service) notice(ctx context.Context, sess Session, e *SecurityEvent) {
	if !e.Listed {
		return
	}
	if l := s.liveOf(sess); l != nil && e.Critical && l.notices() {
		s.log.Warn("station reports a critical security event", slog.String("station", e.Station), slog.String("session", sess.ID()), slog.String("event", e.Type))
	}
	listed, _ := ocpp.FindSecurityEvent(e.Type)
	if listed.Name == ocpp.EventInvalidStationCertificate || listed.Name == ocpp.EventDiscardedRenewed {
		s.noteEvent(ctx, sess, listed.Name)
	}
}

// SecurityEvents returns a station's newest security events, newest first, and
// how many were not kept.
func (s *Service) SecurityEvents(ctx context.Context, identity string, limit int) ([]SecurityEvent, EventLosses, error) {
	st, err := s.Station(ctx, identity)
	if err != nil {
		return nil, EventLosses{}, err
	}
	list, err := s.store.SecurityEvents(ctx, keyOf(&st), limit)
	if err != nil {
		return nil, EventLosses{}, fmt.Errorf("couldn't read the security events of %q: %w", identity, err)
	}
	losses, err := s.store.EventLosses(ctx, keyOf(&st))
	if err != nil {
		return nil, EventLosses{}, fmt.Errorf("couldn't read the security events of %q: %w", identity, err)
	}
	return list, losses, nil
}

// cutText cuts to at most n characters.
func cutText(text string, n int) string {
	for i := range text {
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}
