package rollout_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/internal/rollout"
)

// A wave whose members show more than those that wait for their turn isn't followed by
// the next, until people went on. What all show alike halts nothing.
func TestWavesAreCompared(t *testing.T) {
	t.Parallel()
	every := func(n int) func(i int) int { return func(int) int { return n } }
	few := func(of, n int) func(i int) int { // every of-th shows n
		return func(i int) int {
			if i%of == 0 {
				return n
			}
			return 0
		}
	}
	for name, tt := range map[string]struct {
		wave, rest func(i int) int // signs of the ith
		halts      string
	}{
		"nothing":                         {every(0), every(0), ""},
		"all alike":                       {every(7), every(7), ""},
		"each of the wave one, and none":  {every(1), every(0), "20 of the 20 done in wave 1 have more than 0 faults since, and of those whose turn hasn't come 0 of 80"},
		"one of 20 one, and none":         {few(20, 1), every(0), ""},
		"some of both":                    {few(10, 3), few(10, 3), ""},
		"more of the wave":                {few(2, 1), few(20, 1), "10 of the 20"},
		"more often than is usual":        {every(9), every(2), "more than 2 faults"},
		"fewer":                           {every(0), every(9), ""},
		"as many as the worst five of 80": {every(9), few(16, 9), "more than 0 faults"},
		"beyond what is counted":          {every(1_000_000), every(1_000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run, now := soaking(t, 100, 0.2)
			w, r := 0, 0
			for _, m := range run.Members() {
				if m.Wave == 0 {
					run.Note(m.ID, "faults", tt.wave(w))
					w++
				} else {
					run.Note(m.ID, "faults", tt.rest(r))
					r++
				}
			}
			run.Look(now.Add(time.Hour-time.Second), all)
			if h := run.Header(); h.Wave != 0 || h.Phase != rollout.Running {
				t.Fatalf("before its time: %+v", h)
			}
			run.Look(now.Add(time.Hour), all)
			h := run.Header()
			if halted := h.Phase == rollout.Halted; halted != (tt.halts != "") || !strings.Contains(h.Why, tt.halts) {
				t.Fatalf("%s in wave %d: %q", h.Phase, h.Wave, h.Why)
			}
			if tt.halts == "" {
				if h.Wave != 1 {
					t.Errorf("%+v", h)
				}
				return
			}
			if err := run.Resume(); err != nil {
				t.Fatal(err)
			}
			if run.Look(now.Add(time.Hour), all); run.Header().Wave != 1 || run.Header().Heeded {
				t.Errorf("people went on, and it is %+v", run.Header())
			}
		})
	}
}

