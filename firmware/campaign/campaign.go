// Package campaign brings a published release to a fleet, ring by ring.
//
// It promises that a station begins when its ring, its window and its site allow it
// and not before; that nothing begins after a halt, which only people end; and that
// each step is on disk before a station learns of it, so that a kill repeats none.
package campaign

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bollard/approval"
	"bollard/firmware/catalogue"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/internal/rollout"
	"bollard/internal/window"
	"bollard/ledger"
)

// Errors callers branch on.
var (
	ErrUnknown = errors.New("no such firmware rollout")
	ErrState   = errors.New("the firmware rollout is in another state")
	ErrNobody  = errors.New("no station is to be updated")
)

// Station is one that may be updated.
type Station struct {
	gate.Station
	Site, Group string
}

// Fleet is the stations that are enrolled, and those that are there.
type Fleet interface {
	Stations(ctx context.Context) ([]Station, error)
	// Station: ok is false if there is none any more.
	Station(ctx context.Context, key string) (st Station, ok bool, err error)
	// Session is the station's, if it may be sent CALLs now.
	Session(key string) (gate.Session, bool)
}

// Gate starts updates; *gate.Gate does.
type Gate interface {
	Fits(ctx context.Context, st gate.Station, e *catalogue.Entry) error
	Start(ctx context.Context, sess gate.Session, st gate.Station, o gate.Order) (job.Job, error)
	Jobs(ctx context.Context, station string) ([]job.Job, error) // newest first
	Open(station string) bool                                    // it has one that isn't over
	// Withdraw ends those of revoked releases, and of halted ones what wasn't sent.
	Withdraw(ctx context.Context, actor string) error
}

// Releases are those of a *catalogue.Catalogue.
type Releases interface {
	// Find looks one up by its ID, the beginning of it, or its version.
	Find(ctx context.Context, ref string) (catalogue.Entry, error)
	// Grant tells that enough people agreed to an action, for a ring or "".
	Grant(ctx context.Context, action catalogue.Action, e *catalogue.Entry, ring string) (approval.Grant, error)
}

// Store keeps rollouts. Every write is durable, together with its ledger events,
// before the method returns.
type Store interface {
	Rollouts(ctx context.Context, kind string) ([]rollout.Record, error) // newest first
	RolloutMembers(ctx context.Context, id string) ([]rollout.Member, error)
	// CondemnedJobs are the updates, whoever asked for them, whose stations condemned
	// a release.
	CondemnedJobs(ctx context.Context, release string) ([]job.Job, error)
	// PutReleaseRollout stores a rollout, new or known, and those of its members that
	// changed, and its release as move leaves it: all in one transaction.
	PutReleaseRollout(ctx context.Context, r rollout.Record, changed []rollout.Member, release string, move func(e *catalogue.Entry) ([]ledger.Event, error), events ...ledger.Event) error
}

// Config of a Service.
type Config struct {
	Store    Store
	Releases Releases
	Gate     Gate
	Fleet    Fleet
	// Windows are when a station may be updated; none: always.
	Windows func(st Station) window.Windows
	// Halted has people look at a rollout that a station's failure halted.
	Halted func(ctx context.Context, station string) error
	Clock  func() time.Time
	Log    *slog.Logger
}

// Service is safe for concurrent use.
type Service struct {
	cfg   Config
	poke  chan struct{}
	turns atomic.Pointer[map[string]turn] // by release
	watch atomic.Pointer[Watch]

	looking sync.Mutex // one look at a time

	condemned condemned

	mu      sync.Mutex
	active  map[string]*campaign // by ID; nil: to be read
	known   map[string]Station   // as of knownAt
	knownAt time.Time
}

// condemned are releases by their IDs, with the newest station that condemned each. It
// has a lock of its own: stations' messages wait for it.
type condemned struct {
	mu sync.Mutex
	by map[string]verdict
}

