package campaign

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"bollard/firmware/catalogue"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/internal/failpoint"
	"bollard/internal/rollout"
	"bollard/internal/window"
	"bollard/ledger"
)

const (
	// tries is how often a station is sent a release by one rollout, and triesInstall
	// how often one that came so far as to have the image: its next failure is for a
	// person.
	tries        = 3
	triesInstall = 2
	// firstPause is between two tries, and doubles.
	firstPause = 10 * time.Minute
	// LeastRoom is how much of a window must be left to begin; shorter ones are
	// never used.
	LeastRoom = 15 * time.Minute
	// startsAtOnce bounds the stations whose answers are waited for.
	startsAtOnce = 64
)

// start is a station that is to be sent a release now.
type start struct {
	c       *campaign
	station Station
	session gate.Session
	windows window.Windows
	// What came of it:
	block gate.Block
	why   string
	ran   bool // it has run the release
	err   error
}

// Look takes every rollout one step further: what began is judged, what is due
// begins.
func (s *Service) Look(ctx context.Context) error {
	s.looking.Lock()
	defer s.looking.Unlock()
	starts, err := s.step(ctx)
	if err != nil {
		return err
	}
	var done sync.WaitGroup
	slots := make(chan struct{}, startsAtOnce)
	for _, b := range starts {
		slots <- struct{}{}
		done.Go(func() {
			defer func() { <-slots }()
			s.begin(ctx, b)
		})
	}
	done.Wait()
	return s.settle(ctx, starts)
}

// step is what a look does under the lock. A beginning is on disk before it returns.
func (s *Service) step(ctx context.Context) ([]*start, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	if s.cfg.CheckClock(ctx) != nil {
		return nil, nil // what it would begin or set right would be late once the clock is right
	}
	if err := s.grid.keep(ctx, s.cfg.Store, s.cfg.Clock()); err != nil {
		return nil, err
	}
	var all []*start
	stepped := slices.Collect(maps.Values(s.book.Open()))
	if len(stepped) > 0 {
		if err := s.learn(ctx, s.cfg.Clock()); err != nil {
			return nil, err
		}
		s.at = s.sites()
	}
	seen := s.seen.take()
	for _, c := range stepped {
		for station, signs := range seen {
			for sign, n := range signs {
				c.run.Note(station, string(sign), n)
			}
		}
		starts, err := s.stepOne(ctx, c)
		if err != nil {
			s.book.Forget()
			return nil, fmt.Errorf("firmware rollout %s: %w", c.record.ID, err)
		}
		all = append(all, starts...)
	}
	s.publish()
	// Only now does Turn know by the halt itself.
	for _, c := range stepped {
		s.condemned.drop(c.detail.Release, c.heeded)
	}
	return all, nil
}

