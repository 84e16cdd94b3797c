package campaign

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"bollard/firmware/catalogue"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/internal/rollout"
	"bollard/ledger"
)

// Ring is one step of a rollout.
type Ring struct {
	Name  string  `json:"name"`
	Share float64 `json:"share"` // of all its stations, with those of the rings before it
}

// Rings are those of a rollout that names none. The first has the stations of the lab
// alone.
func Rings() []Ring {
	return []Ring{{"lab", 0}, {"canary", 0.01}, {"early", 0.1}, {"broad", 0.5}, {"rest", 1}}
}

// Plan is what a rollout is to be.
type Plan struct {
	Release string // its ID, the beginning of it, or its version
	Rings   []Ring
	Lab     string // group whose stations are the first ring
	Group   string // only stations of this group; "": all
	Rules   rollout.Rules
	Jitter  time.Duration
	// SiteShare is how many of a site's stations may be at work at once, but one always
	// may; 0: any.
	SiteShare float64
}

// Planned is one station of a plan.
type Planned struct {
	Station string     `json:"station"`
	Ring    string     `json:"ring,omitempty"`
	Site    string     `json:"site,omitempty"`
	Model   string     `json:"model"`
	Online  bool       `json:"online"`
	Opens   time.Time  `json:"opens,omitzero"`    // when its window opens next, if it is shut
	Limited bool       `json:"limited,omitempty"` // by the grid, or its site is
	Block   gate.Block `json:"block,omitempty"`
	Unable  string     `json:"unable,omitempty"` // why it takes no part
}

// mostJitter bounds how far the downloads of a rollout are spread.
const mostJitter = 24 * time.Hour

func (p *Plan) rules() (rollout.Rules, []string, error) {
	rules, names := p.Rules, []string{}
	rules.Waves, rules.Proof, rules.Compare = nil, true, true
	for _, r := range p.Rings {
		if err := catalogue.CheckRing(r.Name); err != nil {
			return rules, nil, err
		}
		if slices.Contains(names, r.Name) {
			return rules, nil, fmt.Errorf("two rings are called %s", r.Name)
		}
		names, rules.Waves = append(names, r.Name), append(rules.Waves, r.Share)
	}
	if p.Jitter < 0 || p.Jitter > mostJitter {
		return rules, nil, fmt.Errorf("jitter: give at most %s", mostJitter)
	}
	if p.SiteShare < 0 || p.SiteShare > 1 {
		return rules, nil, errors.New("site-share: give a share from 0% to 100%")
	}
	return rules, names, rules.Validate()
}

// Dry is the dry run: every station that the release is for, with its ring, or why it
// takes no part.
func (s *Service) Dry(ctx context.Context, p Plan) ([]Planned, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, list, err := s.plan(ctx, &p, "dry-run")
	if err != nil {
		return nil, err
	}
	if c == nil {
		return list, nil
	}
	waves := map[string]int{}
	for _, m := range c.run.Members() {
		waves[m.ID] = m.Wave
	}
	for i := range list {
		if wave, ok := waves[list[i].Station]; ok {
			list[i].Ring = c.ringOf(wave)
		}
	}
	return list, nil
}

