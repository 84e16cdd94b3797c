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
	// Grant tells that enough people agreed to an action, for a ring of a rollout
	// (catalogue.OfRollout) or "".
	Grant(ctx context.Context, action catalogue.Action, e *catalogue.Entry, what string) (approval.Grant, error)
}

// Store keeps rollouts. Every write is durable, together with its ledger events,
// before the method returns.
type Store interface {
	rollout.Store
	// CondemnedJobs are the updates, whoever asked for them, whose stations condemned
	// a release.
	CondemnedJobs(ctx context.Context, release string) ([]job.Job, error)
	// Floor is the newest that a station was seen to run of a component.
	Floor(ctx context.Context, station, component string) (job.Floor, error)
	// Limits are those of the grid that stations told of; PutLimits keeps them, and drops
	// those that ended.
	Limits(ctx context.Context) ([]Limit, error)
	PutLimits(ctx context.Context, put, ended []Limit) error
	// PutReleaseRollouts stores steps of rollouts of a release, and the release as move
	// leaves it: all in one transaction.
	PutReleaseRollouts(ctx context.Context, steps []rollout.Step, release string, move func(e *catalogue.Entry) ([]ledger.Event, error), events ...ledger.Event) error
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
	// Changed is told that Interest may say something else from now on. May be nil.
	Changed func()
	Clock   func() time.Time
	// CheckClock fails while Clock is behind what is on record: rollouts wait. nil: it never is.
	CheckClock func(ctx context.Context) error
	Log        *slog.Logger
}

// Service is safe for concurrent use.
type Service struct {
	cfg   Config
	poke  chan struct{}
	turns atomic.Pointer[map[string][]turn] // by release

	looking sync.Mutex // one look at a time

	condemned condemned
	soaks     atomic.Bool // signs count
	seen      seen
	grid      grid

	mu      sync.Mutex // of book, but for its Watch
	book    *rollout.Book[*campaign]
	known   map[string]Station // as of knownAt
	knownAt time.Time
	at      sites // as of the last look
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

// ID and State make it a rollout.Entry.
func (c *campaign) ID() string          { return c.record.ID }
func (c *campaign) State() *rollout.Run { return c.run }

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
	Terms   string        `json:"terms,omitempty"` // the plan, as people approved it
	Rings   []string      `json:"rings"`           // names of the waves
	Jitter  time.Duration `json:"jitter"`
	// SiteShare is how many of a site's stations may be at work at once; 0: any.
	SiteShare float64 `json:"site_share,omitempty"`
	By        string  `json:"by"`
	// Heeded is when the newest station condemned the release whose word halted this: a
	// restart reads those after it alone, or it would undo what people decided.
	Heeded time.Time `json:"heeded,omitzero"`
}

// turn is what the gate asks about a rollout of a release.
type turn struct {
	halted bool
	wave   int
	waves  map[string]int
}

