// Package warden stands in front of the services that guard messages and lets
// policy decide first.
//
// It promises that a message policy refuses reaches neither the other side nor a
// service, that every decision but a plain pass is recorded and counted by its
// rule, without a word of the message, and that new rules are in force for live
// sessions at once, or not at all.
package warden

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/detect"
	"bollard/fleet"
	"bollard/internal/tally"
	"bollard/ledger"
	"bollard/ocpp"
	"bollard/policy"
)

// Guard is who judges what policy let pass; *fleet.Service is one.
type Guard interface {
	Interest(v ocpp.Version, d ocpp.Direction, action string) bool
	Opened(s fleet.Session)
	Message(ctx context.Context, s fleet.Session, m fleet.Message) fleet.Verdict
	Answered(ctx context.Context, s fleet.Session, call fleet.Message, answer ocpp.Head) (then func())
	Closed(s fleet.Session)
}

// Config of a Warden.
type Config struct {
	Next  Guard
	Rules *policy.Set
	// Record writes a decision to the ledger, durably.
	Record func(ctx context.Context, e ledger.Event) error
	// Anchors are the roots a back end may have installed, as policy.Input has them.
	Anchors func(ctx context.Context) (map[string][]string, error)
	// Group is the one whose wants hold for a station; nil: none has one.
	Group func(ctx context.Context, s fleet.Session) string
	// Transactions keeps whose the running transactions are; nil: nobody does.
	Transactions TransactionStore
	// Notice takes a sign for whoever looks for attacks, and returns at once; nil:
	// nobody does.
	Notice func(detect.Sign)
	// Traffic takes every message that is judged, for a recording; nil: nobody
	// wants it. With it every message is judged.
	Traffic func(in *policy.Input)
	Zone    *time.Location // in which rules tell hours; nil: UTC
	Clock   func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Warden is a gateway's Guard.
type Warden struct {
	cfg      Config
	set      atomic.Pointer[policy.Set]
	counters *policy.Counters
	notes    *tally.Tally[noteKey]
	outcomes *prometheus.CounterVec // rule, outcome
	key      []byte                 // of the digests of held messages

	mu           sync.Mutex
	boots        map[string]policy.Boot // by session
	transactions transactions
	held         map[string]*Held // by id
	shadow       map[string]int   // hits by rule, since the start
	logged       map[string]time.Time
}

// noteKey is one kind of decision, for the ledger.
type noteKey struct {
	kind, station, rule, action string
	direction                   ocpp.Direction
}

// New needs Next, Rules and Record.
func New(ctx context.Context, cfg Config) (*Warden, error) {
	if cfg.Next == nil || cfg.Rules == nil || cfg.Record == nil {
		return nil, errors.New("warden needs Next, Rules and Record")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Zone == nil {
		cfg.Zone = time.UTC
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	w := &Warden{
		cfg: cfg, counters: policy.NewCounters(), notes: tally.New[noteKey](),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bollard_policy_decisions_total",
			Help: "Messages a policy rule decided about, or would have in shadow."}, []string{"rule", "outcome"}),
		key: make([]byte, 32), boots: map[string]policy.Boot{}, held: map[string]*Held{},
		shadow: map[string]int{}, logged: map[string]time.Time{},
	}
	_, _ = rand.Read(w.key) // never fails (crypto/rand)
	if err := cfg.Metrics.Register(w.outcomes); err != nil {
		return nil, fmt.Errorf("couldn't register the policy metric: %w", err)
	}
	if err := w.loadTransactions(ctx); err != nil {
		return nil, err
	}
	w.set.Store(cfg.Rules)
	return w, nil
}

// Use puts another set of rules in force. Counts and held messages go on. The
// gateway must be told to reconsider what it asks about.
func (w *Warden) Use(set *policy.Set) { w.set.Store(set) }

// Rules in force.
func (w *Warden) Rules() *policy.Set { return w.set.Load() }

// Run writes down counts of repeated decisions until ctx ends.
func (w *Warden) Run(ctx context.Context) error {
	tally.Run(ctx, time.Second, w.Flush)
	return nil
}

// Flush writes down the counts whose time has come, or all, and what began or
// ended meanwhile.
func (w *Warden) Flush(ctx context.Context, all bool) {
	w.keepTransactions(ctx)
	w.notes.Flush(w.cfg.Clock(), all, w.write(ctx))
}

// Interest is policy's, the recording's and that of who comes next.
func (w *Warden) Interest(v ocpp.Version, d ocpp.Direction, action string) bool {
	set := w.set.Load()
	return w.cfg.Traffic != nil || set.Interest(v, d, action) || w.cfg.Next.Interest(v, d, action) ||
		v == ocpp.V16 && d == ocpp.FromStation && action == startTransaction && set.Reads("transaction.owner")
}

// Opened begins a session.
func (w *Warden) Opened(s fleet.Session) {
	w.setBoot(s, policy.BootNone)
	w.cfg.Next.Opened(s)
}

// Closed forgets it.
func (w *Warden) Closed(s fleet.Session) {
	w.mu.Lock()
	delete(w.boots, s.ID())
	w.mu.Unlock()
	w.cfg.Next.Closed(s)
}

// Message lets policy decide, then who comes next.
func (w *Warden) Message(ctx context.Context, s fleet.Session, m fleet.Message) fleet.Verdict {
	set := w.set.Load()
	in := w.input(ctx, s, m)
	if w.cfg.Traffic != nil {
		w.cfg.Traffic(&in)
	}
	d := set.Decide(in)
	w.note(ctx, s, &in, &d)
	if d.Act != policy.Pass {
		v := fleet.Verdict{Act: fleet.Refuse, Code: d.Code, Reason: d.Rule + ": " + d.Reason}
		if d.Answer != nil {
			v.Act, v.Payload = fleet.Answer, d.Answer
		}
		return v
	}
	if d.Rewritten != nil {
		m.Payload, m.Head.Payload = d.Rewritten, d.Rewritten
	}
	v := fleet.Verdict{Act: fleet.Pass}
	if w.cfg.Next.Interest(s.Version(), m.Direction, m.Action) {
		v = w.cfg.Next.Message(ctx, s, m)
	}
	if v.Act == fleet.Pass && v.Later == nil {
		if v.Rewrite == nil { // who comes next rewrote what policy did already
			v.Rewrite = d.Rewritten
		}
		v.Watch = w.passed(s, set, m) || v.Watch
	}
	return v
}

// passed follows what a message begins, and says whether its answer is needed.
func (w *Warden) passed(s fleet.Session, set *policy.Set, m fleet.Message) (watch bool) {
	if m.Direction != ocpp.FromStation {
		return false
	}
	switch m.Action {
	case ocpp.ActionBootNotification:
		w.setBoot(s, policy.BootAsked)
		return true
	case startTransaction, stopTransaction:
		return s.Version() == ocpp.V16 && set.Reads("transaction.owner")
	case transactionEvent:
		if set.Reads("transaction.owner") {
			w.transactionTold(s, m)
		}
	}
	return false
}

// Answered learns from answers what later decisions need.
func (w *Warden) Answered(ctx context.Context, s fleet.Session, call fleet.Message, answer ocpp.Head) (then func()) {
	switch call.Action {
	case startTransaction, stopTransaction:
		w.transactionAnswered(s, call, answer)
		return nil // nobody else asked
	case ocpp.ActionBootNotification:
		var response ocpp.BootNotificationResponse
		if answer.Type == ocpp.CallResult && ocpp.DecodeStrict(answer.Payload, &response) == nil {
			switch response.Status {
			case ocpp.StatusAccepted:
				w.setBoot(s, policy.BootAccepted)
			case ocpp.StatusPending:
				w.setBoot(s, policy.BootPending)
			default:
				w.setBoot(s, policy.BootRejected)
			}
		}
	}
	return w.cfg.Next.Answered(ctx, s, call, answer)
}

func (w *Warden) setBoot(s fleet.Session, b policy.Boot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.boots[s.ID()] = b
}

// input is what policy may know of a message.
func (w *Warden) input(ctx context.Context, s fleet.Session, m fleet.Message) policy.Input {
	adm := s.Admission()
	st := &adm.Station
	_, signed := m.Head.BaseAction()
	w.mu.Lock()
	boot := w.boots[s.ID()]
	w.mu.Unlock()
	return policy.Input{
		Version: s.Version(), Direction: m.Direction, Action: m.Action, Signed: signed, Payload: m.Payload,
		Station: policy.Station{Identity: st.Identity, Serial: st.Serial, Vendor: st.Vendor, Model: st.Model, Profile: adm.Profile},
		Backend: s.Backend(), BackendSecurity: string(s.Security()), Boot: boot,
		Now: w.cfg.Clock().In(w.cfg.Zone), Counters: w.counters,
		Anchors: func() map[string][]string {
			if w.cfg.Anchors == nil {
				return nil
			}
			known, err := w.cfg.Anchors(ctx)
			if err != nil { // none is trusted then
				w.cfg.Log.Warn("couldn't read the trusted roots", "station", keyOf(s), "err", err)
			}
			return known
		},
		Group: func() string {
			if w.cfg.Group == nil {
				return ""
			}
			return w.cfg.Group(ctx, s)
		},
		Owner:    func(id string) policy.Owner { return w.owner(s, id) },
		Released: w.release,
	}
}

// keyOf is the station's key, by which the ledger knows it.
func keyOf(s fleet.Session) string {
	adm := s.Admission()
	id, err := ocpp.ParseIdentity(adm.Station.Identity)
	if err != nil {
		return adm.Station.Identity // what was enrolled before is still told apart
	}
	return id.Key()
}

// note counts, records and tells what policy decided.
func (w *Warden) note(ctx context.Context, s fleet.Session, in *policy.Input, d *policy.Decision) {
	outcome := d.Outcome()
	if d.Rule != "" {
		w.outcomes.WithLabelValues(d.Rule, outcome).Inc()
	}
	for _, rule := range d.Rewrites {
		w.outcomes.WithLabelValues(rule, outcome).Inc()
		w.record(ctx, s, in, "policy.rewritten", rule, "rewritten")
	}
	if d.Act != policy.Pass && w.cfg.Notice != nil {
		kind := detect.Overruled
		if in.Direction == ocpp.FromStation {
			kind = detect.BadMessage
		}
		w.cfg.Notice(detect.Sign{Kind: kind, Station: keyOf(s), Live: true})
	}
	switch d.Act {
	case policy.Refuse:
		w.record(ctx, s, in, "policy.refused", d.Rule, d.Reason)
	case policy.Hold:
		w.hold(s, in, d)
		w.record(ctx, s, in, "policy.held", d.Rule, d.Reason)
	}
	for _, hit := range d.Shadow {
		w.shadowed(s, in, hit)
	}
}

// shadowPause is the shortest time between two log lines about one rule in shadow.
const shadowPause = 10 * time.Minute

// shadowed counts what a rule in shadow would have done.
func (w *Warden) shadowed(s fleet.Session, in *policy.Input, hit policy.Hit) {
	w.outcomes.WithLabelValues(hit.Rule, "shadow").Inc()
	now := w.cfg.Clock()
	w.mu.Lock()
	w.shadow[hit.Rule]++
	hits := w.shadow[hit.Rule]
	last, told := w.logged[hit.Rule]
	quiet := told && now.Sub(last) < shadowPause
	if !quiet {
		w.logged[hit.Rule] = now
	}
	w.mu.Unlock()
	if !quiet {
		w.cfg.Log.Info("a rule in shadow would have acted", "rule", hit.Rule, "then", hit.Then, "station", keyOf(s),
			"direction", in.Direction.String(), "hits", hits)
	}
}

// ShadowHits of a rule since the start.
func (w *Warden) ShadowHits(rule string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shadow[rule]
}

// record writes a decision down: the first of its kind at once, then counts.
func (w *Warden) record(ctx context.Context, s fleet.Session, in *policy.Input, kind, rule, reason string) {
	action := in.Action
	if _, known := ocpp.FindAction(action); !known {
		action = "unknown" // text of a peer
	}
	key := noteKey{kind, keyOf(s), rule, action, in.Direction}
	w.notes.Tell(key, reason, w.cfg.Clock(), w.write(ctx))
}

func (w *Warden) write(ctx context.Context) func(noteKey, tally.Count) error {
	return func(key noteKey, n tally.Count) error {
		err := w.cfg.Record(ctx, ledger.Event{Kind: key.kind, Subject: key.station, Actor: "bollard", Data: map[string]string{
			"rule": key.rule, "action": key.action, "direction": key.direction.String(), "reason": n.Text, "count": strconv.Itoa(n.Count),
		}})
		if err != nil && ctx.Err() == nil {
			w.cfg.Log.Warn("couldn't record a policy decision; it is tried again", "station", key.station, "rule", key.rule, "err", err)
		}
		return err
	}
}

// digest names a message without telling what is in it.
func (w *Warden) digest(rule string, message []byte) string {
	mac := hmac.New(sha256.New, w.key)
	_, _ = mac.Write([]byte(rule + "\x00")) // a hash takes everything
	_, _ = mac.Write(message)
	return fmt.Sprintf("%x", mac.Sum(nil)[:6])
}