func (s *Service) stepOne(ctx context.Context, c *campaign) ([]*start, error) {
	now := s.cfg.Clock()
	var failed []rollout.Member
	var again []*start
	// 1. What became of those at work.
	for _, m := range c.run.AtWork() {
		state, note, retry, err := s.judge(ctx, c, &m, now)
		if err != nil {
			return nil, err
		}
		if retry != nil {
			again = append(again, retry)
		}
		c.run.Settle(m.ID, state, note, now)
		if state == rollout.Failed {
			m.Note = note
			failed = append(failed, m)
		}
	}
	culprit := ""
	if v, bad := s.condemned.of(c.detail.Release); bad && !c.run.Header().Phase.Over() {
		culprit = v.station
		c.heeded, c.detail.Heeded = v, v.at
		c.run.Halt("station " + v.station + " reports InvalidSignature: key, image or model are wrong")
	}
	e, err := s.cfg.Releases.Find(ctx, c.detail.Release)
	if err != nil {
		return nil, err
	}
	switch {
	case c.run.Header().Phase.Over():
	case e.State == catalogue.Halted:
		c.run.Halt(e.Reason)
	case !e.State.Offered():
		if err := c.run.Cancel("its release is "+string(e.State)+": "+e.Reason, now); err != nil {
			return nil, err
		}
	}
	c.run.Expect(string(Metered), string(Transaction))
	c.run.Ask(func(wave int) bool { return s.widens(ctx, c, &e, wave) })
	// 2. Time, limits, rings.
	c.run.Spare(s.cfg.Gate.Open)
	failed = append(failed, c.run.Look(now, func(key string) bool {
		return s.there(key) && !(c.run.Has(key) && s.at.alone(s.known[key]))
	})...)
	atWork := c.run.AtWork()
	again = slices.DeleteFunc(again, func(b *start) bool { // it took too long, and is written off
		return !slices.ContainsFunc(atWork, func(m rollout.Member) bool { return m.ID == b.station.Key })
	})
	if n := len(failed); n > 0 && culprit == "" {
		culprit = failed[n-1].ID
	}
	// 3. Those whose turn it is.
	begun := c.run.Begin(now, func(key string) bool { return s.present(c, key, now) })
	h := c.run.Header()
	halts := h.Phase == rollout.Halted && c.record.Header.Phase != rollout.Halted
	if halts {
		s.cfg.Log.Warn("firmware rollout halted", slog.String("rollout", c.record.ID), slog.String("release", c.detail.Release), slog.String("reason", h.Why))
		// Told before it is on disk: a kill in between tells it again.
		if err := s.cfg.Halted(ctx, culprit); err != nil {
			return nil, fmt.Errorf("couldn't tell that it halted: %w", err)
		}
	}
	if err := s.keep(ctx, c, "bollard", failed); err != nil {
		return nil, err
	}
	if len(begun) > 0 {
		failpoint.Hit("campaign.begun")
	}
	if halts {
		if err := s.cfg.Gate.Withdraw(ctx, "bollard"); err != nil {
			s.cfg.Log.Warn("couldn't end the updates of a halted release that weren't sent; it is tried again", slog.Any("err", err))
		}
	}
	if h.Phase != rollout.Running {
		s.book.Close(c)
		return nil, nil
	}
	for _, m := range begun {
		b, err := s.ready(ctx, c, m.ID, now)
		if err != nil {
			return nil, err
		}
		if b != nil {
			again = append(again, b)
		}
	}
	return again, nil
}

// stationsFor is how long it is remembered where stations stand: of thousands that wait
// for their window each look would read every one.
const stationsFor = time.Minute

// widens says whether people agreed to a further ring of this very rollout.
func (s *Service) widens(ctx context.Context, c *campaign, e *catalogue.Entry, wave int) bool {
	if wave == c.opening() { // they agreed to that at the start
		return true
	}
	grant, err := s.cfg.Releases.Grant(ctx, catalogue.ActionWiden, e, c.widening(c.ringOf(wave)))
	if err != nil {
		level := slog.LevelDebug
		if c.told != wave {
			c.told, level = wave, slog.LevelInfo
		}
		s.cfg.Log.Log(ctx, level, "a firmware rollout waits for the approval of its next ring", slog.String("rollout", c.record.ID), slog.String("ring", c.ringOf(wave)), slog.Any("err", err))
		return false
	}
	c.used = []ledger.Event{grant.Used("bollard")}
	return true
}

// learn reads the stations anew.
func (s *Service) learn(ctx context.Context, now time.Time) error {
	if s.known != nil && now.Sub(s.knownAt) < stationsFor {
		return nil
	}
	list, err := s.cfg.Fleet.Stations(ctx)
	if err != nil {
		return err
	}
	s.known, s.knownAt = make(map[string]Station, len(list)), now
	for _, st := range list {
		s.known[st.Key] = st
	}
	return nil
}

// there says whether a station is connected: it will have its turn when its window
// opens.
func (s *Service) there(key string) bool {
	_, known := s.known[key]
	_, there := s.cfg.Fleet.Session(key)
	return known && there
}

