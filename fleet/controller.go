package fleet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"bollard/detect"
	"bollard/internal/failpoint"
	"bollard/internal/rollout"
	"bollard/ledger"
)

// Errors of the controller that callers branch on.
var (
	ErrUnknownGroup   = errors.New("no such group")
	ErrUnknownRollout = errors.New("no such rollout")
	ErrRolloutState   = errors.New("the rollout is in another state")
	ErrNothingToDo    = errors.New("nothing is to be changed")
)

// RolloutStore keeps rollouts. Its methods are bound as Store's are.
type RolloutStore interface {
	rollout.Store
	// PutRollout stores a rollout, new or known, and those of its members that
	// changed, all in one transaction.
	PutRollout(ctx context.Context, r rollout.Record, changed []rollout.Member, events ...ledger.Event) error
}

// ControllerStore is what the Controller keeps.
type ControllerStore interface {
	RolloutStore
	Groups(ctx context.Context) ([]Group, error) // by name
	PutGroup(ctx context.Context, g Group, events ...ledger.Event) error
	// RemoveGroup: ErrUnknownGroup if there is none.
	RemoveGroup(ctx context.Context, name string, events ...ledger.Event) error
	// Plans returns what is recorded of all stations' plans, by station key.
	Plans(ctx context.Context) (map[string]Plan, error)
}

// kindFleet marks the Controller's rollouts.
const kindFleet = "fleet"

// detail is what a rollout of the fleet is about.
type detail struct {
	Wanted           // as it was when it was decided
	Group   string   `json:"group,omitempty"`
	Station string   `json:"station,omitempty"`
	Only    []Change `json:"only,omitempty"`
	Renew   bool     `json:"renew,omitempty"`
	By      string   `json:"by"`
}

// Controller brings groups of stations to what is wanted of them, by rollouts.
// It keeps no state of its own that isn't stored: a kill loses nothing.
type Controller struct {
	service *Service
	store   ControllerStore

	mu   sync.Mutex // of all of book but its Watch
	book *rollout.Book[*activeRollout]
}

type activeRollout struct {
	record rollout.Record
	detail detail
	run    *rollout.Run
}

func (r *activeRollout) ID() string          { return r.record.ID }
func (r *activeRollout) State() *rollout.Run { return r.run }

// NewController returns the controller of a service's stations.
func NewController(s *Service, store ControllerStore) *Controller {
	return &Controller{service: s, store: store, book: rollout.NewBook(kindFleet, store, func(record rollout.Record, run *rollout.Run) (*activeRollout, error) {
		r := &activeRollout{record: record, run: run}
		return r, json.Unmarshal(record.Detail, &r.detail)
	})}
}

// Run looks at the rollouts until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	ticker := time.NewTicker(rollout.LookEvery)
	defer ticker.Stop()
	rollout.Drive(ctx, ticker.C, nil, c.Look, func(err error) {
		c.service.log.Error("couldn't go on with a rollout; it is tried again", slog.Any("err", err))
	})
	return nil
}

// Look takes every rollout one step further: what began is judged, what is due
// begins.
func (c *Controller) Look(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.book.Load(ctx); err != nil {
		return err
	}
	if c.service.cfg.Authority.CheckClock(ctx) != nil {
		// What it would begin or set right would be late once the clock is right, and what a
		// renewal is to renew would count as new.
		c.book.Count()
		return nil
	}
	present := c.present()
	for _, r := range c.book.Open() {
		if err := c.step(ctx, r, present); err != nil {
			c.book.Forget()
			return fmt.Errorf("rollout %s: %w", r.record.ID, err)
		}
	}
	c.book.Count()
	return nil
}

// Watch is as of the last look or decision; it waits for neither.
func (c *Controller) Watch() rollout.Watch { return c.book.Watch() }

// present tells which stations can be asked for something now.
func (c *Controller) present() func(id string) bool {
	ready := map[string]bool{}
	for _, l := range c.service.allLive() {
		if l.isReady() {
			ready[l.key] = true
		}
	}
	return func(id string) bool { return ready[id] }
}

