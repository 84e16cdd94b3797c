package rollout

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
)

// Run is a rollout in memory. It is not safe for concurrent use.
type Run struct {
	header  Header
	members map[string]*Member
	queue   []*Member      // by wave and slot; those that waited when it was made
	sizes   []int          // of the waves
	sites   map[string]int // at work
	begun   map[string]*Member
	recent  []time.Time // beginnings of the last minute
	changed map[string]bool
	touched bool // the header
	opens   func(wave int) bool
	spared  func(id string) bool
	steady  []string // kinds of signs that don't end
}

// Spare has f asked before a member is late: while f says so, what it does isn't over,
// and its caller sees the end of it.
func (r *Run) Spare(f func(id string) bool) { r.spared = f }

// Expect names kinds of signs of which members that showed any before their turn are to
// show some after it.
func (r *Run) Expect(kinds ...string) { r.steady = kinds }

// Ask has f asked before a wave with members begins that isn't the first; it waits
// until f agrees.
func (r *Run) Ask(f func(wave int) bool) { r.opens = f }

// Candidate is a member to be.
type Candidate struct {
	ID, Site string
	Kind     string // such as its model
	First    bool   // in the first wave, whatever its share
}

// New begins a rollout. Waves and places follow from seed and names alone.
func New(rules Rules, seed string, list []Candidate, now time.Time) (*Run, error) {
	if err := rules.Validate(); err != nil {
		return nil, err
	}
	list = mixed(seed, list)
	first := 0
	for first < len(list) && list[first].First {
		first++
	}
	members := make([]Member, len(list))
	from := 0
	for wave, share := range rules.Waves {
		// A wave of 1 % of ten is one, not none; one of nothing is none.
		to := max(int(math.Round(share*float64(len(list)))), first)
		if share > 0 {
			to = max(to, from+1)
		}
		to = min(to, len(list))
		for i := from; i < to; i++ {
			members[i] = Member{ID: list[i].ID, Site: list[i].Site, Wave: wave, State: Waiting, At: now, Slot: float64(i-from) / float64(to-from)}
		}
		from = max(from, to)
	}
	r := Load(Header{Rules: rules, Phase: Running, WaveAt: now}, members)
	r.touched = true
	for _, m := range members {
		r.changed[m.ID] = true
	}
	return r, nil
}

// mixed is the order in which candidates take their turns: those that are to go
// first, then one of each site before the second of any, and among them the
// kinds in proportion, beginning with one of each. What is left to choose, a hash
// of the names does.
func mixed(seed string, list []Candidate) []Candidate {
	type seat struct {
		Candidate
		place float64
		late  int     // 0: it goes first
		round int     // how many of its site come before it
		share float64 // of its kind and round, how much comes before it
	}
	seats := make([]seat, len(list))
	for i, c := range list {
		seats[i] = seat{Candidate: c, place: place(seed, c.ID), late: 1}
		if c.First {
			seats[i].late = 0
		}
	}
	sort := func() {
		slices.SortFunc(seats, func(a, b seat) int {
			return cmp.Or(a.late-b.late, a.round-b.round, cmp.Compare(a.share, b.share), cmp.Compare(a.place, b.place), cmp.Compare(a.ID, b.ID))
		})
	}
	sort()
	type group struct {
		round int
		kind  string
	}
	sites, size, before := map[string]int{}, map[group]int{}, map[group]int{}
	for i := range seats {
		if s := &seats[i]; s.Site != "" {
			s.round = sites[s.Site]
			sites[s.Site]++
		}
		size[group{seats[i].round, seats[i].Kind}]++
	}
	for i := range seats {
		g := group{seats[i].round, seats[i].Kind}
		seats[i].share = float64(before[g]) / float64(size[g])
		before[g]++
	}
	sort()
	out := make([]Candidate, len(seats))
	for i, s := range seats {
		out[i] = s.Candidate
	}
	return out
}

