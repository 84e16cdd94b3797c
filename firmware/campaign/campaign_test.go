package campaign_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/firmware/campaign"
	"bollard/firmware/job"
	"bollard/internal/rollout"
	"bollard/internal/window"
)

// states counts a rollout's stations.
func (w *world) states() map[rollout.State]int { return w.progress("2.0.0").Count }

// A release goes to the lab first, then to few stations of both models and of several
// sites, then to all; one of a site at a time, each ring after its soak, the same ones
// whoever asks, also through restarts.
func TestRings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20, func(i int, m *mobile) {
		if i == 7 || i == 12 {
			m.st.Group = "lab"
		}
	})
	w.publish("2.0.0", 20)
	rings := plan(func(p *campaign.Plan) {
		p.Rings = []campaign.Ring{{Name: "lab", Share: 0}, {Name: "canary", Share: 0.3}, {Name: "rest", Share: 1}}
		p.Rules.Bound = 0.99 // too much to be shown by so few: none may fail
	})
	dry, err := w.rollout.Dry(t.Context(), rings)
	if err != nil || len(dry) != 20 {
		t.Fatalf("%d, %v", len(dry), err)
	}
	if got := w.begin(rings); got.Count[rollout.Waiting] != 20 || got.Header.Phase != rollout.Running {
		t.Fatalf("%+v", got)
	}
	w.run("it is in its last ring", 3*time.Hour, func() bool { return w.progress("2.0.0").Header.Wave == 2 })
	w.open()
	w.run("it is over", 12*time.Hour, w.over)
	p := w.progress("2.0.0")
	if p.Count[rollout.Done] != 20 || p.Header.Phase != rollout.Finished {
		t.Errorf("%+v", p)
	}
	if w.crowded != "" {
		t.Errorf("two stations of %s were updated at once", w.crowded)
	}
	began, models, sites := map[int][]time.Time{}, map[string]bool{}, map[string]bool{}
	for _, m := range p.Members {
		began[m.Wave] = append(began[m.Wave], m.Began)
		if m.Wave == 1 {
			st := w.stations[m.ID].st
			models[st.Model], sites[st.Site] = true, true
		}
		if i := slices.IndexFunc(dry, func(d campaign.Planned) bool { return d.Station == m.ID }); dry[i].Ring != p.Ring(m.Wave) {
			t.Errorf("%s is in ring %s, and was to be in %s", m.ID, p.Ring(m.Wave), dry[i].Ring)
		}
		if (w.stations[m.ID].st.Group == "lab") != (m.Wave == 0) {
			t.Errorf("%s of group %q is in ring %s", m.ID, w.stations[m.ID].st.Group, p.Ring(m.Wave))
		}
		if n := len(w.sent[m.ID]); n != 1 {
			t.Errorf("%s was sent %d requests", m.ID, n)
		}
		floor, err := w.store.Floor(t.Context(), m.ID, "firmware")
		if err != nil || floor.Sequence != 20 {
			t.Errorf("%s: floor %+v, %v", m.ID, floor, err)
		}
	}
	if len(began[0]) != 2 || len(began[1]) != 4 || len(models) != 2 || len(sites) < 2 {
		t.Errorf("lab %d, canary %d of models %v and sites %v", len(began[0]), len(began[1]), models, sites)
	}
	for wave := 1; wave < 3; wave++ {
		if gap := slices.MinFunc(began[wave], time.Time.Compare).Sub(slices.MaxFunc(began[wave-1], time.Time.Compare)); gap < time.Hour {
			t.Errorf("ring %d began %s after the last of the one before", wave, gap)
		}
	}
	if _, err := w.rollout.Start(t.Context(), "operator", rings); !errors.Is(err, campaign.ErrNobody) {
		t.Errorf("once more: %v", err)
	}
}

