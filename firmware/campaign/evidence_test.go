package campaign_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/firmware/campaign"
	"bollard/firmware/catalogue"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/internal/rollout"
	"bollard/internal/window"
)

// A ring whose stations' window is shut, or that aren't there, shows nothing: none
// follows on it, and a release that nobody has isn't complete.
func TestRingsNeedEvidence(t *testing.T) {
	t.Parallel()
	rings := plan(func(p *campaign.Plan) {
		p.Rings = []campaign.Ring{{Name: "canary", Share: 0.2}, {Name: "early", Share: 0.5}, {Name: "rest", Share: 1}}
		p.Rules.Soak = 24 * time.Hour
	})
	t.Run("window of a week", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, 10, func(_ int, m *mobile) { m.st.Site = "" })
		sunday, err := window.Parse("sun 01:00-05:00 UTC")
		if err != nil {
			t.Fatal(err)
		}
		w.windows[""] = window.Windows{sunday}
		w.publish("2.0.0", 20)
		w.begin(rings)
		w.run("it is over", 30*24*time.Hour, w.over)
		days := map[int]map[string]bool{0: {}, 1: {}, 2: {}}
		for _, m := range w.progress("2.0.0").Members {
			if m.State != rollout.Done {
				t.Errorf("%s is %s", m.ID, m.State)
			}
			days[m.Wave][m.Began.Format(time.DateOnly)] = true
		}
		for wave, want := range []string{"2026-06-07", "2026-06-14", "2026-06-21"} {
			if len(days[wave]) != 1 || !days[wave][want] {
				t.Errorf("ring %d began on %v, not on %s", wave, days[wave], want)
			}
		}
	})
	for name, tt := range map[string]struct {
		version string
		state   rollout.State
		phase   rollout.Phase
	}{
		"it ran before its turn": {"2.0.0", rollout.Done, rollout.Running},
		"it runs a newer one":    {"3.0.0", rollout.Left, rollout.Halted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 5, func(_ int, m *mobile) { m.st.Site = "" })
			releases := map[string]*release.Release{"2.0.0": w.publish("2.0.0", 20), "3.0.0": w.publish("3.0.0", 30)}
			canary := ""
			w.begin(rings)
			for _, m := range w.progress("2.0.0").Members {
				if m.Wave == 0 {
					canary = m.ID
				}
			}
			if got := w.asks(canary, releases[tt.version]); !strings.Contains(got, "Accepted") {
				t.Fatal(got)
			}
			settled := func() rollout.Member {
				list := w.progress("2.0.0").Members
				return list[slices.IndexFunc(list, func(m rollout.Member) bool { return m.ID == canary })]
			}
			w.run("it is settled", 3*time.Hour, func() bool { s := settled().State; return s != rollout.Waiting && s != rollout.Begun })
			w.step(time.Minute)
			if p := w.progress("2.0.0"); settled().State != tt.state || p.Header.Phase != tt.phase || p.Header.Wave != 0 {
				t.Errorf("%+v, %+v", settled(), p.Header)
			}
			if tt.phase == rollout.Running {
				return
			}
			if _, err := w.rollout.Resume(t.Context(), "operator", "2.0.0", "others may"); err != nil {
				t.Fatal(err)
			}
			w.run("it is over", 90*time.Hour, w.over)
			if n := w.states(); n[rollout.Done] != 4 || n[rollout.Left] != 1 {
				t.Errorf("%v", n)
			}
		})
	}
	t.Run("one with a shut window", func(t *testing.T) { // the others show enough
		t.Parallel()
		w := newWorld(t, 10, func(i int, m *mobile) {
			if m.st.Site = ""; i < 2 {
				m.st.Group = "lab"
			}
			if i == 0 {
				m.st.Site = "shut"
			}
		})
		sunday, err := window.Parse("sun 01:00-05:00 UTC")
		if err != nil {
			t.Fatal(err)
		}
		w.windows["shut"] = window.Windows{sunday}
		w.publish("2.0.0", 20)
		w.begin(plan(func(p *campaign.Plan) {
			p.Rings = []campaign.Ring{{Name: "lab", Share: 0}, {Name: "rest", Share: 1}}
		}))
		w.run("it is over", 30*24*time.Hour, w.over)
		for _, m := range w.progress("2.0.0").Members {
			if m.Wave == 1 && m.Began.Before(time.Date(2026, 6, 7, 1, 0, 0, 0, time.UTC)) {
				t.Errorf("%s of the next ring began at %s", m.ID, m.Began)
			}
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, 10, func(_ int, m *mobile) { m.st.Site, m.away = "", true })
		w.publish("2.0.0", 20)
		w.begin(rings)
		for range 30 {
			w.step(24 * time.Hour)
		}
		if p := w.progress("2.0.0"); p.Header.Wave != 0 || p.Header.Phase != rollout.Running {
			t.Errorf("%+v", p.Header)
		}
	})
	t.Run("all failed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, 2, func(_ int, m *mobile) { m.st.Site, m.temper = "", pretends })
		w.publish("2.0.0", 20)
		w.begin(plan(func(p *campaign.Plan) { p.Rings = []campaign.Ring{{Name: "all", Share: 1}} }))
		w.run("it halts", time.Hour, func() bool { return w.progress("2.0.0").Header.Phase == rollout.Halted })
		for range 10 {
			w.step(time.Minute)
		}
		if _, err := w.rollout.Resume(t.Context(), "operator", "2.0.0", "there is no other"); err != nil {
			t.Fatal(err)
		}
		w.run("it is over", time.Hour, w.over)
		if e, err := w.stock.Find(t.Context(), "2.0.0"); err != nil || e.State != catalogue.Rolling {
			t.Errorf("%v: a release that nobody has is %s", err, e.State)
		}
	})
}