// verdict is that a station called a release's signature invalid.
type verdict struct {
	station string
	at      time.Time
}

func (c *condemned) add(j *job.Job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.by[j.Release].at.After(j.CondemnedAt) {
		c.by[j.Release] = verdict{j.Station, j.CondemnedAt}
	}
}

func (c *condemned) of(release string) (v verdict, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok = c.by[release]
	return v, ok
}

// drop forgets a verdict that halted its rollout, but no newer one.
func (c *condemned) drop(release string, heeded verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[release] == heeded {
		delete(c.by, release)
	}
}

// campaign is a rollout that isn't over.
type campaign struct {
	record rollout.Record
	detail detail
	run    *rollout.Run
	waves  map[string]int // of each member
	used   []ledger.Event // approvals of the ring that begins
	why    string         // somebody decided, until it is stored
	heeded verdict        // that halted it, until Turn knows
	told   int            // the ring whose missing approval was told
}

// opening is the first ring with stations.
func (c *campaign) opening() int {
	first := len(c.detail.Rings)
	for _, wave := range c.waves {
		first = min(first, wave)
	}
	return first
}

// detail is what a rollout is about.
type detail struct {
	Release string        `json:"release"`
	Digest  string        `json:"digest"` // of the record
	Version string        `json:"version"`
	Rings   []string      `json:"rings"` // names of the waves
	Jitter  time.Duration `json:"jitter"`
	By      string        `json:"by"`
	// Heeded is when the newest station condemned the release whose word halted this: a
	// restart reads those after it alone, or it would undo what people decided.
	Heeded time.Time `json:"heeded,omitzero"`
}

// turn is what the gate asks about a release.
type turn struct {
	halted bool
	wave   int
	waves  map[string]int
}

// New needs all of Config but Clock and Log. From then on Turn goes by what is stored.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Releases == nil || cfg.Gate == nil || cfg.Fleet == nil || cfg.Windows == nil || cfg.Halted == nil {
		return nil, errors.New("firmware rollouts need Store, Releases, Gate, Fleet, Windows and Halted")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, poke: make(chan struct{}, 1), condemned: condemned{by: map[string]verdict{}}}
	s.turns.Store(&map[string]turn{})
	s.watch.Store(&Watch{})
	return s, s.load(ctx)
}

// kind marks the Service's rollouts in the store.
const kind = "firmware"

// lookEvery is how often rollouts are looked at while a server runs, beside what the
// end of an update makes them.
const lookEvery = 5 * time.Second

// Run looks at the rollouts until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := s.Look(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Error("couldn't go on with a firmware rollout; it is tried again", slog.Any("err", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.poke:
		}
	}
}