// One InvalidSignature halts, also that of an update a back end asked for: nobody is
// sent anything from then on, whoever asks, until people agreed that it goes on.
func TestInvalidSignatureHaltsAtOnce(t *testing.T) { // promise 10
	t.Parallel()
	for name, byBackend := range map[string]bool{"of the rollout": false, "of a back end": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 12, func(i int, m *mobile) {
				if m.st.Site = ""; i == 3 {
					m.temper = forged
					if !byBackend {
						m.st.Group = "lab"
					}
				}
			})
			r := w.publish("2.0.0", 20)
			if byBackend { // it came before the rollout
				if got := w.asks("cs-00003", r); !strings.Contains(got, "Accepted") {
					t.Fatal(got)
				}
			}
			w.begin(plan(func(p *campaign.Plan) {
				p.Rules.PerMinute = 4
				p.Rings = []campaign.Ring{{Name: "all", Share: 1}}
			}))
			halted := func() bool { return w.progress("2.0.0").Header.Phase == rollout.Halted }
			w.run("it halts", time.Hour, halted)
			p := w.progress("2.0.0")
			if !strings.Contains(p.Header.Why, "cs-00003 reports InvalidSignature") || !slices.Equal(w.halted, []string{"cs-00003"}) {
				t.Errorf("%q; told of %v", p.Header.Why, w.halted)
			}
			last := time.Time{}
			for _, list := range w.sent {
				for _, s := range list {
					last = later(s.at, last)
				}
			}
			list, err := w.store.Jobs(t.Context(), "cs-00003", 1)
			if err != nil || list[0].State != job.Failed || last.After(list[0].ChangedAt) {
				t.Errorf("%v: it failed at %s, and a station was sent the release at %s", err, list[0].ChangedAt, last)
			}
			// Not even a back end gets it through, a restart changes nothing, and one person isn't enough.
			w.open()
			waiting := ""
			for _, m := range p.Members {
				if m.State == rollout.Waiting {
					waiting = m.ID
				}
			}
			if got := w.asks(waiting, r); waiting == "" || w.stations[waiting].version.String() != "1.6" && !strings.Contains(got, "GwHalted") || !strings.Contains(got, "Rejected") {
				t.Errorf("%s: %s", waiting, got)
			}
			w.granted = func(string, string) error { return errors.New("nobody agreed") }
			if _, err := w.rollout.Resume(t.Context(), "operator", "2.0.0", "it was one station's key"); err == nil || !halted() {
				t.Errorf("it goes on without approval: %v", err)
			}
			before := len(w.sent)
			for range 100 {
				w.step(time.Minute)
			}
			if len(w.sent) != before {
				t.Error("a station was sent the release while it was halted")
			}
			w.granted = nil
			if byBackend {
				w.stations["cs-00003"].temper = good // its key was mended
			}
			if _, err := w.rollout.Resume(t.Context(), "operator", "2.0.0", "it was one station's key"); err != nil {
				t.Fatal(err)
			}
			w.run("it is over", 12*time.Hour, w.over)
			if n := w.states(); n[rollout.Done] != 11 && !byBackend || n[rollout.Done] != 12 && byBackend {
				t.Errorf("%v", n)
			}
		})
	}
}

// Where more stations fail than may, nobody else begins; one that failed twice with
// the image in hand isn't tried again, by another rollout neither.
func TestFailuresHalt(t *testing.T) {
	t.Parallel()
	for limit, phase := range map[float64]rollout.Phase{0: rollout.Halted, 0.5: rollout.Finished} {
		w := newWorld(t, 12, func(i int, m *mobile) {
			if m.st.Site = ""; i%4 == 0 {
				m.temper = broken
			}
		})
		w.publish("2.0.0", 20)
		rules := plan(func(p *campaign.Plan) {
			p.Rings, p.Rules.FailLimit = []campaign.Ring{{Name: "early", Share: 0.5}, {Name: "rest", Share: 1}}, limit
		})
		w.begin(rules)
		w.run("it comes to its end", 24*time.Hour, func() bool { return w.progress("2.0.0").Header.Phase == phase })
		for _, m := range w.progress("2.0.0").Members {
			tries := len(w.sent[m.ID])
			switch {
			case limit == 0 && m.Wave == 1 && tries > 0:
				t.Errorf("%s of the next ring was sent the release", m.ID)
			case m.State == rollout.Failed && (tries != 2 || !strings.Contains(m.Note, "image in hand")):
				t.Errorf("%s was tried %d times: %s", m.ID, tries, m.Note)
			case m.State == rollout.Failed:
				// An attempt takes four minutes, and the pause ten.
				if between := w.sent[m.ID][1].at.Sub(w.sent[m.ID][0].at); between < 10*time.Minute || between > 20*time.Minute {
					t.Errorf("%s was tried again after %s", m.ID, between)
				}
			}
		}
		if limit == 0 {
			if len(w.halted) != 1 || w.stations[w.halted[0]].temper != broken {
				t.Errorf("told of %v", w.halted)
			}
			continue
		}
		list, err := w.rollout.Dry(t.Context(), rules)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range list {
			if broken := w.stations[one.Station].temper == broken; broken != strings.Contains(one.Unable, "failed twice") || one.Unable == "" {
				t.Errorf("%s: %s", one.Station, one.Unable)
			}
		}
	}
}