// Load takes up a rollout from what Changes returned before.
func Load(header Header, members []Member) *Run {
	r := &Run{header: header, members: make(map[string]*Member, len(members)), sizes: make([]int, len(header.Rules.Waves)),
		sites: map[string]int{}, begun: map[string]*Member{}, changed: map[string]bool{}}
	for i := range members {
		m := members[i]
		r.members[m.ID] = &m
		r.sizes[m.Wave]++
		switch m.State {
		case Waiting:
			r.queue = append(r.queue, &m)
		case Begun:
			r.begun[m.ID] = &m
			r.sites[m.Site]++
		}
		if !m.Began.IsZero() {
			r.recent = append(r.recent, m.Began)
		}
	}
	slices.SortFunc(r.queue, func(a, b *Member) int {
		return cmp.Or(cmp.Compare(a.Wave, b.Wave), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.ID, b.ID))
	})
	return r
}

// place is a number from 0 to 1 that doesn't change between tries.
func place(seed, id string) float64 {
	sum := sha256.Sum256([]byte(seed + "\x00" + id))
	return float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53)
}

// Header returns how far the rollout is.
func (r *Run) Header() Header { return r.header }

// AtWork returns the members that began and aren't settled, by name.
func (r *Run) AtWork() []Member {
	list := make([]Member, 0, len(r.begun))
	for _, m := range r.begun {
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Members returns all members, in no order.
func (r *Run) Members() []Member {
	list := make([]Member, 0, len(r.members))
	for _, m := range r.members {
		list = append(list, *m)
	}
	return list
}

// Has says whether a member of this name isn't settled yet.
func (r *Run) Has(id string) bool {
	m := r.members[id]
	return m != nil && (m.State == Waiting || m.State == Begun)
}

// Count returns how many members are in each state.
func (r *Run) Count() map[State]int {
	n := map[State]int{}
	for _, m := range r.members {
		n[m.State]++
	}
	return n
}

// Changes returns what is to be stored since the last call, members by name;
// false if nothing is. If it can't be stored, the Run is void: Load what is.
func (r *Run) Changes() (Header, []Member, bool) {
	if !r.touched && len(r.changed) == 0 {
		return r.header, nil, false
	}
	list := make([]Member, 0, len(r.changed))
	for id := range r.changed {
		list = append(list, *r.members[id])
	}
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	clear(r.changed)
	r.touched = false
	return r.header, list, true
}

// callsPerMinute: Begin gives out a minute's share in so many parts, so that
// those of one look don't begin all at once.
const callsPerMinute = 12

// Begin returns the members whose turn it is, which are at work from now on.
// Absent ones keep their turn until they are there.
func (r *Run) Begin(now time.Time, present func(id string) bool) []Member {
	r.setRight(now)
	if r.header.Phase != Running || !r.header.Settled.IsZero() {
		return nil
	}
	rules := &r.header.Rules
	r.recent = slices.DeleteFunc(r.recent, func(at time.Time) bool { return now.Sub(at) >= time.Minute })
	most := min(rules.PerMinute-len(r.recent), max(1, rules.PerMinute/callsPerMinute))
	var list []Member
	for _, m := range r.queue {
		if len(list) >= most || m.Wave > r.header.Wave {
			break
		}
		if m.State != Waiting || now.Before(r.turn(m)) || rules.PerSite > 0 && m.Site != "" && r.sites[m.Site] >= rules.PerSite || !present(m.ID) {
			continue
		}
		m.Began = now
		r.set(m, Begun, "", now)
		r.begun[m.ID] = m
		r.sites[m.Site]++
		r.recent = append(r.recent, now)
		list = append(list, *m)
	}
	r.queue = slices.DeleteFunc(r.queue, func(m *Member) bool { return m.State != Waiting })
	return list
}

// setRight has what a clock that was ahead began begin now: else nobody would begin, nor
// be late, until that time has come.
func (r *Run) setRight(now time.Time) {
	for _, at := range []*time.Time{&r.header.WaveAt, &r.header.Settled} {
		if at.After(now) {
			*at, r.touched = now, true
		}
	}
	for id, m := range r.begun {
		if m.Began.After(now) {
			m.Began, r.changed[id] = now, true
		}
	}
	for i := range r.recent {
		if r.recent[i].After(now) {
			r.recent[i] = now
		}
	}
}

// turn is when a member may begin at the earliest.
func (r *Run) turn(m *Member) time.Time {
	if m.Wave < r.header.Wave {
		return r.header.WaveAt // it was absent in its own
	}
	return r.header.WaveAt.Add(time.Duration(m.Slot * float64(r.waveTime())))
}

// waveTime is the present wave's part of Spread.
func (r *Run) waveTime() time.Duration {
	return time.Duration(float64(r.header.Rules.Spread) * float64(r.sizes[r.header.Wave]) / float64(max(len(r.members), 1)))
}

// Settle says what came of a member at work. Of another it says nothing new.
func (r *Run) Settle(id string, state State, note string, now time.Time) {
	m := r.begun[id]
	if m == nil || state != Done && state != Failed && state != Left {
		return
	}
	delete(r.begun, id)
	if r.sites[m.Site]--; r.sites[m.Site] == 0 {
		delete(r.sites, m.Site)
	}
	r.set(m, state, note, now)
	if state == Failed {
		r.header.Failed++
		r.touched = true
	}
}

// Look takes time into account: members that took too long fail, even when
// nobody may begin any more; too many failures halt, a wave at its end is followed by the next. It returns the
// members that took too long. Who is there is waited for, whether it could begin now or not.
func (r *Run) Look(now time.Time, there func(id string) bool) (late []Member) {
	r.setRight(now)
	for _, m := range r.AtWork() {
		if now.Sub(m.Began) >= r.header.Rules.Patience && (r.spared == nil || !r.spared(m.ID)) {
			r.Settle(m.ID, Failed, fmt.Sprintf("not done after %s", r.header.Rules.Patience), now)
			late = append(late, *r.members[m.ID])
		}
	}
	if r.header.Phase != Running {
		return late
	}
	size := r.sizes[r.header.Wave]
	if allowed := int(math.Floor(r.header.Rules.FailLimit * float64(size))); r.header.Failed-r.header.Accepted > allowed {
		r.halt(fmt.Sprintf("%d of the %d in wave %d failed, %d are allowed", r.header.Failed-r.header.Accepted, size, r.header.Wave+1, allowed))
		return late
	}
	r.follow(now, there)
	return late
}

func (r *Run) halt(why string) {
	r.header.Phase, r.header.Why, r.touched = Halted, why, true
}

// Halt stops it for a reason outside of its rules, such as a member's answer
// that condemns what is rolled out.
func (r *Run) Halt(why string) {
	if r.header.Phase == Running || r.header.Phase == Paused {
		r.halt(why)
	}
}

// ended counts the present wave's members that came to an end, less the failures
// a resumption accepted.
func (r *Run) ended() (done, failed int) {
	for _, m := range r.members {
		if m.Wave == r.header.Wave && m.State == Done {
			done++
		}
	}
	return done, r.header.Failed - r.header.Accepted
}

// z95 is the normal quantile of a 95 % interval.
const z95 = 1.96

// wilson is the lower end of the 95 % interval of a share (E. B. Wilson, 1927).
func wilson(done, n int) float64 {
	if n == 0 {
		return 0
	}
	p, z2, f := float64(done)/float64(n), z95*z95, float64(n)
	return (p + z2/(2*f) - z95*math.Sqrt(p*(1-p)/f+z2/(4*f*f))) / (1 + z2/f)
}

// unshown says why a wave at its end doesn't show the success asked for; "": it
// does.
func (r *Run) unshown() string {
	done, failed := r.ended()
	n, bound := done+failed, r.header.Rules.Bound
	if bound == 0 || failed == 0 || wilson(done, n) >= bound {
		return ""
	}
	return fmt.Sprintf("%d of the %d in wave %d failed, which doesn't show that %.4g%% succeed", failed, n, r.header.Wave+1, bound*100)
}

// follow ends the present wave once nobody of it is at work or waited for, and
// begins the next after Soak. The last one soaks where there is a past to compare with.
func (r *Run) follow(now time.Time, there func(id string) bool) {
	h := &r.header
	if h.Settled.IsZero() {
		if len(r.begun) > 0 || r.expects(now, there) || r.unproven() {
			return
		}
		done, failed := r.ended()
		if done+failed+h.Accepted < min(h.Rules.Sample, r.sizes[h.Wave]-r.left()) {
			return
		}
		if why := r.unshown(); why != "" {
			r.halt(why)
			return
		}
		if why := r.skipped(); why != "" {
			h.Heeded = true
			r.halt(why)
			return
		}
		h.Settled, r.touched = now, true
	}
	last := h.Wave == len(h.Rules.Waves)-1
	soaked := now.Sub(h.Settled) >= h.Rules.Soak || r.sizes[h.Wave] == 0
	if soaked {
		r.remember(there)
		if why := r.worse(there); why != "" {
			h.Heeded = true
			r.halt(why)
			return
		}
	}
	switch {
	case last && (soaked || !r.hasPast()):
		h.Phase = Finished
		r.leave("it couldn't begin while the rollout ran", now)
	case soaked && !last:
		if r.opens != nil && r.sizes[h.Wave+1] > 0 && !r.opens(h.Wave+1) {
			return
		}
		if h.Soaked {
			h.Past = h.Wave + 1
		}
		h.Wave, h.WaveAt, h.Settled, h.Failed, h.Accepted, h.Heeded, h.Soaked = h.Wave+1, now, time.Time{}, 0, 0, false, false
	default:
		return
	}
	r.touched = true
}

// expects says whether the present wave still has members to begin: all that
// are there, and for a time those that aren't.
func (r *Run) expects(now time.Time, there func(id string) bool) bool {
	waited := now.Sub(r.header.WaveAt) >= r.waveTime()+r.header.Rules.Patience
	return slices.ContainsFunc(r.queue, func(m *Member) bool {
		return m.State == Waiting && m.Wave <= r.header.Wave && (!waited || there(m.ID))
	})
}

// unproven says whether the present wave's end would show nothing: nobody did it. Where
// all of it failed, people went on.
func (r *Run) unproven() bool {
	if !r.header.Rules.Proof {
		return false
	}
	last := r.header.Wave == len(r.header.Rules.Waves)-1
	waits := false
	for _, m := range r.members {
		if last || m.Wave == r.header.Wave {
			if m.State == Done {
				return false
			}
			waits = waits || m.State == Waiting
		}
	}
	return waits
}

// left counts the present wave's members that took no part after all.
func (r *Run) left() (n int) {
	for _, m := range r.members {
		if m.Wave == r.header.Wave && m.State == Left {
			n++
		}
	}
	return n
}

// skipped says why a wave at its end shows nothing though nobody of it waits; "": it
// does, or people went on.
func (r *Run) skipped() string {
	done, _ := r.ended()
	n := r.left()
	if !r.header.Rules.Proof || r.header.Heeded || r.header.Wave == len(r.header.Rules.Waves)-1 || done > 0 || n == 0 {
		return ""
	}
	return fmt.Sprintf("nobody in wave %d did it: %d of the %d took no part", r.header.Wave+1, n, r.sizes[r.header.Wave])
}

func (r *Run) leave(why string, now time.Time) {
	for _, m := range r.queue {
		if m.State == Waiting {
			r.set(m, Left, why, now)
		}
	}
	r.queue = nil
}

func (r *Run) set(m *Member, state State, note string, now time.Time) {
	m.State, m.At, m.Note = state, now, note
	r.changed[m.ID] = true
}

// Pause lets nobody begin; those at work go on.
func (r *Run) Pause(why string) error {
	if r.header.Phase != Running {
		return fmt.Errorf("it is %s, not running", r.header.Phase)
	}
	r.header.Phase, r.header.Why, r.touched = Paused, why, true
	return nil
}

// Resume goes on. The failures that halted it are accepted: as many more halt
// it again.
func (r *Run) Resume() error {
	if r.header.Phase != Paused && r.header.Phase != Halted {
		return fmt.Errorf("it is %s, neither paused nor halted", r.header.Phase)
	}
	r.header.Accepted = r.header.Failed
	r.header.Phase, r.header.Why, r.touched = Running, "", true
	return nil
}

// Cancel ends it for good: who didn't begin is left as it was.
func (r *Run) Cancel(why string, now time.Time) error {
	if r.header.Phase.Over() {
		return fmt.Errorf("it is %s", r.header.Phase)
	}
	r.header.Phase, r.header.Why, r.touched = Cancelled, why, true
	r.leave("cancelled before its turn", now)
	return nil
}