// plan makes a rollout of all that can take part; nil if nobody can.
func (s *Service) plan(ctx context.Context, p *Plan, id string) (*campaign, []Planned, error) {
	rules, names, err := p.rules()
	if err != nil {
		return nil, nil, err
	}
	if err := s.load(ctx); err != nil {
		return nil, nil, err
	}
	e, err := s.cfg.Releases.Find(ctx, p.Release)
	if err != nil {
		return nil, nil, err
	}
	if !e.State.Offered() {
		return nil, nil, fmt.Errorf("%w: release %s is %s", catalogue.ErrState, e.Release.ID, e.State)
	}
	stations, err := s.cfg.Fleet.Stations(ctx)
	if err != nil {
		return nil, nil, err
	}
	now := s.cfg.Clock()
	limited := map[string]bool{} // sites
	for _, st := range stations {
		limited[st.Site] = st.Site != "" && (limited[st.Site] || s.grid.limits(st.Key))
	}
	planned, candidates := []Planned{}, []rollout.Candidate{}
	for _, st := range stations {
		if p.Group != "" && st.Group != p.Group || !e.Release.Covers(st.Vendor, st.Model, st.Hardware) {
			continue
		}
		_, online := s.cfg.Fleet.Session(st.Key)
		one := Planned{Station: st.Key, Site: st.Site, Model: st.Vendor + " " + st.Model, Online: online, Limited: limited[st.Site] || s.grid.limits(st.Key)}
		if windows := s.cfg.Windows(st); !windows.Open(now) {
			one.Opens = windows.Next(now)
		}
		if one.Block, one.Unable, err = s.unable(ctx, st, &e); err != nil {
			return nil, nil, err
		}
		if planned = append(planned, one); one.Unable == "" {
			candidates = append(candidates, rollout.Candidate{ID: st.Key, Site: st.Site, Kind: one.Model, First: p.Lab != "" && st.Group == p.Lab})
		}
	}
	slices.SortFunc(planned, func(a, b Planned) int { return cmp.Compare(a.Station, b.Station) })
	if len(candidates) == 0 {
		return nil, planned, nil
	}
	// Rings are of the release, not of the try: a second rollout of it has the same.
	c := &campaign{record: rollout.Record{ID: id, Kind: kind, At: now}, waves: map[string]int{}, detail: detail{
		Release: e.Release.ID, Digest: e.Digest, Version: e.Release.Version, Terms: p.terms(), Rings: names, Jitter: p.Jitter, SiteShare: p.SiteShare,
	}}
	if c.run, err = rollout.New(rules, e.Release.ID, candidates, now); err != nil {
		return nil, nil, err
	}
	for _, m := range c.run.Members() {
		c.waves[m.ID] = m.Wave
	}
	return c, planned, nil
}

// unable says why a station takes no part in a rollout, or "".
func (s *Service) unable(ctx context.Context, st Station, e *catalogue.Entry) (gate.Block, string, error) {
	for _, other := range s.book.Open() {
		if other.run.Has(st.Key) {
			return "", "it is part of the rollout of " + other.detail.Version, nil
		}
	}
	if err := s.cfg.Gate.Fits(ctx, st.Station, e); err != nil {
		b, ok := gate.BlockOf(err)
		if !ok {
			return "", "", err
		}
		return b, err.Error(), nil
	}
	list, err := s.cfg.Gate.Jobs(ctx, st.Key)
	if err != nil {
		return "", "", err
	}
	list = slices.DeleteFunc(slices.Clone(list), func(j job.Job) bool { return j.Release != e.Release.ID })
	if installed(list) >= triesInstall {
		return "", "it failed twice with this release in hand: `bollard firmware updates` shows how", nil
	}
	return "", "", nil
}

