package rollout_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/internal/rollout"
)

var start = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func candidates(n, sites int) []rollout.Candidate {
	list := make([]rollout.Candidate, n)
	for i := range list {
		list[i] = rollout.Candidate{ID: fmt.Sprintf("m%05d", i), Site: fmt.Sprintf("site%d", i%sites)}
	}
	return list
}

func rules(edit func(*rollout.Rules)) rollout.Rules {
	r := rollout.Rules{Waves: []float64{0.1, 1}, Patience: time.Hour, PerMinute: 600, FailLimit: 0.05}
	if edit != nil {
		edit(&r)
	}
	return r
}

func begin(t *testing.T, r rollout.Rules, list []rollout.Candidate) *rollout.Run {
	t.Helper()
	run, err := rollout.New(r, "seed", list, start)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func all(string) bool { return true }

func TestRulesAreChecked(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*rollout.Rules){
		"no waves":        func(r *rollout.Rules) { r.Waves = nil },
		"not all":         func(r *rollout.Rules) { r.Waves = []float64{0.5} },
		"more than all":   func(r *rollout.Rules) { r.Waves = []float64{0.5, 2, 1} },
		"falling":         func(r *rollout.Rules) { r.Waves = []float64{0.5, 0.1, 1} },
		"twice":           func(r *rollout.Rules) { r.Waves = []float64{0.5, 0.5, 1} },
		"less than none":  func(r *rollout.Rules) { r.Waves = []float64{-0.1, 1} },
		"sample":          func(r *rollout.Rules) { r.Sample = -1 },
		"certainty":       func(r *rollout.Rules) { r.Bound = 1 },
		"no pace":         func(r *rollout.Rules) { r.PerMinute = 0 },
		"site":            func(r *rollout.Rules) { r.PerSite = -1 },
		"all may fail":    func(r *rollout.Rules) { r.FailLimit = 1 },
		"no patience":     func(r *rollout.Rules) { r.Patience = 0 },
		"endless":         func(r *rollout.Rules) { r.Spread = 1000 * time.Hour * 24 },
		"backward spread": func(r *rollout.Rules) { r.Spread = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := rollout.New(rules(edit), "seed", candidates(3, 1), start); err == nil {
				t.Error("taken")
			}
		})
	}
}

// Who is in which wave is the same each time, and no site or beginning of the
// alphabet has the first wave to itself.
func TestWavesAreStableAndMixed(t *testing.T) {
	t.Parallel()
	list := candidates(1000, 10)
	waves := func(list []rollout.Candidate, seed string) map[string]int {
		run, err := rollout.New(rules(func(r *rollout.Rules) { r.Waves = []float64{0.01, 0.1, 1} }), seed, list, start)
		if err != nil {
			t.Fatal(err)
		}
		_, members, _ := run.Changes()
		out := map[string]int{}
		for _, m := range members {
			out[m.ID] = m.Wave
		}
		return out
	}
	first := waves(list, "seed")
	reversed := slices.Clone(list)
	slices.Reverse(reversed)
	if diff := cmp.Diff(first, waves(reversed, "seed")); diff != "" {
		t.Error("the order of the list matters:", diff)
	}
	if cmp.Equal(first, waves(list, "other")) {
		t.Error("another rollout has the same canaries")
	}
	sizes, sites := map[int]int{}, map[string]bool{}
	for _, c := range list {
		sizes[first[c.ID]]++
		if first[c.ID] == 1 {
			sites[c.Site] = true
		}
	}
	if !cmp.Equal(sizes, map[int]int{0: 10, 1: 90, 2: 900}) || len(sites) < 8 {
		t.Errorf("waves %v, second one over %d sites", sizes, len(sites))
	}
	if few := waves(candidates(3, 1), "seed"); len(few) != 3 {
		t.Errorf("three members: %v", few)
	}
}

// The first wave is no site's and no model's alone, and has those that were named.
func TestFirstWaveIsMixed(t *testing.T) {
	t.Parallel()
	var list []rollout.Candidate
	for i := range 1000 {
		kind := "common"
		if i%100 == 7 {
			kind = "rare"
		}
		list = append(list, rollout.Candidate{ID: fmt.Sprintf("m%05d", i), Site: fmt.Sprintf("site%d", i/10), Kind: kind, First: i == 501 || i == 502})
	}
	run := begin(t, rules(func(r *rollout.Rules) { r.Waves = []float64{0, 0.01, 1} }), list)
	byID := map[string]rollout.Candidate{}
	for _, c := range list {
		byID[c.ID] = c
	}
	sites, kinds, sizes := map[string]int{}, map[string]int{}, map[int]int{}
	for _, m := range run.Members() {
		c := byID[m.ID]
		sizes[m.Wave]++
		if (m.Wave == 0) != c.First {
			t.Errorf("%s in wave %d", m.ID, m.Wave)
		}
		if m.Wave == 1 {
			sites[c.Site]++
			kinds[c.Kind]++
		}
	}
	if !cmp.Equal(sizes, map[int]int{0: 2, 1: 8, 2: 990}) || len(sites) != 8 || kinds["rare"] == 0 || kinds["common"] == 0 {
		t.Errorf("waves %v; the second has sites %v and kinds %v", sizes, sites, kinds)
	}
	// Nobody was named: the wave of those named is over at once.
	run = begin(t, rules(func(r *rollout.Rules) { r.Waves, r.Soak = []float64{0, 1}, 24*time.Hour }), candidates(10, 10))
	run.Look(start, all)
	if run.Header().Wave != 1 {
		t.Errorf("%+v", run.Header())
	}
}