// present says whether a station could begin now: it is there, has no other update, its
// window is open for long enough, the grid sets its site no limit, and its site can do
// without it. Then it begins.
func (s *Service) present(c *campaign, key string, now time.Time) bool {
	st := s.known[key]
	if !s.there(key) || s.cfg.Gate.Open(key) || !room(s.cfg.Windows(st), now) || s.limited(st) || !s.at.spares(st, c.detail.SiteShare) {
		return false
	}
	s.at.takes(st)
	return true
}

// room says whether there is time enough to begin.
func room(list window.Windows, now time.Time) bool {
	end, closes := list.Until(now)
	return list.Open(now) && (!closes || end.Sub(now) >= LeastRoom)
}

// ready is a station that can be sent the release now, or nil: later.
func (s *Service) ready(ctx context.Context, c *campaign, key string, now time.Time) (*start, error) {
	session, there := s.cfg.Fleet.Session(key)
	if !there || s.cfg.Gate.Open(key) {
		return nil, nil
	}
	st, known, err := s.cfg.Fleet.Station(ctx, key)
	if err != nil || !known {
		return nil, err // judged next time
	}
	windows := s.cfg.Windows(st)
	if !room(windows, now) {
		return nil, nil
	}
	return &start{c: c, station: st, session: session, windows: windows}, nil
}

// judge says what became of a station at work; retry is set if it is to be sent the
// release now.
func (s *Service) judge(ctx context.Context, c *campaign, m *rollout.Member, now time.Time) (state rollout.State, note string, retry *start, err error) {
	if s.cfg.Gate.Open(m.ID) {
		return rollout.Begun, "", nil, nil
	}
	if _, known, err := s.cfg.Fleet.Station(ctx, m.ID); err != nil || !known {
		return rollout.Failed, "station was removed", nil, err
	}
	list, err := s.cfg.Gate.Jobs(ctx, m.ID)
	if err != nil {
		return "", "", nil, err
	}
	list = own(list, c.record.ID)
	// What wasn't sent, by a kill or a halt, is no try; it is paused for like one, or what
	// fails here each time would be begun without end.
	sent := slices.DeleteFunc(slices.Clone(list), func(j job.Job) bool { return j.SentSHA256 == "" })
	if len(sent) > 0 {
		last := &sent[0]
		if last.State == job.Done {
			return rollout.Done, "", nil, nil
		}
		if condemns(last) {
			s.condemned.add(last)
		}
		if why := final(last, sent); why != "" {
			return rollout.Failed, why, nil, nil
		}
	}
	if len(list) > 0 {
		rest := pause(c.record.ID, m.ID, max(len(sent), 1))
		// What a clock ended that was ahead, nobody waits for.
		if wait := list[0].ChangedAt.Add(rest).Sub(now); wait > 0 && wait <= 2*rest {
			return rollout.Begun, "", nil, nil
		}
	}
	if c.run.Header().Phase != rollout.Running {
		return rollout.Begun, "", nil, nil
	}
	st := s.known[m.ID]
	if s.limited(st) || !s.at.spares(st, c.detail.SiteShare) {
		return rollout.Begun, "", nil, nil
	}
	if retry, err = s.ready(ctx, c, m.ID, now); retry != nil {
		s.at.takes(st)
	}
	return rollout.Begun, "", retry, err
}

// final says why a station whose update ended without success isn't sent it again.
func final(last *job.Job, sent []job.Job) string {
	why := string(last.State) + ": " + last.Reason
	switch {
	case last.State == job.Cancelled, last.State == job.Mismatch, last.State == job.Quarantined, condemns(last):
		return why
	case len(sent) >= tries:
		return fmt.Sprintf("%s, the last of %d tries", why, len(sent))
	case installed(sent) >= triesInstall:
		return fmt.Sprintf("%s, and it failed before with the image in hand", why)
	}
	return ""
}

// installed counts the updates that failed once their station had the image.
func installed(list []job.Job) int {
	n := 0
	for i := range list {
		if j := &list[i]; !j.State.Open() && j.State != job.Done && slices.ContainsFunc(j.Steps, func(s job.Step) bool { return s.State.Holds() }) {
			n++
		}
	}
	return n
}