// A ring is over when enough of it came to an end, and shows the success asked for.
func TestGateOfARing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(p *campaign.Plan)
		failed int
		want   rollout.Phase
	}{
		"few failures":        {func(*campaign.Plan) {}, 1, rollout.Finished},
		"not enough is shown": {func(p *campaign.Plan) { p.Rules.Bound = 0.9 }, 1, rollout.Halted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 20, func(i int, m *mobile) {
				if m.st.Site = ""; i < tt.failed {
					m.temper, m.st.Group = cheats, "lab"
				}
			})
			w.publish("2.0.0", 20)
			w.begin(plan(func(p *campaign.Plan) {
				p.Rings = []campaign.Ring{{Name: "early", Share: 0.5}, {Name: "rest", Share: 1}}
				tt.change(p)
			}))
			w.run(name, 24*time.Hour, func() bool { return w.progress("2.0.0").Header.Phase != rollout.Running })
			if p := w.progress("2.0.0"); p.Header.Phase != tt.want {
				t.Errorf("%s: %s", p.Header.Phase, p.Header.Why)
			}
		})
	}
	t.Run("sample", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, 10, func(i int, m *mobile) { m.st.Site, m.away = "", i%2 == 0 })
		w.publish("2.0.0", 20)
		w.begin(plan(func(p *campaign.Plan) {
			p.Rings, p.Rules.Sample = []campaign.Ring{{Name: "early", Share: 0.6}, {Name: "rest", Share: 1}}, 6
		}))
		for range 100 {
			w.step(time.Hour)
		}
		if p := w.progress("2.0.0"); p.Header.Wave != 0 || p.Header.Phase != rollout.Running {
			t.Fatalf("it went on with half of the sample: %+v", p.Header)
		}
		for _, m := range w.stations {
			m.away = false
		}
		w.run("it is over", 12*time.Hour, w.over)
	})
}

// Who installs without verifying, or says downloaded without having been given the
// image, is found by the order of its words and the bytes it was served, and gets
// nothing more.
func TestCheatsOfARollout(t *testing.T) { // promise 10
	t.Parallel()
	w := newWorld(t, 9, func(i int, m *mobile) {
		m.st.Site = ""
		m.temper = map[int]temper{0: cheats, 1: pretends, 2: refuses, 3: silent}[i]
	})
	w.publish("2.0.0", 20)
	w.begin(plan(func(p *campaign.Plan) {
		p.Rings, p.Rules.FailLimit = []campaign.Ring{{Name: "all", Share: 1}}, 0.5
	}))
	w.run("it is over", 48*time.Hour, w.over)
	for i, want := range []struct {
		state job.State
		tries int
		note  string
	}{{job.Quarantined, 1, "didn't verify"}, {job.Mismatch, 1, "wasn't given the whole image"}, {job.Refused, 3, "3 tries"}, {job.TimedOut, 3, "3 tries"}, {job.Done, 1, ""}} {
		key := fmt.Sprintf("cs-%05d", i)
		list, err := w.store.Jobs(t.Context(), key, 10)
		if err != nil || len(list) != want.tries || list[0].State != want.state || len(w.sent[key]) != want.tries {
			t.Errorf("%s: %v, %d jobs, %d sent, the last is %s; want %d, %s", key, err, len(list), len(w.sent[key]), list[0].State, want.tries, want.state)
		}
		for _, m := range w.progress("2.0.0").Members {
			if m.ID == key && !strings.Contains(m.Note, want.note) {
				t.Errorf("%s: %s", key, m.Note)
			}
		}
	}
	if !slices.Equal(w.alarmed, []string{"cs-00000"}) {
		t.Errorf("alarms about %v", w.alarmed)
	}
	w.publish("3.0.0", 30)
	list, err := w.rollout.Dry(t.Context(), plan(func(p *campaign.Plan) { p.Release = "3.0.0" }))
	if err != nil || list[0].Block != "quarantined" || list[4].Unable != "" {
		t.Errorf("%v: %+v", err, list)
	}
}