// New needs all of Config but Clock, CheckClock and Log. From then on Turn goes by what is stored.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Releases == nil || cfg.Gate == nil || cfg.Fleet == nil || cfg.Windows == nil || cfg.Halted == nil {
		return nil, errors.New("firmware rollouts need Store, Releases, Gate, Fleet, Windows and Halted")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.CheckClock == nil {
		cfg.CheckClock = func(context.Context) error { return nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	s := &Service{cfg: cfg, poke: make(chan struct{}, 1), condemned: condemned{by: map[string]verdict{}}, book: rollout.NewBook(kind, cfg.Store, made)}
	s.turns.Store(&map[string][]turn{})
	if err := s.loadGrid(ctx); err != nil {
		return nil, err
	}
	return s, s.load(ctx)
}

// kind marks the Service's rollouts in the store.
const kind = "firmware"

// Run looks at the rollouts until ctx ends, and as soon as an update has.
func (s *Service) Run(ctx context.Context) error {
	ticker := time.NewTicker(rollout.LookEvery)
	defer ticker.Stop()
	rollout.Drive(ctx, ticker.C, s.poke, s.Look, func(err error) {
		s.cfg.Log.Error("couldn't go on with a firmware rollout; it is tried again", slog.Any("err", err))
	})
	return nil
}

// Over takes the end of an update (gate.Config.Over): what condemns its release halts
// the rollout before anybody else begins.
func (s *Service) Over(j job.Job) {
	if condemns(&j) {
		s.condemned.add(&j)
	} else if j.SentSHA256 == "" { // nothing came of it
		return
	}
	s.wake()
}

// Turn says why a station whose back end asks for a release has to wait
// (gate.Config.Turn).
func (s *Service) Turn(release, station string) gate.Block {
	_, condemned := s.condemned.of(release)
	for _, t := range (*s.turns.Load())[release] {
		switch wave, member := t.waves[station]; {
		case t.halted || condemned:
			return gate.OnHold
		case member && wave > t.wave:
			return gate.Ring
		}
	}
	return ""
}

// Watch is as of the last look or decision; it waits for neither.
func (s *Service) Watch() rollout.Watch { return s.book.Watch() }

// publish tells the gate and the metrics where the rollouts are.
func (s *Service) publish() {
	turns, soaks := map[string][]turn{}, false
	for _, c := range s.book.Open() {
		if h := c.run.Header(); !h.Phase.Over() {
			turns[c.detail.Release] = append(turns[c.detail.Release], turn{halted: h.Phase != rollout.Running, wave: h.Wave, waves: c.waves})
			soaks = soaks || c.run.Soaks()
		}
	}
	s.turns.Store(&turns)
	s.book.Count()
	if s.soaks.Swap(soaks) != soaks {
		s.seen.forget()
		s.cfg.Changed()
	}
}

// load reads the rollouts that aren't over, and those with stations still at work.
func (s *Service) load(ctx context.Context) error {
	read, err := s.book.Load(ctx)
	if err != nil || !read {
		return err
	}
	for _, c := range s.book.Open() {
		if err := s.recall(ctx, c); err != nil {
			s.book.Forget()
			return err
		}
	}
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
		if j.CondemnedAt.After(c.detail.Heeded) {
			s.condemned.add(&j)
		}
	}
	return nil
}

// made is a rollout as it was stored.
func made(record rollout.Record, run *rollout.Run) (*campaign, error) {
	c := &campaign{record: record, run: run, waves: map[string]int{}}
	for _, m := range run.Members() {
		c.waves[m.ID] = m.Wave
	}
	return c, json.Unmarshal(record.Detail, &c.detail)
}

// find looks up the rollouts of a release: those that aren't over, newest first, or else
// its newest.
func (s *Service) find(ctx context.Context, release string) ([]*campaign, error) {
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	e, err := s.cfg.Releases.Find(ctx, release)
	if err != nil {
		return nil, err
	}
	records, err := s.records(ctx, e.Release.ID)
	if err != nil {
		return nil, err
	}
	var list []*campaign
	for _, record := range records {
		if c := s.book.Open()[record.ID]; c != nil && !c.run.Header().Phase.Over() {
			list = append(list, c)
		}
	}
	switch {
	case len(list) > 0:
		return list, nil
	case len(records) == 0:
		return nil, fmt.Errorf("release %s: %w", e.Release.ID, ErrUnknown)
	}
	c, err := s.book.Entry(ctx, records[0])
	return []*campaign{c}, err
}

// records are the rollouts of a release, newest first.
func (s *Service) records(ctx context.Context, release string) ([]rollout.Record, error) {
	list, err := s.book.Records(ctx)
	if err != nil {
		return nil, err
	}
	var of []rollout.Record
	for _, record := range list {
		d, err := about(&record)
		if err != nil {
			return nil, err
		}
		if d.Release == release {
			of = append(of, record)
		}
	}
	return of, nil
}

// about is what a rollout is about.
func about(record *rollout.Record) (d detail, err error) {
	if err := json.Unmarshal(record.Detail, &d); err != nil {
		return d, fmt.Errorf("firmware rollout %s is unreadable; restore the database from the backup: %w", record.ID, err)
	}
	return d, nil
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