// pause is how long after the nth try the next one waits, which isn't the same for all.
func pause(id, station string, n int) time.Duration {
	d := firstPause << (n - 1)
	return d + time.Duration(place(id, station)*float64(d/4))
}

// place is a number from 0 to 1 that doesn't change between tries.
func place(id, station string) float64 {
	sum := sha256.Sum256([]byte(id + "\x00jitter\x00" + station))
	return float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53)
}

// times are when a station downloads and installs: not all at once, and both while its
// window is open. Without a window it installs when it has the image.
func times(id, station string, jitter time.Duration, list window.Windows, now time.Time) (retrieve, install time.Time) {
	share := place(id, station)
	end, closes := list.Until(now)
	if !closes {
		return now.Add(time.Duration(share * float64(jitter))), time.Time{}
	}
	left := end.Sub(now)
	retrieve = now.Add(time.Duration(share * float64(min(jitter, left/4))))
	return retrieve, retrieve.Add(min(time.Hour, end.Sub(retrieve)/2))
}

// begin sends a station its release, unless that was halted meanwhile.
func (s *Service) begin(ctx context.Context, b *start) {
	if !s.goesOn(b.c) {
		return
	}
	o := gate.Order{Release: b.c.detail.Release, Rollout: b.c.record.ID}
	o.Retrieve, o.Install = times(b.c.record.ID, b.station.Key, b.c.detail.Jitter, b.windows, s.cfg.Clock())
	_, err := s.cfg.Gate.Start(ctx, b.session, b.station.Station, o)
	if block, ok := gate.BlockOf(err); ok {
		b.block, b.why = block, err.Error()
		if block == gate.Rollback {
			b.ran, b.err = s.ran(ctx, b)
		}
		return
	}
	b.err = err
}

// ran says whether a station was seen to run the release that isn't newer for it, rather
// than a newer one.
func (s *Service) ran(ctx context.Context, b *start) (bool, error) {
	e, err := s.cfg.Releases.Find(ctx, b.c.detail.Release)
	if err != nil {
		return false, err
	}
	floor, err := s.cfg.Store.Floor(ctx, b.station.Key, e.Release.Component)
	return floor.Sequence == e.Release.Sequence, err
}

// goesOn says whether a rollout still runs, and nothing condemned its release.
func (s *Service) goesOn(c *campaign) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, condemned := s.condemned.of(c.detail.Release)
	return !condemned && c.run.Header().Phase == rollout.Running
}

// settle keeps what came of those that were refused.
func (s *Service) settle(ctx context.Context, starts []*start) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failures error
	failed := map[*campaign][]rollout.Member{}
	touched := map[*campaign]bool{}
	now := s.cfg.Clock()
	for _, b := range starts {
		failures = errors.Join(failures, b.err)
		if s.book.Open()[b.c.record.ID] != b.c {
			continue // it is read anew, and judged
		}
		switch b.block {
		case "", gate.Busy, gate.Ended, gate.OnHold, gate.Unapproved, gate.IsRevoked: // another time, or the next look sees why
			continue
		case gate.Rollback:
			switch {
			case b.err != nil: // judged next time
				continue
			case b.ran:
				b.c.run.Settle(b.station.Key, rollout.Done, "it has this release already", now)
			default: // which shows nothing of this one
				b.c.run.Settle(b.station.Key, rollout.Left, "it has run a newer release", now)
			}
		default:
			b.c.run.Settle(b.station.Key, rollout.Failed, b.why, now)
			failed[b.c] = append(failed[b.c], rollout.Member{ID: b.station.Key, Note: b.why})
		}
		touched[b.c] = true
	}
	for c := range touched {
		if err := s.keep(ctx, c, "bollard", failed[c]); err != nil {
			s.book.Forget()
			return errors.Join(failures, err)
		}
	}
	s.publish()
	return failures
}

// another says whether another rollout of the same release isn't over.
func (s *Service) another(c *campaign) bool {
	for _, other := range s.book.Open() {
		if other != c && other.detail.Release == c.detail.Release && !other.run.Header().Phase.Over() {
			return true
		}
	}
	return false
}