// A wave that doesn't show the success asked for halts at its end; a decision
// accepts what failed.
func TestBoundOfSuccess(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		wave, failures int
		halted         bool
	}{
		{"ten of ten: too small to show it, and none failed", 10, 0, false},
		{"nine of ten", 10, 1, true},
		{"three of 1,000 show 99 %", 1000, 3, false},
		{"nine of 1,000 don't", 1000, 9, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			run := begin(t, rules(func(r *rollout.Rules) {
				r.Waves, r.FailLimit, r.Bound, r.PerMinute = []float64{0.5, 1}, 0.5, 0.99, 100_000
			}), candidates(2*tt.wave, 2*tt.wave))
			now, failures := start, 0
			for ; run.Header().Phase == rollout.Running && run.Header().Wave == 0; now = now.Add(time.Minute) {
				for _, m := range run.Begin(now, all) {
					state := rollout.Done
					if failures < tt.failures {
						state, failures = rollout.Failed, failures+1
					}
					run.Settle(m.ID, state, "", now)
				}
				run.Look(now, all)
			}
			if halted := run.Header().Phase == rollout.Halted; halted != tt.halted {
				t.Fatalf("%+v", run.Header())
			}
			if tt.halted {
				if err := run.Resume(); err != nil {
					t.Fatal(err)
				}
				if run.Look(now, all); run.Header().Wave != 1 {
					t.Errorf("the same failures halted it again: %+v", run.Header())
				}
			}
		})
	}
}

// A wave waits for its sample, however long members are away.
func TestSampleIsWaitedFor(t *testing.T) {
	t.Parallel()
	run := begin(t, rules(func(r *rollout.Rules) { r.Waves, r.Sample, r.PerMinute = []float64{0.5, 1}, 8, 100_000 }), candidates(20, 20))
	there := map[string]bool{}
	present := func(id string) bool { return there[id] }
	now := start
	for n := 0; run.Header().Wave == 0; now = now.Add(time.Minute) {
		if now.Sub(start)%(24*time.Hour) == 0 { // one a day comes
			for _, m := range run.Members() {
				if m.Wave == 0 && !there[m.ID] {
					there[m.ID], n = true, n+1
					break
				}
			}
		}
		for _, m := range run.Begin(now, present) {
			run.Settle(m.ID, rollout.Done, "", now)
		}
		if run.Look(now, present); run.Header().Wave == 1 && n != 8 {
			t.Fatalf("the next wave began after %d", n)
		}
	}
}

// With Proof no wave ends that nobody did, unless people accepted that all of it failed.
func TestProof(t *testing.T) {
	t.Parallel()
	list := candidates(20, 20)
	proof := func(r *rollout.Rules) { r.Waves, r.Proof, r.FailLimit = []float64{0.1, 1}, true, 0.5 }
	nobody := func(string) bool { return false }
	run := begin(t, rules(proof), list)
	now := start.Add(1000 * time.Hour)
	if run.Look(now, nobody); run.Header().Wave != 0 || !run.Header().Settled.IsZero() {
		t.Errorf("nobody was there: %+v", run.Header())
	}
	one := run.Begin(now, func(string) bool { return true })[0]
	run.Settle(one.ID, rollout.Failed, "", now)
	if run.Look(now, nobody); run.Header().Wave != 0 {
		t.Errorf("one of two failed, and nobody did it: %+v", run.Header())
	}
	run = begin(t, rules(proof), list)
	run.Settle(run.Begin(now, func(string) bool { return true })[0].ID, rollout.Done, "", now)
	for _, m := range run.AtWork() {
		run.Settle(m.ID, rollout.Done, "", now)
	}
	run.Look(now, nobody)
	if run.Look(now.Add(1000*time.Hour), nobody); run.Header().Phase != rollout.Finished {
		t.Errorf("the first wave did it, and the others never came: %+v", run.Header())
	}
}

func TestHaltFromOutside(t *testing.T) {
	t.Parallel()
	run := begin(t, rules(nil), candidates(100, 1))
	run.Begin(start, all)
	run.Halt("a station called its signature invalid")
	if got := run.Begin(start.Add(time.Minute), all); len(got) > 0 || run.Header().Phase != rollout.Halted {
		t.Errorf("halted, and %d begin", len(got))
	}
	if err := run.Cancel("", start); err != nil {
		t.Fatal(err)
	}
	if run.Halt("again"); run.Header().Phase != rollout.Cancelled {
		t.Error("what is over was halted")
	}
}