// Those of a wave that are gone count, where the others are there.
func TestWavesThatGoAway(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		away func(m rollout.Member) bool
		want rollout.Phase
	}{
		"the wave":        {func(m rollout.Member) bool { return m.Wave == 0 }, rollout.Halted},
		"everybody":       {func(rollout.Member) bool { return true }, rollout.Running},
		"those who wait":  {func(m rollout.Member) bool { return m.Wave == 1 }, rollout.Running},
		"nobody but one ": {func(m rollout.Member) bool { return m.ID == "m00001" }, rollout.Running},
	} {
		run, now := soaking(t, 20, 0.5)
		away := map[string]bool{}
		for _, m := range run.Members() {
			away[m.ID] = tt.away(m)
		}
		run.Look(now.Add(time.Hour), func(id string) bool { return !away[id] })
		if h := run.Header(); h.Phase != tt.want {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

// soaking is a rollout whose first wave is done, and soaks for an hour.
func soaking(t *testing.T, n int, share float64) (*rollout.Run, time.Time) {
	t.Helper()
	run := begin(t, rules(func(r *rollout.Rules) {
		r.Waves, r.Soak, r.PerMinute, r.Compare = []float64{share, 1}, time.Hour, 100_000, true
	}), candidates(n, n))
	for _, m := range run.Members() {
		run.Note(m.ID, "faults", 50) // before it soaks nothing counts
	}
	for _, m := range run.Begin(start, all) {
		run.Settle(m.ID, rollout.Done, "", start)
	}
	if run.Look(start, all); !run.Soaks() {
		t.Fatalf("%+v", run.Header())
	}
	return run, start
}

// last is a rollout of 100 whose last wave, 80 of them, is done and soaks. What they
// showed before their turn, as noted by before, outlives a crash.
func last(t *testing.T, before func(run *rollout.Run, ids []string), there func(id string) bool) (*rollout.Run, []string, time.Time) {
	t.Helper()
	run, now := soaking(t, 100, 0.2)
	var ids []string
	for _, m := range run.Members() {
		if m.Wave == 1 {
			ids = append(ids, m.ID)
		}
	}
	slices.Sort(ids)
	if before != nil {
		before(run, ids)
	}
	now = now.Add(time.Hour)
	run.Ask(func(int) bool { return false })
	run.Look(now, there)
	// Longer than Soak nothing is of their past.
	for _, id := range ids {
		run.Note(id, "faults", 60)
	}
	run.Ask(nil)
	if run.Look(now, there); run.Header().Wave != 1 {
		t.Fatalf("%+v", run.Header())
	}
	header, members, _ := run.Changes()
	run = rollout.Load(header, members)
	for range 20 { // a twelfth of what may begin in a minute at each call
		now = now.Add(time.Minute)
		for _, m := range run.Begin(now, all) {
			run.Settle(m.ID, rollout.Done, "", now)
		}
	}
	if run.Look(now, all); !run.Soaks() || run.Count()[rollout.Done] != 100 {
		t.Fatalf("%+v, %v", run.Header(), run.Count())
	}
	return run, ids, now
}

// The last wave soaks too, and halts where its members show more than they did before
// their turn.
func TestLastWaveIsComparedWithItsPast(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before, now func(i int) int // faults of the ith
		away, gone  int             // how many aren't there: before, and now
		halts       string
	}{
		"as before":              {func(int) int { return 5 }, func(int) int { return 5 }, 0, 0, ""},
		"fewer":                  {func(int) int { return 5 }, func(int) int { return 0 }, 0, 0, ""},
		"each one":               {func(int) int { return 0 }, func(int) int { return 1 }, 0, 0, "80 of the 80 done in wave 2 have more than 0 faults since, and before their turn 0 of 80"},
		"more than is usual":     {func(int) int { return 2 }, func(int) int { return 9 }, 0, 0, "more than 2 faults since"},
		"others than before":     {func(i int) int { return i % 2 }, func(i int) int { return (i + 1) % 2 }, 0, 0, ""},
		"gone":                   {func(int) int { return 0 }, func(int) int { return 0 }, 0, 40, "40 of the 80 done in wave 2 aren't there any more, and before their turn 0 of 80"},
		"no more gone than once": {func(int) int { return 0 }, func(int) int { return 0 }, 40, 40, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			away := map[string]bool{}
			run, ids, now := last(t, func(run *rollout.Run, ids []string) {
				for i, id := range ids {
					away[id] = i < tt.away
					if n := tt.before(i); n > 0 {
						run.Note(id, "faults", n)
					}
				}
			}, func(id string) bool { return !away[id] })
			clear(away)
			for i, id := range ids {
				away[id] = i < tt.gone
				if n := tt.now(i); n > 0 {
					run.Note(id, "faults", n)
				}
			}
			there := func(id string) bool { return !away[id] }
			if run.Look(now.Add(time.Hour-time.Second), there); run.Header().Phase != rollout.Running {
				t.Fatalf("before its time: %+v", run.Header())
			}
			run.Look(now.Add(time.Hour), there)
			h := run.Header()
			if halted := h.Phase == rollout.Halted; halted != (tt.halts != "") || !strings.Contains(h.Why, tt.halts) || !halted && h.Phase != rollout.Finished {
				t.Fatalf("%s: %q", h.Phase, h.Why)
			}
			if tt.halts == "" {
				return
			}
			if err := run.Resume(); err != nil {
				t.Fatal(err)
			}
			if run.Look(now.Add(time.Hour), there); run.Header().Phase != rollout.Finished {
				t.Errorf("people went on, and it is %+v", run.Header())
			}
		})
	}
}