// A station isn't written off while its update runs, nor sent it again once it is.
func TestPatienceAndUpdates(t *testing.T) {
	t.Parallel()
	t.Run("while its update runs", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, 3, nil)
		w.publish("2.0.0", 20)
		w.begin(plan(func(p *campaign.Plan) {
			p.Rings, p.Rules.Patience = []campaign.Ring{{Name: "all", Share: 1}}, time.Minute
		}))
		w.run("it is over", time.Hour, w.over)
		if n := w.states(); n[rollout.Done] != 3 || w.crowded != "" {
			t.Errorf("%v; two at once: %q", n, w.crowded)
		}
	})
	t.Run("when it is over", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, 12, func(i int, m *mobile) {
			if m.st.Site = ""; i == 0 {
				m.temper = broken
			}
			if i < 11 {
				m.st.Group = "lab"
			}
		})
		w.publish("2.0.0", 20)
		w.begin(plan(func(p *campaign.Plan) {
			p.Rings, p.Rules.Patience = []campaign.Ring{{Name: "lab", Share: 0}, {Name: "rest", Share: 1}}, 30*time.Minute
		}))
		w.run("others are done", time.Hour, func() bool { return w.states()[rollout.Done] == 10 && !w.gate.Open("cs-00000") })
		w.step(time.Hour)
		if n := w.states(); n[rollout.Failed] != 1 || len(w.sent["cs-00000"]) != 1 {
			t.Errorf("%v, and it was sent the release %d times", n, len(w.sent["cs-00000"]))
		}
	})
}

// A halt by a person stops what is about to be sent, and costs no station its update.
func TestHaltInFlight(t *testing.T) { // promise 10
	t.Parallel()
	w := newWorld(t, 3, func(_ int, m *mobile) { m.st.Site = "" })
	w.publish("2.0.0", 20)
	w.begin(plan(func(p *campaign.Plan) {
		p.Rings, p.Rules.PerMinute = []campaign.Ring{{Name: "all", Share: 1}}, 1
	}))
	w.store.added = func() {
		w.store.added = nil
		if _, err := w.rollout.Halt(t.Context(), "operator", "2.0.0", "stations smell"); err != nil {
			t.Error(err)
		}
	}
	for range 30 {
		w.step(time.Minute)
	}
	if n := w.states(); n[rollout.Failed] > 0 || len(w.sent) > 0 {
		t.Errorf("%v; sent to %d", n, len(w.sent))
	}
	if _, err := w.rollout.Resume(t.Context(), "operator", "2.0.0", "it was the weather"); err != nil {
		t.Fatal(err)
	}
	w.run("it is over", 2*time.Hour, w.over)
	if n := w.states(); n[rollout.Done] != 3 {
		t.Errorf("%v", n)
	}
}

// What fails here each time is tried again after a pause.
func TestFailedStartsArePaused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	w.publish("2.0.0", 20)
	w.store.refuses = func(j *job.Job) error {
		if j.State == job.Sent {
			return errors.New("the disk is full")
		}
		return nil
	}
	w.begin(plan(func(p *campaign.Plan) { p.Rings = []campaign.Ring{{Name: "all", Share: 1}} }))
	failed := 0
	for range 60 {
		w.at(w.clock().Add(5 * time.Second))
		if err := w.rollout.Look(t.Context()); err != nil {
			if failed++; !strings.Contains(err.Error(), "the disk is full") {
				t.Fatal(err)
			}
		}
	}
	if list, err := w.store.Jobs(t.Context(), "", 100); err != nil || len(list) != 1 || failed != 1 {
		t.Errorf("%v: %d updates were made, %d failed", err, len(list), failed)
	}
	w.store.refuses = nil
	w.run("it is over", time.Hour, w.over)
}