// Over takes the end of an update (gate.Config.Over): what condemns its release halts
// the rollout before anybody else begins.
func (s *Service) Over(j job.Job) {
	if condemns(&j) {
		s.condemned.add(&j)
	} else if j.SentSHA256 == "" { // nothing came of it
		return
	}
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// Turn says why a station whose back end asks for a release has to wait
// (gate.Config.Turn).
func (s *Service) Turn(release, station string) gate.Block {
	t, ok := (*s.turns.Load())[release]
	wave, member := t.waves[station]
	_, condemned := s.condemned.of(release)
	switch {
	case !ok:
		return ""
	case t.halted || condemned:
		return gate.OnHold
	case member && wave > t.wave:
		return gate.Ring
	}
	return ""
}

// Watch is how the rollouts that aren't over stand, for metrics.
type Watch struct {
	Rollouts map[rollout.Phase]int
	Stations map[rollout.State]int
}

// Watch is as of the last look or decision; it waits for neither.
func (s *Service) Watch() Watch { return *s.watch.Load() }

// publish tells the gate and the metrics where the rollouts are.
func (s *Service) publish() {
	turns, w := map[string]turn{}, Watch{Rollouts: map[rollout.Phase]int{}, Stations: map[rollout.State]int{}}
	for _, c := range s.active {
		h := c.run.Header()
		if h.Phase.Over() {
			continue
		}
		turns[c.detail.Release] = turn{halted: h.Phase != rollout.Running, wave: h.Wave, waves: c.waves}
		w.Rollouts[h.Phase]++
		for state, n := range c.run.Count() {
			w.Stations[state] += n
		}
	}
	s.turns.Store(&turns)
	s.watch.Store(&w)
}

// load reads the rollouts that aren't over, and those with stations still at work.
func (s *Service) load(ctx context.Context) error {
	if s.active != nil {
		return nil
	}
	records, err := s.cfg.Store.Rollouts(ctx, kind)
	if err != nil {
		return err
	}
	active := map[string]*campaign{}
	for _, record := range records {
		// What ended long ago has nobody at work any more.
		if record.Header.Phase.Over() && s.cfg.Clock().Sub(record.Header.WaveAt) > 2*record.Header.Rules.Patience {
			continue
		}
		c, err := s.read(ctx, record)
		if err != nil {
			return err
		}
		if !record.Header.Phase.Over() || len(c.run.AtWork()) > 0 {
			active[record.ID] = c
		}
		if err := s.recall(ctx, c); err != nil {
			return err
		}
	}
	s.active = active
	s.publish()
	return nil
}

// recall takes up what stations said of a rollout's release that hasn't halted it yet.
func (s *Service) recall(ctx context.Context, c *campaign) error {
	if c.record.Header.Phase.Over() {
		return nil
	}
	list, err := s.cfg.Store.CondemnedJobs(ctx, c.detail.Release)
	if err != nil {
		return err
	}
	for _, j := range list {
		if j.CondemnedAt.After(c.record.At) && j.CondemnedAt.After(c.detail.Heeded) {
			s.condemned.add(&j)
		}
	}
	return nil
}

func (s *Service) read(ctx context.Context, record rollout.Record) (*campaign, error) {
	c := &campaign{record: record, waves: map[string]int{}}
	if err := json.Unmarshal(record.Detail, &c.detail); err != nil {
		return nil, fmt.Errorf("firmware rollout %s is unreadable; restore the database from the backup: %w", record.ID, err)
	}
	members, err := s.cfg.Store.RolloutMembers(ctx, record.ID)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		c.waves[m.ID] = m.Wave
	}
	c.run = rollout.Load(record.Header, members)
	return c, nil
}

// find looks a rollout up: that of a release, the newest if it had several.
func (s *Service) find(ctx context.Context, release string) (*campaign, error) {
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	e, err := s.cfg.Releases.Find(ctx, release)
	if err != nil {
		return nil, err
	}
	records, err := s.cfg.Store.Rollouts(ctx, kind)
	if err != nil {
		return nil, err
	}
	for _, record := range records {
		if c := s.active[record.ID]; c != nil {
			if c.detail.Release == e.Release.ID {
				return c, nil
			}
			continue
		}
		c, err := s.read(ctx, record)
		if err != nil {
			return nil, err
		}
		if c.detail.Release == e.Release.ID {
			return c, nil
		}
	}
	return nil, fmt.Errorf("release %s: %w", e.Release.ID, ErrUnknown)
}

// newID is short enough to be typed.
func newID() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// condemns says whether the end of one update says that no station should get its
// release: key, image or model are wrong.
func condemns(j *job.Job) bool {
	return !j.CondemnedAt.IsZero()
}

// ringOf names a wave.
func (c *campaign) ringOf(wave int) string {
	p := Progress{Rings: c.detail.Rings}
	return p.Ring(wave)
}

// fact cuts a text for the ledger.
func fact(text string) string {
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "")
	}
	return text
}

// own are the updates of a rollout among a station's, newest first.
func own(list []job.Job, id string) []job.Job {
	return slices.DeleteFunc(slices.Clone(list), func(j job.Job) bool { return j.Rollout != id })
}