// step is one look at one rollout. A station's wants are withdrawn before its
// failure is on disk, and released after its beginning is: a kill anywhere
// repeats a step and skips none.
func (c *Controller) step(ctx context.Context, r *activeRollout, present func(string) bool) error {
	now := c.service.clock()
	if r.record.At.After(now) { // by a clock that was ahead: each renewed certificate would be too old
		r.record.At = now
	}
	var failed []rollout.Member
	// 1. What became of those at work.
	for _, m := range r.run.AtWork() {
		state, note, err := c.judge(ctx, r, m.ID)
		if err != nil {
			return err
		}
		r.run.Settle(m.ID, state, note, now)
		if state == rollout.Failed {
			m.Note = note
			failed = append(failed, m)
		}
	}
	// 2. Time, limits, waves.
	failed = append(failed, r.run.Look(now, present)...)
	for _, m := range failed {
		if err := c.withdraw(ctx, r, m); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		failpoint.Hit("fleet.rollout-withdrawn")
	}
	// 3. Those whose turn it is.
	begun := r.run.Begin(now, present)
	if err := c.keep(ctx, r, "bollard", failed); err != nil {
		return err
	}
	if len(begun) > 0 {
		failpoint.Hit("fleet.rollout-begun")
	}
	for _, m := range begun {
		if err := c.release(ctx, r, m.ID); err != nil {
			return err
		}
		failpoint.Hit("fleet.rollout-released")
	}
	c.book.Close(r)
	return nil
}

// aimOf is what a rollout wants of a station, by what was wanted when it was
// decided.
func (r *activeRollout) aimOf(st *Station) aim {
	a := aim{only: r.detail.Only}
	a.wants, _, _ = r.detail.of(st)
	if r.detail.Renew {
		a.since = r.record.At
	}
	return a
}

func (c *Controller) judge(ctx context.Context, r *activeRollout, key string) (rollout.State, string, error) {
	st, plan, err := c.service.recordOf(ctx, key)
	if errors.Is(err, ErrUnknownStation) {
		return rollout.Failed, "station was removed", nil
	}
	if err != nil {
		return "", "", err
	}
	a := r.aimOf(&st)
	if plan.Rollout != r.record.ID { // a kill came between its beginning and its release
		return rollout.Begun, "", c.service.release(ctx, r.record.ID, key, &a)
	}
	return c.service.reached(ctx, &st, &plan, &a)
}

func (c *Controller) release(ctx context.Context, r *activeRollout, key string) error {
	st, err := c.service.store.Station(ctx, key)
	if err == nil {
		a := r.aimOf(&st)
		err = c.service.release(ctx, r.record.ID, key, &a)
	}
	if errors.Is(err, ErrUnknownStation) {
		return nil // judged next time
	}
	return err
}

func (c *Controller) withdraw(ctx context.Context, r *activeRollout, m rollout.Member) error {
	st, err := c.service.store.Station(ctx, m.ID)
	if err == nil {
		a := r.aimOf(&st)
		err = c.service.withdraw(ctx, r.record.ID, m.ID, m.Note, &a)
	}
	if errors.Is(err, ErrUnknownStation) {
		return nil
	}
	return err
}

// keep stores what changed of a rollout, with what of it is evidence.
func (c *Controller) keep(ctx context.Context, r *activeRollout, actor string, failed []rollout.Member, events ...ledger.Event) error {
	before := r.record.Header
	header, members, changed := r.run.Changes()
	if !changed {
		return nil
	}
	for _, m := range failed {
		events = append(events, ledger.Event{Kind: "fleet.failed", Subject: m.ID, Actor: actor,
			Data: map[string]string{"rollout": r.record.ID, "reason": fact(m.Note)}})
	}
	if header.Phase != before.Phase || header.Wave != before.Wave {
		data := map[string]string{"phase": string(header.Phase), "wave": strconv.Itoa(header.Wave + 1)}
		if header.Why != "" {
			data["reason"] = fact(header.Why)
		}
		events = append(events, ledger.Event{Kind: "fleet.rollout", Subject: r.record.ID, Actor: actor, Data: data})
	}
	if header.Phase == rollout.Halted && before.Phase != rollout.Halted {
		c.service.log.Warn("rollout halted", slog.String("rollout", r.record.ID), slog.String("reason", header.Why))
		// Told before it is on disk: a kill in between tells it again.
		if n := len(failed); n > 0 {
			if err := c.service.watcher.Record(ctx, detect.Sign{Kind: detect.RolloutHalted, Station: failed[n-1].ID}); err != nil {
				return fmt.Errorf("couldn't tell that it halted: %w", err)
			}
		}
	}
	r.record.Header = header
	return c.store.PutRollout(ctx, r.record, members, events...)
}

// newRolloutID is short enough to be typed.
func newRolloutID() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