// What a station of a back end says about a release holds it up before the rollout has
// looked: for back ends, and for what is about to be sent. It outlives a kill, and what
// people decided about it does, too.
func TestInvalidSignatureIsKept(t *testing.T) { // promise 10
	t.Parallel()
	w := newWorld(t, 6, func(_ int, m *mobile) { m.st.Site = "" })
	r := w.publish("2.0.0", 20)
	first := w.stations["cs-00000"]
	first.temper = forged
	if got := w.asks("cs-00000", r); !strings.Contains(got, "Accepted") {
		t.Fatal(got)
	}
	first.temper = good // its key is mended for the next time
	w.begin(plan(func(p *campaign.Plan) {
		p.Rings, p.Rules.PerMinute = []campaign.Ring{{Name: "all", Share: 1}}, 12
	}))
	w.at(w.clock().Add(time.Minute))
	w.store.added = func() {
		w.store.added = nil
		w.says(first, asked, "InvalidSignature")
	}
	if err := w.rollout.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(w.sent) != 1 {
		t.Errorf("%d stations were sent what one had condemned", len(w.sent)-1)
	}
	for _, when := range []string{"at once", "after a kill"} {
		if got := w.rollout.Turn(r.ID, "cs-00005"); got != gate.OnHold {
			t.Errorf("%s back ends are told %q", when, got)
		}
		w.open()
	}
	w.step(time.Minute)
	if p := w.progress("2.0.0"); p.Header.Phase != rollout.Halted || !strings.Contains(p.Header.Why, "cs-00000 reports InvalidSignature") {
		t.Fatalf("%+v", p.Header)
	}
	if _, err := w.rollout.Resume(t.Context(), "operator", "2.0.0", "it was its key"); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.run("it is over", 12*time.Hour, w.over)
	if n := w.states(); n[rollout.Done] != 6 {
		t.Errorf("%v", n)
	}
}

// What a station said about a release before its rollout began halts that at once, also
// where the server was restarted meanwhile; once people have judged it, no other rollout
// is halted by the same word.
func TestInvalidSignatureOfBefore(t *testing.T) { // promise 10
	t.Parallel()
	w := newWorld(t, 6, func(i int, m *mobile) {
		if m.st.Site, m.st.Group = "", "a"; i > 2 {
			m.st.Group = "b"
		}
	})
	r := w.publish("2.0.0", 20)
	first := w.stations["cs-00000"]
	first.temper = forged
	if got := w.asks("cs-00000", r); !strings.Contains(got, "Accepted") {
		t.Fatal(got)
	}
	for range 100 {
		w.step(time.Minute)
	}
	first.temper = good
	w.open()
	of := func(group string) campaign.Plan {
		return plan(func(p *campaign.Plan) {
			p.Group, p.Rings, p.Rules.PerMinute = group, []campaign.Ring{{Name: "all", Share: 1}}, 12
		})
	}
	w.begin(of("a"))
	if got := w.rollout.Turn(r.ID, "cs-00001"); got != gate.OnHold {
		t.Errorf("back ends are told %q", got)
	}
	w.step(5 * time.Second)
	if p := w.progress("2.0.0"); p.Header.Phase != rollout.Halted || !strings.Contains(p.Header.Why, "cs-00000 reports InvalidSignature") || len(w.sent) != 1 {
		t.Fatalf("%+v; %d were sent it", p.Header, len(w.sent))
	}
	if _, err := w.rollout.Resume(t.Context(), "operator", "2.0.0", "it was its key"); err != nil {
		t.Fatal(err)
	}
	w.run("it is over", 12*time.Hour, w.over)
	w.open()
	w.begin(of("b"))
	w.run("the other is over", 12*time.Hour, w.over)
	if n := w.states(); n[rollout.Done] != 3 || len(w.halted) != 1 {
		t.Errorf("%v; told of %v", n, w.halted)
	}
}

// A rollout that ended long after its ring began has its last stations followed to their
// end, also after a restart.
func TestEndedRolloutIsReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, func(i int, m *mobile) { m.st.Site, m.away = "", i == 0 })
	r := w.publish("2.0.0", 20)
	w.begin(plan(func(p *campaign.Plan) {
		p.Rings, p.Rules.Patience, p.Rules.Sample = []campaign.Ring{{Name: "all", Share: 1}}, time.Hour, 2
	}))
	for range 100 {
		w.step(time.Hour)
	}
	w.stations["cs-00000"].away = false
	w.run("it is at work", time.Hour, func() bool { return len(w.sent["cs-00000"]) == 1 })
	if _, err := w.stock.Withdraw(t.Context(), "operator", r.ID, "it isn't wanted"); err != nil {
		t.Fatal(err)
	}
	w.step(5 * time.Second)
	if p := w.progress("2.0.0"); p.Header.Phase != rollout.Cancelled || p.Count[rollout.Begun] != 1 {
		t.Fatalf("%+v, %v", p.Header, p.Count)
	}
	w.open()
	for range 30 {
		w.step(time.Minute)
	}
	if n := w.states(); n[rollout.Done] != 2 {
		t.Errorf("%v", n)
	}
}
