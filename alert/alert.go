// Package alert tells people of findings: it keeps them, queues one alert for
// each receiver and delivers it, by webhook or syslog.
//
// It promises that an alert that was recorded is delivered at least once, in
// order, or counted as given up, whatever crashes in between; and that a
// receiver that is dead or slow holds up nobody and costs a bounded queue.
package alert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bollard/detect"
	"bollard/ledger"
)

// Bounds of what is kept.
const (
	AlertsKept      = 10_000 // that wait for one receiver
	FindingsKept    = 10_000 // of all stations and sources
	StationFindings = 200    // of one station; of all sources together, FindingsKept
	// noticesHeld is how many signs may wait to be looked at; what is more is
	// counted and lost: the door waits for nobody.
	noticesHeld = 4096
)

// Alert is one telling of a finding to one receiver.
type Alert struct {
	ID       int64 // rises with the order of queueing, never used twice; the store sets it
	Receiver string
	Body     []byte // what is sent: JSON of a Message
	QueuedAt time.Time
	Tries    int // answers that were no acceptance
}

// Message is what a receiver gets.
type Message struct {
	// ID is the same in every delivery of one telling: a receiver that has seen
	// it can throw a repetition away.
	ID           string         `json:"id"`
	Organisation string         `json:"organisation"`
	Test         bool           `json:"test,omitempty"`
	Finding      detect.Finding `json:"finding"`
}

// Queue is the state of one receiver's queue.
type Queue struct {
	Receiver string
	Waiting  int
	Oldest   time.Time // zero: none waits
	Lost     int       // given up so far
}

// Store keeps findings and alerts. Every write is durable, together with its
// ledger events, before the method returns, and all of it happens or none.
// Methods are safe for concurrent use.
type Store interface {
	// KeepFinding stores a finding, over an older telling of it, and queues its
	// alerts. Of a receiver's alerts the newest AlertsKept stay and the others
	// are counted as lost; of findings the newest stay. A finding about a
	// station that is not enrolled any more is dropped.
	KeepFinding(ctx context.Context, f detect.Finding, alerts []Alert, events ...ledger.Event) error
	// Findings returns the newest first, at most limit; of one station if it
	// isn't "".
	Findings(ctx context.Context, station string, limit int) ([]detect.Finding, error)
	// Alerts returns a receiver's queue, oldest first, at most limit.
	Alerts(ctx context.Context, receiver string, limit int) ([]Alert, error)
	RemoveAlert(ctx context.Context, id int64) error
	TriedAlert(ctx context.Context, id int64) error
	LoseAlert(ctx context.Context, id int64) error
	// KeepReceivers drops the queues of all receivers but these.
	KeepReceivers(ctx context.Context, receivers []string) error
	AlertQueues(ctx context.Context) ([]Queue, error)
}

// Receiver takes alerts. Send returns once it has the alert; the error wraps
// ErrRefused if it looked at it and won't have it.
type Receiver interface {
	Name() string
	Send(ctx context.Context, a Alert) error
}

// ErrRefused says that a receiver answered, and won't take the alert.
var ErrRefused = errors.New("the receiver refused it")

// Config of a Service.
type Config struct {
	Store        Store
	Receivers    []Receiver
	Minimum      detect.Criticality // of what receivers are told; "": warning
	Organisation string
	Clock        func() time.Time
	Log          *slog.Logger
	Observer     Observer // for metrics; may be nil
}

// Observer counts, for metrics. Names are of a fixed set.
type Observer interface {
	Found(f detect.Finding) // told first or anew
	Delivered(receiver string, err error)
	Missed(signs int) // that nobody could look at
}

// Service finds, keeps and tells.
type Service struct {
	cfg      Config
	log      *slog.Logger
	detector *detect.Detector
	signs    chan detect.Sign
	queues   map[string]*courier
	failing  sync.Mutex // guards failedAt
	failedAt time.Time
}

// New checks the configuration; Run does the work.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil {
		return nil, errors.New("alert needs a Store")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Minimum == "" {
		cfg.Minimum = detect.Warning
	}
	s := &Service{cfg: cfg, log: cfg.Log, detector: detect.New(), signs: make(chan detect.Sign, noticesHeld), queues: map[string]*courier{}}
	for _, r := range cfg.Receivers {
		if s.queues[r.Name()] != nil {
			return nil, fmt.Errorf("two alert receivers have the name %q", r.Name())
		}
		s.queues[r.Name()] = newCourier(s, r)
	}
	return s, nil
}

// Notice takes a sign from where nothing may wait: it is looked at soon.
func (s *Service) Notice(sign detect.Sign) {
	select {
	case s.signs <- sign:
	default:
		if s.cfg.Observer != nil {
			s.cfg.Observer.Missed(1)
		}
	}
}

