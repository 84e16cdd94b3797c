package rollout

import (
	"fmt"
	"maps"
	"slices"
)

// Signs are what a member showed while a wave soaked, by kind.
type Signs struct {
	Wave  int            `json:"wave"`
	Count map[string]int `json:"count,omitempty"`
	// Past is what it showed while a wave before its own soaked; nil: nothing.
	Past *Past `json:"past,omitempty"`
}

// Past is what a member showed before its turn, as long as Rules.Soak says.
type Past struct {
	Wave  int            `json:"wave"`
	Count map[string]int `json:"count,omitempty"`
	Gone  bool           `json:"gone,omitempty"` // at the end of it
}

// mostSigns bounds what is counted of one kind: beyond it a member says nothing new.
const mostSigns = 100

// Soaks says whether the present wave came to its end, and the next hasn't begun.
func (r *Run) Soaks() bool { return r.header.Phase == Running && !r.header.Settled.IsZero() }

// Note counts signs of a kind that a member shows. They count while a wave soaks: those
// of its members that are done, and of members that wait for their turn.
func (r *Run) Note(id, kind string, n int) {
	m, wave := r.members[id], r.header.Wave
	if m == nil || !r.Soaks() || m.State != Waiting && (m.State != Done || m.Wave != wave) {
		return
	}
	before := m.shown(wave)[kind]
	if after := min(before+n, mostSigns); after != before {
		count := map[string]int{}
		maps.Copy(count, m.shown(wave))
		count[kind] = after
		m.Signs, r.changed[id] = Signs{wave, count, m.Signs.Past}, true
	}
}

func (m *Member) shown(wave int) map[string]int {
	if m.Signs.Wave != wave {
		return nil
	}
	return m.Signs.Count
}

// remember keeps, once a wave, what members that wait for their turn showed.
func (r *Run) remember(there func(id string) bool) {
	h := &r.header
	if !h.Rules.Compare || h.Soaked || r.sizes[h.Wave] == 0 {
		return
	}
	for id, m := range r.members {
		gone, count := !there(id), m.shown(h.Wave)
		if m.State == Waiting && (gone || len(count) > 0) {
			m.Signs.Past, r.changed[id] = &Past{h.Wave, count, gone}, true
		}
	}
	h.Soaked, r.touched = true, true
}

// hasPast says whether the present wave's members were looked at before their turn.
func (r *Run) hasPast() bool { return r.header.Past > 0 }

// view is what one member showed.
type view struct {
	gone  bool
	count map[string]int
}

// above counts those that showed more of a kind than a bar.
func above(list []view, kind string, bar int) (n int) {
	for _, v := range list {
		if v.count[kind] > bar {
			n++
		}
	}
	return n
}

func gone(list []view) (n int) {
	for _, v := range list {
		if v.gone {
			n++
		}
	}
	return n
}

// views are of the present wave's members that are done: now, and before their turn; and
// of those that wait for theirs.
func (r *Run) views(there func(id string) bool) (done, past, rest []view) {
	h := &r.header
	for _, m := range r.members {
		now := view{!there(m.ID), m.shown(h.Wave)}
		switch {
		case m.State == Done && m.Wave == h.Wave:
			done = append(done, now)
			if p := m.Signs.Past; p != nil && p.Wave == h.Past-1 {
				past = append(past, view{p.Gone, p.Count})
			} else {
				past = append(past, view{})
			}
		case m.State == Waiting:
			rest = append(rest, now)
		}
	}
	return done, past, rest
}

// worse says what the present wave's members show more often than those that wait for
// their turn and lived through the same hours; "": nothing. Where the last wave is done
// nobody waits, and its members are compared with themselves as they were.
func (r *Run) worse(there func(id string) bool) string {
	h := &r.header
	if !h.Rules.Compare || h.Heeded {
		return ""
	}
	done, past, rest := r.views(there)
	others, whose := rest, "of those whose turn hasn't come"
	if h.Wave == len(h.Rules.Waves)-1 {
		if !r.hasPast() {
			return ""
		}
		rest, others, whose = nil, past, "before their turn"
	}
	if a, b := gone(done), gone(others); rises(a, len(done), b, len(others)) {
		return fmt.Sprintf("%d of the %d done in wave %d aren't there any more, and %s %d of %d", a, len(done), h.Wave+1, whose, b, len(others))
	}
	// Who isn't there shows nothing.
	others = slices.DeleteFunc(slices.Clone(others), func(v view) bool { return v.gone && len(v.count) == 0 })
	kinds := map[string]bool{}
	for _, v := range slices.Concat(done, others) {
		for kind := range v.count {
			kinds[kind] = true
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		if slices.Contains(r.steady, kind) {
			continue
		}
		// More of them show any, or more of them show more than is usual.
		for _, bar := range []int{0, usual(others, kind)} {
			if a, b := above(done, kind, bar), above(others, kind, bar); rises(a, len(done), b, len(others)) {
				return fmt.Sprintf("%d of the %d done in wave %d have more than %d %s since, and %s %d of %d", a, len(done), h.Wave+1, bar, kind, whose, b, len(others))
			}
		}
	}
	for _, kind := range r.steady {
		if why := r.silent(done, past, rest, kind); why != "" {
			return why
		}
	}
	return ""
}

// silent says whether more of those that are done, and there, show nothing of a kind than
// before their turn, and than those that wait for theirs. Neither alone tells: every
// member may be quiet on a Sunday, and some always are.
func (r *Run) silent(done, past, rest []view, kind string) string {
	if !r.hasPast() {
		return ""
	}
	n, quiet, were := 0, 0, 0
	for i, v := range done {
		if v.gone {
			continue
		}
		n++
		if v.count[kind] == 0 {
			quiet++
		}
		if past[i].count[kind] == 0 {
			were++
		}
	}
	rest = slices.DeleteFunc(slices.Clone(rest), func(v view) bool { return v.gone })
	others := len(rest) - above(rest, kind, 0)
	if !rises(quiet, n, were, n) || len(rest) > 0 && !rises(quiet, n, others, len(rest)) {
		return ""
	}
	return fmt.Sprintf("%d of the %d done in wave %d that are there have no %s since, before their turn it were %d, and of those whose turn hasn't come %d of %d", quiet, n, r.header.Wave+1, kind, were, others, len(rest))
}

// usual is what 19 of 20 members don't exceed: of some kinds everybody shows a few, and
// a few members show very many.
func usual(list []view, kind string) int {
	if len(list) == 0 {
		return 0
	}
	counts := make([]int, len(list))
	for i, v := range list {
		counts[i] = v.count[kind]
	}
	slices.Sort(counts)
	return counts[(len(counts)*19+19)/20-1]
}

// rises says whether a of n is more than b of m by more than chance: their 95 % intervals
// don't meet. Where there is nobody to compare with, nothing is shown.
func rises(a, n, b, m int) bool {
	return n > 0 && m > 0 && wilson(a, n) > 1-wilson(m-b, m)
}
