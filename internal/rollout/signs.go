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
	before := m.shown(kind, wave)
	if after := min(before+n, mostSigns); after != before {
		count := map[string]int{}
		if m.Signs.Wave == wave {
			maps.Copy(count, m.Signs.Count)
		}
		count[kind] = after
		m.Signs, r.changed[id] = Signs{wave, count}, true
	}
}

func (m *Member) shown(kind string, wave int) int {
	if m.Signs.Wave != wave {
		return 0
	}
	return m.Signs.Count[kind]
}

// worse says what the present wave's members show more often than those that wait for
// their turn and lived through the same hours; "": nothing.
func (r *Run) worse(there func(id string) bool) string {
	h := &r.header
	if !h.Rules.Compare || h.Heeded {
		return ""
	}
	var done, rest []*Member
	kinds := map[string]bool{}
	gone, away := 0, 0 // of the one and the other
	for _, m := range r.members {
		switch absent := !there(m.ID); {
		case m.State == Done && m.Wave == h.Wave:
			if done = append(done, m); absent {
				gone++
			}
		case m.State == Waiting:
			if rest = append(rest, m); absent {
				away++
			}
		default:
			continue
		}
		if m.Signs.Wave == h.Wave {
			for kind := range m.Signs.Count {
				kinds[kind] = true
			}
		}
	}
	if rises(gone, len(done), away, len(rest)) {
		return fmt.Sprintf("%d of the %d done in wave %d aren't there any more, and of those whose turn hasn't come %d of %d", gone, len(done), h.Wave+1, away, len(rest))
	}
	// Who isn't there shows nothing.
	rest = slices.DeleteFunc(rest, func(m *Member) bool { return !there(m.ID) && m.Signs.Wave != h.Wave })
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		// More of them show any, or more of them show more than is usual.
		for _, bar := range []int{0, usual(rest, kind, h.Wave)} {
			above := func(list []*Member) (n int) {
				for _, m := range list {
					if m.shown(kind, h.Wave) > bar {
						n++
					}
				}
				return n
			}
			if a, b := above(done), above(rest); rises(a, len(done), b, len(rest)) {
				return fmt.Sprintf("%d of the %d done in wave %d have more than %d %s since, and of those whose turn hasn't come %d of %d", a, len(done), h.Wave+1, bar, kind, b, len(rest))
			}
		}
	}
	return ""
}

// usual is what 19 of 20 members don't exceed: of some kinds everybody shows a few, and
// a few members show very many.
func usual(list []*Member, kind string, wave int) int {
	if len(list) == 0 {
		return 0
	}
	counts := make([]int, len(list))
	for i, m := range list {
		counts[i] = m.shown(kind, wave)
	}
	slices.Sort(counts)
	return counts[(len(counts)*19+19)/20-1]
}

// rises says whether a of n is more than b of m by more than chance: their 95 % intervals
// don't meet. Where there is nobody to compare with, nothing is shown.
func rises(a, n, b, m int) bool {
	return n > 0 && m > 0 && wilson(a, n) > 1-wilson(m-b, m)
}
