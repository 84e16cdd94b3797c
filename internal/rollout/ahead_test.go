package rollout_test

import (
	"testing"
	"time"

	"bollard/internal/rollout"
)

// What began by a clock that was a year ahead goes on as if it began when that was set
// right, and takes no year: also from what is stored.
func TestAfterAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	ahead := start.Add(365 * 24 * time.Hour)
	for name, before := range map[string]func(run *rollout.Run){ // what happens by that clock
		"begun":  func(*rollout.Run) {},
		"worked": func(run *rollout.Run) { run.Begin(ahead, all) },
		"soaks": func(run *rollout.Run) {
			for _, m := range run.Begin(ahead, all) {
				run.Settle(m.ID, rollout.Done, "", ahead)
			}
			run.Look(ahead, all)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run, err := rollout.New(rules(func(r *rollout.Rules) {
				r.Waves, r.PerMinute, r.Soak, r.Spread = []float64{0.05, 1}, 1, time.Hour, time.Hour
			}), "seed", candidates(20, 20), ahead)
			if err != nil {
				t.Fatal(err)
			}
			before(run)
			run = rollout.Load(run.Header(), run.Members())
			began := run.AtWork()
			if run.Look(start, all); len(run.AtWork()) != len(began) {
				t.Fatal("somebody is late at once")
			}
			if header, members, changed := run.Changes(); !changed || header.WaveAt.After(start) || header.Settled.After(start) || len(members) != len(began) {
				t.Fatalf("%t: %+v is stored, with %d of %d members", changed, header, len(members), len(began))
			}
			for now := start; !run.Header().Phase.Over(); now = now.Add(time.Minute) {
				if now.Sub(start) > 6*time.Hour {
					t.Fatalf("%+v, %v", run.Header(), run.Count())
				}
				for _, m := range run.Begin(now, all) {
					run.Settle(m.ID, rollout.Done, "", now)
				}
				if run.Look(now, all); run.Header().Phase == rollout.Halted { // those at work are late after an hour, and that is that
					if now.Sub(start) != time.Hour || len(began) == 0 {
						t.Fatalf("after %s: %+v", now.Sub(start), run.Header())
					}
					if err := run.Resume(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if n := run.Count(); n[rollout.Done]+n[rollout.Failed] != 20 || n[rollout.Failed] != len(began) {
				t.Errorf("%v", n)
			}
		})
	}
}
