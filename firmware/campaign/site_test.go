package campaign_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"bollard/firmware/campaign"
	"bollard/internal/rollout"
)

// A site keeps a station that works while another one is updated, and no more than its
// share are at work at once. Who could never be spared isn't waited for.
func TestSitesKeepAStation(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		stations int // of the site
		away     int // of those
		share    float64
		most     int // at work at once
		done     int
	}{
		"the only one":             {1, 0, 0, 1, 1},
		"two":                      {2, 0, 0, 1, 2},
		"two, and one is away":     {2, 1, 0, 0, 0},
		"four":                     {4, 0, 0, 3, 4},
		"four, and half may":       {4, 0, 0.5, 2, 4},
		"four, and a tenth may":    {4, 0, 0.1, 1, 4},
		"four, and two are away":   {4, 2, 0, 1, 2},
		"four, and three are away": {4, 3, 1, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tt.stations+1, func(i int, m *mobile) {
				if m.st.Site = "crowd"; i == tt.stations { // somebody who can be updated
					m.st.Site = "alone"
				}
				m.away = i < tt.away
			})
			w.publish("2.0.0", 20)
			w.begin(plan(func(p *campaign.Plan) {
				p.Rings, p.Rules.PerSite, p.SiteShare = []campaign.Ring{{Name: "all", Share: 1}}, 0, tt.share
			}))
			w.run("it is over", 72*time.Hour, w.over)
			if n := w.states(); w.most["crowd"] != tt.most || n[rollout.Done] != tt.done+1 || n[rollout.Left] != tt.stations-tt.done {
				t.Errorf("%d at work at once, want %d; %v", w.most["crowd"], tt.most, n)
			}
		})
	}
	t.Run("and while a back end updates the other", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, 2, nil)
		older := w.publish("1.5.0", 15)
		w.publish("2.0.0", 20)
		if got := w.asks("cs-00000", older); got == "" {
			t.Fatal(got)
		}
		w.begin(plan(func(p *campaign.Plan) { p.Rings = []campaign.Ring{{Name: "all", Share: 1}} }))
		w.run("it is over", 72*time.Hour, w.over)
		if n := w.states(); w.most["site0"] != 1 || n[rollout.Done] != 2 {
			t.Errorf("%d at work at once; %v", w.most["site0"], n)
		}
	})
}

// Two rollouts of a release to different groups: both keep their rings, a halt is of
// both, and the release is complete when both are over.
func TestTwoRolloutsOfARelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 8, func(i int, m *mobile) { m.st.Site, m.st.Group = "", fmt.Sprint(i%2) })
	r := w.publish("2.0.0", 20)
	for _, group := range []string{"0", "1"} {
		w.begin(plan(func(p *campaign.Plan) {
			p.Group, p.Rings = group, []campaign.Ring{{Name: "early", Share: 0.5}, {Name: "rest", Share: 1}}
		}))
	}
	list, err := w.rollout.Rollouts(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, restart := range []bool{false, true} {
		if restart {
			w.open()
		}
		waits := 0
		for _, st := range w.list {
			if w.rollout.Turn(r.ID, st.Key) == "ring" {
				waits++
			}
		}
		if waits != 4 {
			t.Errorf("%d of the 4 stations of later rings have to wait", waits)
		}
	}
	halts := func() (n int) {
		list, err := w.rollout.Rollouts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			if p.Header.Phase == rollout.Halted {
				n++
			}
		}
		return n
	}
	if _, err := w.rollout.Halt(t.Context(), "operator", "2.0.0", "stations smell"); err != nil || halts() != 2 {
		t.Fatalf("%v: %d are halted", err, halts())
	}
	// Whichever write fails: both go on, by one approval, or neither by none.
	used := w.store.used
	for n := range 2 {
		w.store.full = func() (err error) {
			if n--; n == -1 {
				err = errors.New("the disk is full")
			}
			return err
		}
		if _, err := w.rollout.Resume(t.Context(), "operator", "2.0.0", "it was the weather"); err != nil && (halts() != 2 || w.store.used != used) {
			t.Fatalf("%v: %d are halted, %d approvals used", err, halts(), w.store.used-used)
		}
	}
	if w.store.full = nil; halts() != 0 || w.store.used != used+1 {
		t.Fatalf("%d are halted, %d approvals used", halts(), w.store.used-used)
	}
	w.run("both are over", 24*time.Hour, func() bool {
		over := w.rollout.Watch().Rollouts[rollout.Running]
		if e, err := w.stock.Find(t.Context(), "2.0.0"); err != nil || (e.State == "complete") != (over == 0) {
			t.Fatalf("%v: %d rollouts aren't over, and the release is %s", err, over, e.State)
		}
		return over == 0
	})
	if len(w.sent) != 8 {
		t.Errorf("%d were sent it", len(w.sent))
	}
}