func TestHaltsWhereTheLimitSays(t *testing.T) {
	t.Parallel()
	// 100 in the first wave, of which 5 may fail.
	run := begin(t, rules(nil), candidates(1000, 1000))
	now, failed := start, 0
	for len(run.AtWork()) > 0 || now.Equal(start) {
		run.Begin(now, all)
		for _, m := range run.AtWork() {
			state := rollout.Done
			if failed < 6 {
				state, failed = rollout.Failed, failed+1
			}
			run.Settle(m.ID, state, "", now)
			run.Look(now, all)
			if phase := run.Header().Phase; phase != rollout.Running != (failed == 6) {
				t.Fatalf("%s after %d failures", phase, failed)
			}
		}
		now = now.Add(5 * time.Second)
	}
	h := run.Header()
	if h.Phase != rollout.Halted || h.Why != "6 of the 100 in wave 1 failed, 5 are allowed" {
		t.Fatalf("%+v", h)
	}
	if got := run.Begin(now.Add(time.Hour), all); len(got) > 0 {
		t.Error("halted, and members begin")
	}
	// A decision accepts these failures and no more than the limit of others.
	if err := run.Resume(); err != nil {
		t.Fatal(err)
	}
	run.Look(now, all)
	if run.Header().Phase != rollout.Running {
		t.Error("the same failures halted it again")
	}
}

func TestSpreadAndSoak(t *testing.T) {
	t.Parallel()
	run := begin(t, rules(func(r *rollout.Rules) { r.Spread, r.Soak = 100*time.Hour, 24*time.Hour }), candidates(1000, 1))
	began := map[int][]time.Time{}
	now := start
	for ; run.Header().Phase == rollout.Running && now.Before(start.Add(300*time.Hour)); now = now.Add(5 * time.Minute) {
		for _, m := range run.Begin(now, all) {
			began[m.Wave] = append(began[m.Wave], now)
			run.Settle(m.ID, rollout.Done, "", now)
		}
		run.Look(now, all)
	}
	if run.Header().Phase != rollout.Finished || len(began[0]) != 100 || len(began[1]) != 900 {
		t.Fatalf("%+v, %d and %d began", run.Header(), len(began[0]), len(began[1]))
	}
	for wave, least := range []time.Duration{9 * time.Hour, 85 * time.Hour} {
		if took := began[wave][len(began[wave])-1].Sub(began[wave][0]); took < least {
			t.Errorf("wave %d began within %s", wave, took)
		}
	}
	if pause := began[1][0].Sub(began[0][99]); pause < 24*time.Hour {
		t.Errorf("next wave %s after the last", pause)
	}
}

// Absent members are waited for, then the waves go on without them; who comes
// late takes part, who never comes is named.
func TestAbsentMembers(t *testing.T) {
	t.Parallel()
	run := begin(t, rules(nil), candidates(100, 1))
	_, members, _ := run.Changes()
	var first []string
	for _, m := range members {
		if m.Wave == 0 {
			first = append(first, m.ID)
		}
	}
	late, never := first[0], first[1]
	now, began := start, map[string]time.Time{}
	for ; !run.Header().Phase.Over() && now.Before(start.Add(10*time.Hour)); now = now.Add(time.Minute) {
		present := func(id string) bool { return id != never && (id != late || now.After(start.Add(90*time.Minute))) }
		for _, m := range run.Begin(now, present) {
			began[m.ID] = now
			run.Settle(m.ID, rollout.Done, "", now)
		}
		run.Look(now, present)
	}
	if got := run.Count(); run.Header().Phase != rollout.Finished || got[rollout.Done] != 99 || got[rollout.Left] != 1 {
		t.Fatalf("%s: %v", run.Header().Phase, got)
	}
	if at := began[late].Sub(start); at < 90*time.Minute || at > 92*time.Minute {
		t.Errorf("the late one began after %s", at)
	}
	if _, did := began[never]; did {
		t.Error("an absent member began")
	}
}

func TestPauseResumeCancel(t *testing.T) {
	t.Parallel()
	run := begin(t, rules(nil), candidates(100, 1))
	if err := run.Resume(); err == nil {
		t.Error("resumed while running")
	}
	if err := run.Pause("lunch"); err != nil || run.Header().Why != "lunch" {
		t.Fatal(err)
	}
	if err := run.Pause("again"); err == nil {
		t.Error("paused twice")
	}
	if got := run.Begin(start, all); len(got) > 0 {
		t.Error("paused, and members begin")
	}
	if err := run.Resume(); err != nil {
		t.Fatal(err)
	}
	if got := run.Begin(start, all); len(got) == 0 {
		t.Error("nobody begins after the pause")
	}
	if err := run.Cancel("mistake", start); err != nil {
		t.Fatal(err)
	}
	if n := run.Count(); n[rollout.Waiting] != 0 || n[rollout.Left]+n[rollout.Begun] != 100 {
		t.Errorf("%v", n)
	}
	if err := run.Cancel("", start); err == nil {
		t.Error("cancelled twice")
	}
	if err := run.Pause(""); err == nil {
		t.Error("paused when over")
	}
}