// Record looks at a sign at once: what it completes is durable when Record
// returns nil. For signs whose sender is told that they were received.
func (s *Service) Record(ctx context.Context, sign detect.Sign) error {
	for _, f := range s.detector.Observe(sign, s.cfg.Clock()) {
		if err := s.keep(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// Forget drops the counts of a removed station.
func (s *Service) Forget(station string) { s.detector.Forget(station) }

// Run looks at signs and delivers alerts until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	names := make([]string, 0, len(s.queues))
	for name := range s.queues {
		names = append(names, name)
	}
	if err := s.cfg.Store.KeepReceivers(ctx, names); err != nil && ctx.Err() == nil {
		s.log.Warn("couldn't drop the alerts of receivers that are configured no more", slog.Any("err", err))
	}
	var couriers sync.WaitGroup
	defer couriers.Wait()
	for _, c := range s.queues {
		couriers.Go(func() { c.run(ctx) })
	}
	for {
		select {
		case sign := <-s.signs:
			s.take(ctx, sign)
		case <-ctx.Done():
			s.drain(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// drain looks at what was noticed before the end.
func (s *Service) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		select {
		case sign := <-s.signs:
			s.take(ctx, sign)
		default:
			return
		}
	}
}

// take is Record for signs nobody waits for.
func (s *Service) take(ctx context.Context, sign detect.Sign) {
	err := s.Record(ctx, sign)
	if err == nil || ctx.Err() != nil {
		return
	}
	now := s.cfg.Clock()
	s.failing.Lock()
	tell := now.Sub(s.failedAt) >= time.Minute
	if tell {
		s.failedAt = now
	}
	s.failing.Unlock()
	if tell {
		s.log.Error("couldn't record a finding; it is told again when its count has doubled", slog.Any("err", err))
	}
}

// keep records a finding and queues its alerts.
func (s *Service) keep(ctx context.Context, f detect.Finding) error {
	f.First, f.Last = f.First.UTC(), f.Last.UTC()
	var alerts []Alert
	if f.Criticality.AtLeast(s.cfg.Minimum) {
		body, err := json.Marshal(Message{ID: idOf(f), Organisation: s.cfg.Organisation, Finding: f})
		if err != nil {
			return fmt.Errorf("couldn't encode an alert: %w", err)
		}
		for name := range s.queues {
			alerts = append(alerts, Alert{Receiver: name, Body: body, QueuedAt: s.cfg.Clock()})
		}
	}
	if err := s.cfg.Store.KeepFinding(ctx, f, alerts, evidence(f)...); err != nil {
		return err
	}
	s.log.Warn("finding", slog.String("finding", f.Name), slog.String("criticality", string(f.Criticality)), slog.String("station", f.Station),
		slog.String("source", f.Source), slog.Int("count", f.Count), slog.String("reason", f.Reason))
	if s.cfg.Observer != nil {
		s.cfg.Observer.Found(f)
	}
	for _, c := range s.queues {
		c.wake()
	}
	return nil
}

// evidence of a finding, once an episode. The address of a source isn't put
// where nothing can be deleted.
func evidence(f detect.Finding) []ledger.Event {
	if f.Again {
		return nil
	}
	e := ledger.Event{Kind: "finding.raised", Subject: f.Station, Actor: "bollard",
		Data: map[string]string{"finding": f.Name, "criticality": string(f.Criticality), "reason": f.Reason}}
	if e.Subject == "" {
		e.Subject = "a source"
	}
	return []ledger.Event{e}
}

// idOf names one telling of a finding.
func idOf(f detect.Finding) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %d %d", f.Name, f.Station, f.Source, f.Reason, f.First.UnixNano(), f.Count))
	return hex.EncodeToString(sum[:16])
}

// Findings returns the newest first; of one station if it isn't "".
func (s *Service) Findings(ctx context.Context, station string, limit int) ([]detect.Finding, error) {
	return s.cfg.Store.Findings(ctx, station, limit)
}

// Queues returns the state of every configured receiver's queue.
func (s *Service) Queues(ctx context.Context) ([]Queue, error) {
	known, err := s.cfg.Store.AlertQueues(ctx)
	if err != nil {
		return nil, err
	}
	var list []Queue
	for _, r := range s.cfg.Receivers {
		q := Queue{Receiver: r.Name()}
		for _, k := range known {
			if k.Receiver == q.Receiver {
				q = k
			}
		}
		list = append(list, q)
	}
	return list, nil
}

// Test sends a test alert to one receiver, all of them if the name is "", past
// their queues, and returns what became of it by name.
func (s *Service) Test(ctx context.Context, name string) (map[string]error, error) {
	now := s.cfg.Clock().UTC()
	f := detect.Finding{Name: "test", Criticality: detect.Info, Count: 1, First: now, Last: now, Reason: "an operator asked for a test alert"}
	body, err := json.Marshal(Message{ID: idOf(f), Organisation: s.cfg.Organisation, Test: true, Finding: f})
	if err != nil {
		return nil, fmt.Errorf("couldn't encode an alert: %w", err)
	}
	results := map[string]error{}
	for _, r := range s.cfg.Receivers {
		if name != "" && r.Name() != name {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, sendPatience)
		results[r.Name()] = r.Send(ctx, Alert{Receiver: r.Name(), Body: body, QueuedAt: now})
		cancel()
	}
	return results, nil
}
