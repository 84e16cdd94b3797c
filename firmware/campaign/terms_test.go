package campaign_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"bollard/firmware/campaign"
)

// The approval of a further ring is of one rollout: another one of the same release, of
// another group, waits for its own.
func TestApprovalOfARingIsOfOneRollout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20, func(i int, m *mobile) { m.st.Site, m.st.Group = "", []string{"pilot", "prod"}[i%2] })
	r := w.publish("2.0.0", 20)
	approved := map[string]bool{}
	w.granted = func(action, scope string) error {
		if !approved[action+" "+scope] {
			return errors.New("nobody agreed")
		}
		return nil
	}
	ids := map[string]string{}
	for _, group := range []string{"pilot", "prod"} {
		p := plan(func(p *campaign.Plan) {
			p.Group, p.Rings = group, []campaign.Ring{{Name: "canary", Share: 0.1}, {Name: "rest", Share: 1}}
		})
		what, err := p.Opening("canary")
		if err != nil {
			t.Fatal(err)
		}
		approved["firmware.start release:"+r.ID+"/"+what] = true
		ids[group] = w.begin(p).ID
	}
	waves := func() map[string]int {
		list, err := w.rollout.Rollouts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at := map[string]int{}
		for _, p := range list {
			if at[p.ID] = p.Header.Wave; p.Asks == "rest" {
				at[p.ID] = -1
			}
		}
		return at
	}
	w.run("both wait", 3*time.Hour, func() bool { at := waves(); return at[ids["pilot"]] == -1 && at[ids["prod"]] == -1 })
	for id, want := range map[string]string{"": ids["pilot"] + ": group \"pilot\"", "beef": ids["prod"]} {
		if _, err := w.rollout.Widening(t.Context(), r.ID, id, "rest"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("rollout %q of two: %v", id, err)
		}
	}
	if _, err := w.rollout.Widening(t.Context(), r.ID, ids["pilot"], "early"); err == nil {
		t.Error("a ring that it doesn't have")
	}
	what, err := w.rollout.Widening(t.Context(), r.ID, ids["pilot"], "rest")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(what, ids["pilot"]) || !strings.Contains(what, `group "pilot"`) {
		t.Errorf("people read %q", what)
	}
	approved["firmware.widen release:"+r.ID+"/"+what] = true
	w.open() // words and IDs outlast a restart
	for range 100 {
		w.step(time.Minute)
	}
	if at := waves(); at[ids["pilot"]] != 1 || at[ids["prod"]] != -1 {
		t.Errorf("pilot is in ring %d, prod in %d (-1: it waits)", at[ids["pilot"]], at[ids["prod"]])
	}
}

// A rollout begins as it was approved: whatever else is decided about it is another
// thing to approve.
func TestApprovalOfAStartIsOfOnePlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, nil)
	r := w.publish("2.0.0", 20)
	rings := []campaign.Ring{{Name: "lab", Share: 0.1}, {Name: "rest", Share: 1}}
	base := func() campaign.Plan {
		return plan(func(p *campaign.Plan) { p.Rings = rings })
	}
	p := base()
	agreed, err := p.Opening("lab")
	if err != nil {
		t.Fatal(err)
	}
	w.granted = func(action, scope string) error {
		if action+" "+scope != "firmware.start release:"+r.ID+"/"+agreed {
			return errors.New("nobody agreed")
		}
		return nil
	}
	others := map[string]campaign.Plan{}
	with := func(name string, change func(p *campaign.Plan)) {
		p := base()
		change(&p)
		others[name] = p
	}
	with("all of the fleet is the lab", func(p *campaign.Plan) { p.Rings = []campaign.Ring{{Name: "lab", Share: 1}} })
	with("share", func(p *campaign.Plan) {
		p.Rings = []campaign.Ring{{Name: "lab", Share: 0.11}, {Name: "rest", Share: 1}}
	})
	with("ring", func(p *campaign.Plan) { p.Rings = []campaign.Ring{{Name: "lab", Share: 0.1}, {Name: "all", Share: 1}} })
	with("lab", func(p *campaign.Plan) { p.Lab = "prod" })
	with("group", func(p *campaign.Plan) { p.Group = "all stations" })
	with("jitter", func(p *campaign.Plan) { p.Jitter = time.Second })
	with("site-share", func(p *campaign.Plan) { p.SiteShare = 0.5 })
	// Every rule there is, but for those that the plan itself sets.
	for i := range reflect.TypeOf(p.Rules).NumField() {
		name := reflect.TypeOf(p.Rules).Field(i).Name
		if name == "Waves" || name == "Proof" || name == "Compare" {
			continue
		}
		with(name, func(p *campaign.Plan) {
			switch f := reflect.ValueOf(&p.Rules).Elem().Field(i); f.Kind() {
			case reflect.Float64:
				f.SetFloat(f.Float() + 0.01)
			default:
				f.SetInt(f.Int() + 1)
			}
		})
	}
	for name, other := range others {
		if what, err := other.Opening("lab"); err != nil || what == agreed {
			t.Errorf("%s: people read the same: %s, %v", name, what, err)
		}
		if other.Group == "" { // of the other one nobody could begin
			if _, err := w.rollout.Start(t.Context(), "operator", other); err == nil || !strings.Contains(err.Error(), "nobody agreed") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := p.Opening("canary"); err == nil {
		t.Error("a ring that it doesn't have")
	}
	w.begin(p)
}
