package campaign_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/firmware/campaign"
	"bollard/internal/rollout"
	"bollard/ocpp"
)

// While a station says that the grid limits it, it begins no update, and nobody of its
// site does; also through restarts, and for a day at most.
func TestGridLimits(t *testing.T) {
	t.Parallel()
	const limit, ends, alarm, control = "NotifyChargingLimit", "ClearedChargingLimit", "NotifyDERAlarm", "NotifyDERStartStop"
	type says struct{ action, payload string }
	cases := map[string]struct {
		begin []says
		holds bool
		end   []says // nil: time alone
	}{
		"system operator":           {[]says{{limit, `{"chargingLimit":{"chargingLimitSource":"SO"}}`}}, true, []says{{ends, `{"chargingLimitSource":"SO"}`}}},
		"of one EVSE":               {[]says{{limit, `{"evseId":1,"chargingLimit":{"chargingLimitSource":"SO"}}`}}, true, []says{{ends, `{"chargingLimitSource":"SO","evseId":1}`}}},
		"of one EVSE, all end":      {[]says{{limit, `{"evseId":1,"chargingLimit":{"chargingLimitSource":"SO"}}`}}, true, []says{{ends, `{"chargingLimitSource":"SO"}`}}},
		"another one ends":          {[]says{{limit, `{"evseId":1,"chargingLimit":{"chargingLimitSource":"SO"}}`}, {ends, `{"chargingLimitSource":"SO","evseId":2}`}, {ends, `{"chargingLimitSource":"EMS"}`}}, true, nil},
		"critical":                  {[]says{{limit, `{"chargingLimit":{"chargingLimitSource":"EMS","isGridCritical":true}}`}}, true, []says{{ends, `{"chargingLimitSource":"EMS"}`}}},
		"no end told":               {[]says{{limit, `{"chargingLimit":{"chargingLimitSource":"SO"}}`}}, true, nil},
		"energy management":         {[]says{{limit, `{"chargingLimit":{"chargingLimitSource":"EMS","isGridCritical":false}}`}}, false, nil},
		"back end":                  {[]says{{limit, `{"chargingLimit":{"chargingLimitSource":"CSO"}}`}}, false, nil},
		"unreadable":                {[]says{{limit, `{"chargingLimit":{"chargingLimitSource":"SO","chargingLimitSource":"EMS"}}`}}, false, nil},
		"alarm":                     {[]says{{alarm, `{"controlType":"LFMustTrip","gridEventFault":"UnderFrequency"}`}}, true, []says{{alarm, `{"controlType":"LFMustTrip","alarmEnded":true}`}}},
		"control":                   {[]says{{control, `{"controlId":"c1","started":true}`}}, true, []says{{control, `{"controlId":"c1","started":false}`}}},
		"control that was replaced": {[]says{{control, `{"controlId":"c1","started":true}`}, {control, `{"controlId":"c2","started":true,"supersededIds":["c1"]}`}}, true, []says{{control, `{"controlId":"c2","started":false}`}}},
	}
	// Two of a site for each, the first of which is limited, and one of no site.
	names := slices.Sorted(maps.Keys(cases))
	w := newWorld(t, 2*len(names)+1, func(i int, m *mobile) {
		if m.st.Site = ""; i < 2*len(names) {
			m.st.Site = names[i/2]
		}
	})
	limited := func(i int) string { return fmt.Sprintf("cs-%05d", 2*i) }
	say := func(i int, list []says) {
		for _, m := range list {
			if !w.rollout.Interest(ocpp.FromStation, m.action) || w.rollout.Interest(ocpp.FromCSMS, m.action) {
				t.Errorf("%s isn't read of stations alone", m.action)
			}
			w.rollout.Message(limited(i), m.action, []byte(m.payload))
		}
	}
	holds := 0
	for i, name := range names {
		if say(i, cases[name].begin); cases[name].holds {
			holds++
		}
	}
	w.step(5 * time.Second)
	w.open()
	w.publish("2.0.0", 20)
	whole := plan(func(p *campaign.Plan) { p.Rings = []campaign.Ring{{Name: "all", Share: 1}} })
	dry, err := w.rollout.Dry(t.Context(), whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range dry {
		if one.Limited != cases[one.Site].holds {
			t.Errorf("%s: limited is %t", one.Site, one.Limited)
		}
	}
	w.begin(whole)
	done := func(n int) func() bool { return func() bool { return w.states()[rollout.Done] == n } }
	w.run("the others are done", 3*time.Hour, done(2*(len(names)-holds)+1))
	w.run("nobody follows", 3*time.Hour, func() bool { return w.clock().Sub(start) > 2*time.Hour })
	for i, name := range names {
		if sent := len(w.sent[limited(i)]) > 0; sent == cases[name].holds {
			t.Errorf("%s: it was sent one: %t", name, sent)
		}
		if cases[name].end != nil {
			say(i, cases[name].end)
			holds--
		}
	}
	w.run("those whose limit ended are done", 3*time.Hour, done(2*(len(names)-holds)+1))
	if at := w.clock(); at.Sub(start) > 12*time.Hour {
		t.Errorf("that was at %s", at)
	}
	w.run("a day is over", 24*time.Hour, done(2*len(names)+1))
	if at := w.clock(); at.Sub(start) < 24*time.Hour {
		t.Errorf("limits end at %s", at)
	}
	if left, err := w.store.Limits(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// What one station may say of the grid is bounded.
func TestGridLimitsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	long := strings.Repeat("x", 37)
	for _, m := range []struct{ action, payload string }{
		{"NotifyDERStartStop", `{"controlId":"%s","started":true}`},
		{"NotifyDERAlarm", `{"controlType":"%s"}`},
		{"NotifyChargingLimit", `{"chargingLimit":{"chargingLimitSource":"%s","isGridCritical":true}}`},
	} {
		w.rollout.Message("cs-00000", m.action, fmt.Appendf(nil, m.payload, long))
	}
	w.step(5 * time.Second)
	if kept, err := w.store.Limits(t.Context()); err != nil || len(kept) > 0 {
		t.Errorf("names no station may use: %v, %v", kept, err)
	}
	for i := range 100 {
		w.rollout.Message("cs-00000", "NotifyDERStartStop", fmt.Appendf(nil, `{"controlId":"c%d","started":true}`, i))
	}
	w.step(5 * time.Second)
	if kept, err := w.store.Limits(t.Context()); err != nil || len(kept) != 32 {
		t.Errorf("%d, %v", len(kept), err)
	}
}