// Downloads and installations begin within the window of the site, by the clocks on
// its wall, also in the night in which they go back.
func TestRolloutKeepsToWindows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 12, nil)
	w.at(time.Date(2026, 10, 24, 12, 0, 0, 0, time.UTC))
	for site, text := range map[string]string{"site0": "daily 01:00-03:30 Europe/Amsterdam", "site1": "sun 22:00-02:00 Asia/Kolkata"} {
		at, err := window.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		w.windows[site] = window.Windows{at}
	}
	w.publish("2.0.0", 20)
	p := plan(func(p *campaign.Plan) {
		p.Rings, p.Rules.PerSite, p.Rules.Patience, p.Jitter = []campaign.Ring{{Name: "all", Share: 1}}, 0, 48*time.Hour, 10*time.Minute
	})
	list, err := w.rollout.Dry(t.Context(), p)
	if err != nil || !list[0].Opens.Equal(time.Date(2026, 10, 24, 23, 0, 0, 0, time.UTC)) || !list[11].Opens.IsZero() {
		t.Errorf("%v: %+v", err, list)
	}
	w.begin(p)
	w.run("it is over", 72*time.Hour, w.over)
	if n := w.states(); n[rollout.Done] != 12 {
		t.Errorf("%v", n)
	}
	retrieved := map[string]map[string]bool{}
	for key, list := range w.sent {
		site := w.stations[key].st.Site
		if retrieved[site] == nil {
			retrieved[site] = map[string]bool{}
		}
		f := list[0].request.Firmware
		retrieved[site][f.RetrieveDateTime] = true
		for _, text := range []string{f.RetrieveDateTime, f.InstallDateTime} {
			at, err := time.Parse(time.RFC3339, text)
			if text == "" && w.windows[site] == nil {
				continue
			}
			if err != nil || !w.windows[site].Open(at) {
				t.Errorf("%s of %s: %q isn't in its window", key, site, text)
			}
		}
	}
	if len(retrieved["site0"]) < 3 {
		t.Errorf("all of a site download at once: %v", retrieved["site0"])
	}
}

// A station begins while its window is open for 15 more minutes, and downloads within a
// quarter of what is left of it.
func TestWindowsThatAreNearlyOver(t *testing.T) {
	t.Parallel()
	ends := time.Date(2026, 10, 1, 3, 30, 0, 0, time.UTC)
	for left, tonight := range map[time.Duration]bool{40 * time.Minute: true, 14 * time.Minute: false} {
		w := newWorld(t, 12, func(_ int, m *mobile) { m.st.Site = "north" })
		w.at(ends.Add(-left))
		at, err := window.Parse("daily 01:00-03:30 UTC")
		if err != nil {
			t.Fatal(err)
		}
		w.windows["north"] = window.Windows{at}
		w.publish("2.0.0", 20)
		w.begin(plan(func(p *campaign.Plan) {
			p.Rings, p.Rules.PerSite, p.SiteShare, p.Rules.Patience, p.Jitter = []campaign.Ring{{Name: "all", Share: 1}}, 0, 0, 48*time.Hour, 2*time.Hour
		}))
		w.run("all were sent it", 48*time.Hour, func() bool { return len(w.sent) == 12 })
		begun := 0
		for key, list := range w.sent {
			closes := ends
			if list[0].at.Before(ends) {
				begun++
			} else {
				closes = closes.AddDate(0, 0, 1)
			}
			if retrieve, err := time.Parse(time.RFC3339, list[0].request.Firmware.RetrieveDateTime); err != nil || retrieve.Sub(list[0].at) > closes.Sub(list[0].at)/4 {
				t.Errorf("%s left: %s is to download at %s, and was told at %s: %v", left, key, retrieve, list[0].at, err)
			}
		}
		if (begun > 0) != tonight {
			t.Errorf("with %s left %d stations began", left, begun)
		}
	}
}