// Where nobody of the last wave was looked at before its turn, it doesn't soak.
func TestOnlyWaveDoesNotSoak(t *testing.T) {
	t.Parallel()
	run := begin(t, rules(func(r *rollout.Rules) { r.Waves, r.Soak, r.Compare = []float64{1}, time.Hour, true }), candidates(5, 5))
	for _, m := range run.Begin(start, all) {
		run.Settle(m.ID, rollout.Done, "", start)
	}
	if run.Look(start, all); run.Header().Phase != rollout.Finished {
		t.Errorf("%+v", run.Header())
	}
}

// A wave whose members fall silent isn't followed by the next: more of them than before
// their turn, and than of those that wait.
func TestWavesThatFallSilent(t *testing.T) {
	t.Parallel()
	some := func(of int) func(i int) bool { return func(i int) bool { return i%10 < of } } // of ten
	for name, tt := range map[string]struct {
		before, now, rest func(i int) bool // whether the ith shows any
		halts             string
	}{
		"all go on":                 {some(10), some(10), some(10), ""},
		"the wave":                  {some(10), some(0), some(10), "40 of the 40 done in wave 2 that are there have no values since, before their turn it were 0, and of those whose turn hasn't come 0 of 40"},
		"half of the wave":          {some(8), some(3), some(8), "28 of the 40"},
		"everybody":                 {some(10), some(0), some(0), ""},
		"it was silent before":      {some(2), some(2), some(10), ""},
		"others than before":        {func(i int) bool { return i%2 == 0 }, func(i int) bool { return i%2 == 1 }, some(10), ""},
		"more than there ever were": {some(0), some(10), some(0), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := begin(t, rules(func(r *rollout.Rules) {
				r.Waves, r.Soak, r.PerMinute, r.Compare = []float64{0.2, 0.6, 1}, time.Hour, 100_000, true
			}), candidates(100, 100))
			run.Expect("values")
			now := start
			soak := func(shows map[int]func(i int) bool) {
				for _, m := range run.Begin(now, all) {
					run.Settle(m.ID, rollout.Done, "", now)
				}
				run.Look(now, all)
				n, members := map[int]int{}, run.Members()
				slices.SortFunc(members, func(a, b rollout.Member) int { return strings.Compare(a.ID, b.ID) })
				for _, m := range members {
					if shows[m.Wave] != nil && shows[m.Wave](n[m.Wave]) {
						run.Note(m.ID, "values", 1+n[m.Wave])
					}
					n[m.Wave]++
				}
				now = now.Add(time.Hour)
				run.Look(now, all)
			}
			soak(map[int]func(int) bool{1: tt.before, 2: some(10)}) // the first has no past
			if run.Header().Wave != 1 {
				t.Fatalf("%+v", run.Header())
			}
			soak(map[int]func(int) bool{1: tt.now, 2: tt.rest})
			h := run.Header()
			if halted := h.Phase == rollout.Halted; halted != (tt.halts != "") || !strings.Contains(h.Why, tt.halts) || !halted && h.Wave != 2 {
				t.Errorf("%s in wave %d: %q", h.Phase, h.Wave, h.Why)
			}
		})
	}
}

// Of the last wave some were away before and are now: the others are compared with what
// they themselves showed.
func TestLastWaveThatFallsSilentBesideSomeAway(t *testing.T) {
	t.Parallel()
	away := map[string]bool{}
	there := func(id string) bool { return !away[id] }
	run, ids, now := last(t, func(run *rollout.Run, ids []string) {
		run.Expect("values")
		for i, id := range ids {
			if away[id] = i%2 == 0; !away[id] {
				run.Note(id, "values", 3)
			}
		}
	}, there)
	run.Expect("values")
	run.Look(now.Add(time.Hour), there)
	if h := run.Header(); h.Phase != rollout.Halted || !strings.Contains(h.Why, fmt.Sprintf("%d of the %d done in wave 2 that are there have no values since, before their turn it were 0", len(ids)/2, len(ids)/2)) {
		t.Errorf("%s: %q", h.Phase, h.Why)
	}
}