// Start begins a rollout over all that can take part.
func (s *Service) Start(ctx context.Context, actor string, p Plan) (Progress, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, _, err := s.plan(ctx, &p, newID())
	if err != nil {
		return Progress{}, err
	}
	if c == nil {
		return Progress{}, ErrNobody
	}
	c.detail.By = actor
	// What an earlier rollout of the release was halted by people have judged.
	earlier, err := s.records(ctx, c.detail.Release)
	if err != nil {
		return Progress{}, err
	}
	for _, record := range earlier {
		d, err := about(&record)
		if err != nil {
			return Progress{}, err
		}
		c.detail.Heeded = later(c.detail.Heeded, d.Heeded)
	}
	if err := s.recall(ctx, c); err != nil {
		return Progress{}, err
	}
	if c.record.Detail, err = json.Marshal(c.detail); err != nil {
		return Progress{}, err
	}
	e, err := s.cfg.Releases.Find(ctx, c.detail.Release)
	if err != nil {
		return Progress{}, err
	}
	what, err := p.Opening(c.ringOf(c.opening()))
	if err != nil {
		return Progress{}, err
	}
	grant, err := s.cfg.Releases.Grant(ctx, catalogue.ActionStart, &e, what)
	if err != nil {
		return Progress{}, err
	}
	events := []ledger.Event{grant.Used(actor), {Kind: "firmware.rollout-started", Subject: c.detail.Release, Actor: actor, Data: map[string]string{
		"rollout": c.record.ID, "stations": strconv.Itoa(len(c.waves)), "rings": strings.Join(c.detail.Rings, ","), "record-sha256": c.detail.Digest,
	}}}
	if err := s.keep(ctx, c, actor, nil, events...); err != nil {
		return Progress{}, fmt.Errorf("couldn't store the rollout: %w", err)
	}
	s.book.Add(c)
	s.publish()
	s.wake()
	return c.progress(s.cfg.Clock()), nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (s *Service) wake() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// Halt lets no further station begin; anybody on call may.
func (s *Service) Halt(ctx context.Context, actor, release, reason string) (Progress, error) {
	reason, err := ledger.Reason(reason)
	if err != nil {
		return Progress{}, err
	}
	p, err := s.change(ctx, actor, release, rollout.Running, func(c *campaign) error {
		c.run.Halt(reason)
		return nil
	})
	if err != nil {
		return p, err
	}
	// What stood in the store as approved when the halt came there isn't sent any more.
	if err := s.cfg.Gate.Withdraw(ctx, actor); err != nil {
		return p, fmt.Errorf("it is halted, but updates that were about to be sent couldn't be ended, halt it again: %w", err)
	}
	return p, nil
}

// Resume goes on with a halted rollout, once enough people agreed to exactly that.
// The failures that halted it are accepted: as many more halt it again.
func (s *Service) Resume(ctx context.Context, actor, release, reason string) (Progress, error) {
	reason, err := ledger.Reason(reason)
	if err != nil {
		return Progress{}, err
	}
	e, err := s.cfg.Releases.Find(ctx, release)
	if err != nil {
		return Progress{}, err
	}
	grant, err := s.cfg.Releases.Grant(ctx, catalogue.ActionResume, &e, "")
	if err != nil {
		return Progress{}, err
	}
	return s.change(ctx, actor, e.Release.ID, rollout.Halted, func(c *campaign) error {
		c.why = reason
		return c.run.Resume()
	}, grant.Used(actor))
}

// change makes a decision about the rollouts of a release that are in a phase, for all of
// them or for none.
func (s *Service) change(ctx context.Context, actor, release string, from rollout.Phase, change func(*campaign) error, events ...ledger.Event) (Progress, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.find(ctx, release)
	if err != nil {
		return Progress{}, err
	}
	w := writing{events: events}
	for _, c := range list {
		if c.run.Header().Phase != from {
			continue
		}
		err := change(c)
		if err == nil {
			err = s.note(&w, c, actor, nil)
		}
		if err != nil {
			s.book.Forget()
			return Progress{}, fmt.Errorf("rollout of %s: %w", c.detail.Version, err)
		}
	}
	if len(w.steps) == 0 {
		return Progress{}, fmt.Errorf("%w: rollout of %s is %s, not %s", ErrState, list[0].detail.Version, list[0].run.Header().Phase, from)
	}
	if err := s.write(ctx, list[0].detail.Release, &w); err != nil {
		s.book.Forget()
		return Progress{}, fmt.Errorf("couldn't store the decision: %w", err)
	}
	s.publish()
	s.wake()
	return list[0].progress(s.cfg.Clock()), nil
}

// Progress is how far a rollout is.
type Progress struct {
	ID, Release, Version, By string
	Terms                    string // the plan, as people approved it
	At                       time.Time
	Rings                    []string
	Header                   rollout.Header
	Count                    map[rollout.State]int
	Asks                     string           // the ring whose approval it waits for, or ""
	Members                  []rollout.Member // of one that was asked for
}

// Ring names a wave.
func (p *Progress) Ring(wave int) string {
	if wave < len(p.Rings) {
		return p.Rings[wave]
	}
	return ""
}

func (c *campaign) progress(now time.Time) Progress {
	p := Progress{ID: c.record.ID, Release: c.detail.Release, Version: c.detail.Version, Terms: c.detail.Terms, By: c.detail.By, At: c.record.At,
		Rings: c.detail.Rings, Header: c.run.Header(), Count: c.run.Count()}
	if h := p.Header; h.Phase == rollout.Running && !h.Settled.IsZero() && now.Sub(h.Settled) >= h.Rules.Soak {
		p.Asks = p.Ring(h.Wave + 1)
	}
	return p
}

// Rollouts returns all, newest first, without their members.
func (s *Service) Rollouts(ctx context.Context) ([]Progress, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	records, err := s.book.Records(ctx)
	if err != nil {
		return nil, err
	}
	list := []Progress{}
	for _, record := range records {
		c, err := s.book.Entry(ctx, record)
		if err != nil {
			return nil, err
		}
		list = append(list, c.progress(s.cfg.Clock()))
	}
	return list, nil
}

// Rollout returns that of a release.
func (s *Service) Rollout(ctx context.Context, release string) (Progress, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.find(ctx, release)
	if err != nil {
		return Progress{}, err
	}
	c := list[0]
	p := c.progress(s.cfg.Clock())
	p.Members = c.run.Members()
	slices.SortFunc(p.Members, func(a, b rollout.Member) int { return cmp.Or(cmp.Compare(a.Wave, b.Wave), cmp.Compare(a.ID, b.ID)) })
	return p, nil
}