// A back end can't be faster than the rollout, and no ring begins that wasn't approved.
func TestRolloutComesBeforeBackEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, func(_ int, m *mobile) { m.st.Site = "" })
	r := w.publish("2.0.0", 20)
	p := plan(func(p *campaign.Plan) {
		p.Rings = []campaign.Ring{{Name: "canary", Share: 0.1}, {Name: "rest", Share: 1}}
	})
	approved := map[string]bool{}
	w.granted = func(action, scope string) error {
		if !approved[action+" "+scope] {
			return errors.New("nobody agreed")
		}
		return nil
	}
	if _, err := w.rollout.Start(t.Context(), "operator", p); err == nil {
		t.Error("it began without approval")
	}
	canary, err := p.Opening("canary")
	if err != nil {
		t.Fatal(err)
	}
	approved["firmware.start release:"+r.ID+"/"+canary] = true
	w.begin(p)
	if _, err := w.rollout.Start(t.Context(), "operator", p); err == nil {
		t.Error("it began twice")
	}
	for _, m := range w.progress("2.0.0").Members {
		got := w.asks(m.ID, r)
		if want := map[bool]string{true: "Accepted", false: "Rejected"}[m.Wave == 0]; !strings.Contains(got, want) {
			t.Errorf("%s of ring %d: %s", m.ID, m.Wave, got)
		}
	}
	w.run("the first ring is over", 3*time.Hour, func() bool { return w.progress("2.0.0").Asks == "rest" })
	for range 100 {
		w.step(time.Minute)
	}
	if p := w.progress("2.0.0"); p.Header.Wave != 0 || len(w.sent) != 1 {
		t.Errorf("ring %d began without approval: %d stations were sent the release", p.Header.Wave, len(w.sent))
	}
	rest, err := w.rollout.Widening(t.Context(), "2.0.0", "", "rest")
	if err != nil {
		t.Fatal(err)
	}
	approved["firmware.widen release:"+r.ID+"/"+rest] = true
	w.stations["cs-00000"].away, w.stations["cs-00009"].away = true, true
	w.run("others were sent it", time.Hour, func() bool { return len(w.sent) > 1 })
	if _, err := w.rollout.Halt(t.Context(), "operator", "2.0.0", ""); err == nil {
		t.Error("it was halted without a reason")
	}
	if _, err := w.rollout.Halt(t.Context(), "operator", "2.0.0", "stations smell"); err != nil {
		t.Fatal(err)
	}
	before := len(w.sent)
	w.stations["cs-00000"].away, w.stations["cs-00009"].away = false, false
	for range 50 {
		w.step(time.Minute)
	}
	if len(w.sent) != before {
		t.Errorf("%d stations were sent it after the halt", len(w.sent)-before)
	}
	// A release that is revoked ends its rollout.
	if _, err := w.stock.Revoke(t.Context(), "operator", r.ID, "it bricks stations"); err != nil {
		t.Fatal(err)
	}
	w.run("it is over", time.Hour, w.over)
	if p := w.progress("2.0.0"); p.Header.Phase != rollout.Cancelled || !strings.Contains(p.Header.Why, "it bricks stations") {
		t.Errorf("%+v", p.Header)
	}
}
