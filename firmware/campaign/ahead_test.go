package campaign_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/firmware/campaign"
	"bollard/firmware/job"
	"bollard/internal/rollout"
)

// A rollout under way while the clock is half a year ahead for a moment comes to its end
// once it was set right and the server started again: what began by that clock, the pause
// before another try and a limit of the grid take as long as ever.
func TestAfterAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	const half = 182 * 24 * time.Hour
	whole := plan(func(p *campaign.Plan) {
		p.Rings = []campaign.Ring{{Name: "all", Share: 1}}
		p.Rules.FailLimit = 0.5
	})
	for name, tt := range map[string]struct {
		ahead func(w *world) // happens by that clock
		most  time.Duration  // until it is over
	}{
		"begun": {func(w *world) { w.begin(whole) }, 3 * time.Hour},
		"a try that failed": {func(w *world) {
			w.stations["cs-00000"].temper = broken
			w.begin(whole)
			w.run("a try has failed", 2*time.Hour, func() bool {
				list, err := w.store.Jobs(w.t.Context(), "cs-00000", 1)
				return err == nil && len(list) == 1 && list[0].State == job.Failed
			})
			w.stations["cs-00000"].temper = good
		}, 3 * time.Hour},
		"an update under way": {func(w *world) {
			w.stations["cs-00000"].temper = silent
			w.begin(whole)
			w.run("it is sent", time.Hour, func() bool { return w.gate.Open("cs-00000") })
			w.stations["cs-00000"].temper = good
		}, 3 * time.Hour},
		"a limit": {func(w *world) {
			w.rollout.Message("cs-00000", "NotifyChargingLimit", []byte(`{"chargingLimit":{"chargingLimitSource":"SO"}}`))
			w.step(5 * time.Second)
			w.begin(whole)
		}, 27 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, nil)
			w.publish("2.0.0", 20)
			w.at(start.Add(half))
			tt.ahead(w)
			w.mu.Lock()
			w.now, w.queue = start.Add(time.Hour), nil
			w.mu.Unlock()
			w.open()
			if err := w.gate.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.run("it is over", tt.most, w.over)
			if n := w.states(); n[rollout.Done] != 1 {
				t.Errorf("%v", n)
			}
			if list, err := w.store.Limits(t.Context()); err != nil || slices.ContainsFunc(list, func(l campaign.Limit) bool { return l.At.After(w.clock()) }) {
				t.Errorf("%v, %v", list, err)
			}
		})
	}
}

// While the clock is behind what is on record, a rollout waits: nobody is late once it is
// right again, no wave has soaked, and no limit of the grid is dropped.
func TestAfterAClockThatWasBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, func(_ int, m *mobile) { m.st.Site = "" })
	w.publish("2.0.0", 20)
	w.rollout.Message("cs-00000", "NotifyChargingLimit", []byte(`{"chargingLimit":{"chargingLimitSource":"SO"}}`))
	w.step(5 * time.Second)
	for _, m := range w.stations {
		m.temper = silent
	}
	w.begin(plan(func(p *campaign.Plan) {
		p.Rings = []campaign.Ring{{Name: "all", Share: 1}}
	}))
	w.run("somebody is at work", 3*time.Hour, func() bool { return w.states()[rollout.Begun] == 1 })
	before, right := w.progress("2.0.0"), w.clock()
	limits, err := w.store.Limits(t.Context())
	if err != nil || len(limits) != 1 {
		t.Fatal(limits, err)
	}
	w.behind = true
	w.at(right.AddDate(-1, 0, 0))
	if err := w.rollout.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.behind = false
	w.at(right)
	w.open()
	if err := w.rollout.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now, err := w.store.Limits(t.Context()); err != nil || !slices.Equal(now, limits) {
		t.Errorf("limits %v, before %v; %v", now, limits, err)
	}
	if diff := cmp.Diff(before, w.progress("2.0.0")); diff != "" {
		t.Error(diff)
	}
}
