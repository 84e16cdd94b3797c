package rollout_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bollard/internal/rollout"
)

// machine does to a rollout what time, operators, members and crashes do, in
// any order, and watches what must hold all the while.
type machine struct {
	run    *rollout.Run
	rules  rollout.Rules
	header rollout.Header            // as stored
	stored map[string]rollout.Member // as stored
	now    time.Time
	absent map[string]bool
	begins map[string][]time.Time
	at     []time.Time // all beginnings
}

func (m *machine) present(id string) bool { return !m.absent[id] }

func (m *machine) store() {
	header, members, changed := m.run.Changes()
	if !changed {
		return
	}
	m.header = header
	for _, x := range members {
		m.stored[x.ID] = x
	}
}

// crash goes on from what was stored: the same code path as a kill.
func (m *machine) crash(*rapid.T) {
	m.run = rollout.Load(m.header, slices.Collect(maps.Values(m.stored)))
}

func (m *machine) begin(t *rapid.T) {
	before := m.run.Header()
	for _, x := range m.run.Begin(m.now, m.present) {
		switch {
		case before.Phase != rollout.Running:
			t.Fatalf("%s began while %s", x.ID, before.Phase)
		case x.Wave > before.Wave:
			t.Fatalf("%s of wave %d began in wave %d", x.ID, x.Wave, before.Wave)
		case m.absent[x.ID]:
			t.Fatalf("%s began and isn't there", x.ID)
		}
		m.begins[x.ID] = append(m.begins[x.ID], m.now)
		m.at = append(m.at, m.now)
	}
	m.store() // before anything is done with them
}

func (m *machine) settle(t *rapid.T) {
	work := m.run.AtWork()
	if len(work) == 0 {
		t.Skip("nobody is at work")
	}
	x := rapid.SampledFrom(work).Draw(t, "member")
	m.run.Settle(x.ID, rapid.SampledFrom([]rollout.State{rollout.Done, rollout.Done, rollout.Failed}).Draw(t, "outcome"), "", m.now)
	m.store()
}

func (m *machine) pass(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 1200).Draw(t, "seconds")) * time.Second)
	wave, settled := m.run.Header().Wave, m.run.Header().Settled
	m.run.Look(m.now, m.present)
	if h := m.run.Header(); h.Wave > wave {
		if m.run.Count()[rollout.Begun] > 0 {
			t.Fatal("a wave follows while members of the one before are at work")
		}
		// A wave nobody is in has nothing to show.
		empty := true
		for _, x := range m.stored {
			empty = empty && x.Wave != wave
		}
		if m.rules.Soak > 0 && !empty && (settled.IsZero() || m.now.Sub(settled) < m.rules.Soak) {
			t.Fatal("a wave follows before its time")
		}
	} else if h.Phase == rollout.Finished && h.Past > 0 && (settled.IsZero() && m.rules.Soak > 0 || m.now.Sub(h.Settled) < m.rules.Soak) {
		t.Fatal("it ends before its last wave was compared")
	}
	m.store()
}

func (m *machine) check(t *rapid.T) {
	for id, list := range m.begins {
		if len(list) > 1 {
			t.Fatalf("%s began %d times", id, len(list))
		}
	}
	for i, from := range m.at {
		n := 0
		for _, at := range m.at[i:] {
			if at.Sub(from) < time.Minute {
				n++
			}
		}
		if n > m.rules.PerMinute {
			t.Fatalf("%d began within a minute, %d may", n, m.rules.PerMinute)
		}
	}
	sites := map[string]int{}
	for _, x := range m.run.AtWork() {
		if sites[x.Site]++; m.rules.PerSite > 0 && sites[x.Site] > m.rules.PerSite {
			t.Fatalf("%d of %s at work, %d may", sites[x.Site], x.Site, m.rules.PerSite)
		}
	}
	total := 0
	for _, n := range m.run.Count() {
		total += n
	}
	if total != len(m.stored) {
		t.Fatalf("%d of %d members are left", total, len(m.stored))
	}
}

func TestRolloutModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "members")
		m := &machine{now: start, absent: map[string]bool{}, begins: map[string][]time.Time{}, stored: map[string]rollout.Member{}}
		m.rules = rollout.Rules{
			Waves:     rapid.SampledFrom([][]float64{{1}, {0.1, 1}, {0.05, 0.3, 1}}).Draw(t, "waves"),
			Patience:  30 * time.Minute,
			Soak:      rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "soak"),
			Spread:    rapid.SampledFrom([]time.Duration{0, 3 * time.Hour}).Draw(t, "spread"),
			PerMinute: rapid.IntRange(1, 50).Draw(t, "per minute"),
			PerSite:   rapid.IntRange(0, 2).Draw(t, "per site"),
			Sample:    rapid.SampledFrom([]int{0, 5}).Draw(t, "sample"),
			Proof:     rapid.Bool().Draw(t, "proof"),
			Compare:   rapid.Bool().Draw(t, "compare"),
			Bound:     rapid.SampledFrom([]float64{0, 0.9}).Draw(t, "bound"),
			FailLimit: rapid.SampledFrom([]float64{0, 0.2, 0.9}).Draw(t, "limit"),
		}
		run, err := rollout.New(m.rules, "seed", candidates(n, 3), start)
		if err != nil {
			t.Fatal(err)
		}
		m.run = run
		m.store()
		t.Repeat(map[string]func(*rapid.T){
			"begin":  m.begin,
			"begin2": m.begin,
			"settle": m.settle,
			"pass":   m.pass,
			"crash":  m.crash,
			"come or go": func(t *rapid.T) {
				id := fmt.Sprintf("m%05d", rapid.IntRange(0, n-1).Draw(t, "who"))
				m.absent[id] = !m.absent[id]
			},
			"note": func(t *rapid.T) {
				m.run.Note(fmt.Sprintf("m%05d", rapid.IntRange(0, n-1).Draw(t, "whose")), rapid.SampledFrom([]string{"faults", "reconnects"}).Draw(t, "kind"), rapid.IntRange(1, 200).Draw(t, "signs"))
				m.store()
			},
			"pause":  func(*rapid.T) { _ = m.run.Pause("by hand"); m.store() },
			"resume": func(*rapid.T) { _ = m.run.Resume(); m.store() },
			"":       m.check,
		})
		// Whatever happened: resumed, and with everybody there, it comes to its end.
		clear(m.absent)
		for range 2000 {
			if m.run.Header().Phase.Over() {
				break
			}
			_ = m.run.Resume()
			m.begin(t)
			for _, x := range m.run.AtWork() {
				m.run.Settle(x.ID, rollout.Done, "", m.now)
			}
			m.now = m.now.Add(2 * time.Minute)
			m.run.Look(m.now, m.present)
			m.store()
			m.check(t)
		}
		if got := m.run.Count(); m.run.Header().Phase != rollout.Finished || got[rollout.Waiting]+got[rollout.Begun] > 0 {
			t.Fatalf("it ends %s with %v", m.run.Header().Phase, got)
		}
	})
}
