package campaign_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"bollard/firmware/campaign"
	"bollard/internal/rollout"
	"bollard/ocpp"
)

// soaking is a rollout in rings of eight stations, the first of which is done.
func soaking(t *testing.T, rings int) *world {
	t.Helper()
	w := newWorld(t, 8*rings, func(_ int, m *mobile) { m.st.Site = "" })
	w.publish("2.0.0", 20)
	w.begin(plan(func(p *campaign.Plan) {
		p.Rings = nil
		for i := range rings {
			p.Rings = append(p.Rings, campaign.Ring{Name: fmt.Sprintf("r%d", i+1), Share: float64(i+1) / float64(rings)})
		}
	}))
	w.run("the first ring is done", time.Hour, func() bool { return !w.progress("2.0.0").Header.Settled.IsZero() })
	return w
}

// messages of a version that are signs.
func messages(v ocpp.Version) map[campaign.Sign]map[string]string {
	if v == ocpp.V16 {
		return map[campaign.Sign]map[string]string{
			campaign.Fault:   {"StatusNotification": `{"connectorId":1,"errorCode":"GroundFailure","status":"Faulted"}`},
			campaign.Aborted: {"StopTransaction": `{"transactionId":1,"meterStop":1,"timestamp":"2026-06-01T12:00:00Z","reason":"PowerLoss"}`},
		}
	}
	return map[campaign.Sign]map[string]string{
		campaign.Fault: {
			"StatusNotification": `{"timestamp":"2026-06-01T12:00:00Z","connectorStatus":"Faulted","evseId":1,"connectorId":1}`,
			"NotifyEvent":        `{"generatedAt":"2026-06-01T12:00:00Z","seqNo":0,"eventData":[{"eventId":1,"timestamp":"2026-06-01T12:00:00Z","trigger":"Delta","actualValue":"Faulted","eventNotificationType":"HardWiredNotification","component":{"name":"Connector"},"variable":{"name":"AvailabilityState"}}]}`,
		},
		campaign.Aborted: {"TransactionEvent": `{"eventType":"Ended","timestamp":"2026-06-01T12:00:00Z","triggerReason":"AbnormalCondition","seqNo":2,"transactionInfo":{"transactionId":"a","stoppedReason":"GroundFault"}}`},
	}
}

// A ring whose stations come back more often, or have more faults or failed
// transactions, than those whose turn hasn't come isn't followed by the next. What was
// counted outlives a kill.
func TestRingsAreCompared(t *testing.T) {
	t.Parallel()
	for _, sign := range []campaign.Sign{campaign.Reconnect, campaign.Fault, campaign.Aborted} {
		for name, everybody := range map[string]bool{"of the ring": false, "of all": true} {
			t.Run(string(sign)+" "+name, func(t *testing.T) {
				t.Parallel()
				w := soaking(t, 2)
				for _, m := range w.progress("2.0.0").Members {
					if m.Wave > 0 && !everybody {
						continue
					}
					if w.rollout.Saw(m.ID, sign); sign == campaign.Reconnect {
						continue
					}
					for action, payload := range messages(w.stations[m.ID].version)[sign] {
						w.rollout.Message(m.ID, action, []byte(payload))
					}
				}
				w.step(5 * time.Second)
				w.open()
				w.run("it halts, or goes on", 2*time.Hour, func() bool {
					h := w.progress("2.0.0").Header
					return h.Phase == rollout.Halted || h.Wave > 0
				})
				h := w.progress("2.0.0").Header
				if everybody {
					if h.Wave != 1 || len(w.halted) > 0 {
						t.Errorf("what all show halted it: %+v", h)
					}
					return
				}
				if h.Phase != rollout.Halted || !strings.Contains(h.Why, "8 of the 8 done in wave 1 have more than 0 "+string(sign)) || len(w.halted) != 1 || len(w.sent) != 8 {
					t.Fatalf("%+v; told of %v; %d were sent it", h, w.halted, len(w.sent))
				}
				if _, err := w.rollout.Resume(t.Context(), "operator", "2.0.0", "a storm"); err != nil {
					t.Fatal(err)
				}
				w.run("it is over", 12*time.Hour, w.over)
				if n := w.states(); n[rollout.Done] != 16 {
					t.Errorf("%v", n)
				}
			})
		}
	}
}

// Which messages are signs, and when anybody has to read them.
func TestSignsOfMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6, func(_ int, m *mobile) { m.st.Site = "" })
	const action = "StatusNotification"
	if w.rollout.Interest(ocpp.FromStation, action) {
		t.Error("messages are read while nothing is rolled out")
	}
	w.publish("2.0.0", 20)
	w.begin(plan(func(p *campaign.Plan) {
		p.Rings = []campaign.Ring{{Name: "early", Share: 0.5}, {Name: "rest", Share: 1}}
	}))
	if w.rollout.Interest(ocpp.FromStation, action) || w.changes != 0 {
		t.Error("messages are read before a ring soaks")
	}
	w.run("the first ring is done", time.Hour, func() bool { return w.rollout.Interest(ocpp.FromStation, action) })
	if w.changes != 1 || w.rollout.Interest(ocpp.FromCSMS, action) || w.rollout.Interest(ocpp.FromStation, "Heartbeat") {
		t.Errorf("told %d times that messages are read", w.changes)
	}
	shown := func(key string) map[string]int {
		for _, m := range w.progress("2.0.0").Members {
			if m.ID == key {
				return m.Signs.Count
			}
		}
		return nil
	}
	for _, v := range []ocpp.Version{ocpp.V16, ocpp.V201} {
		for sign, list := range messages(v) {
			for name, payload := range list {
				before := shown("cs-00001")[string(sign)]
				w.rollout.Message("cs-00001", name, []byte(payload))
				w.step(5 * time.Second)
				if got := shown("cs-00001")[string(sign)]; got != before+1 {
					t.Errorf("%s of %s: %d signs, and were %d", name, v, got, before)
				}
			}
		}
	}
	before := fmt.Sprint(shown("cs-00001"))
	for name, list := range map[string][]string{
		"StatusNotification": {`{"status":"Available"}`, `{"connectorStatus":"Occupied"}`, `{"status":"Faulted","status":"Available"}`, `[]`, ``},
		"NotifyEvent":        {`{"eventData":[{"actualValue":"Available","variable":{"name":"AvailabilityState"}},{"actualValue":"Faulted","variable":{"name":"Model"}}]}`},
		"StopTransaction":    {`{"reason":"Local"}`, `{}`},
		"TransactionEvent":   {`{"eventType":"Updated","transactionInfo":{"stoppedReason":"GroundFault"}}`, `{"eventType":"Ended","transactionInfo":{"stoppedReason":"EVDisconnected"}}`},
	} {
		for _, payload := range list {
			w.rollout.Message("cs-00001", name, []byte(payload))
		}
	}
	w.step(5 * time.Second)
	if after := fmt.Sprint(shown("cs-00001")); after != before {
		t.Errorf("%s became %s", before, after)
	}
	w.run("the next ring begins", 2*time.Hour, func() bool { return w.progress("2.0.0").Header.Wave == 1 })
	if w.rollout.Interest(ocpp.FromStation, action) || w.changes != 2 {
		t.Error("messages are read while nothing soaks")
	}
}

// The last ring is compared with itself as it was while the ring before soaked, also
// through restarts.
func TestLastRingIsCompared(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]bool{"faults as before": true, "faults it hadn't": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := soaking(t, 2)
			if before {
				for _, m := range w.progress("2.0.0").Members {
					w.rollout.Saw(m.ID, campaign.Fault)
				}
			}
			w.step(5 * time.Second)
			w.run("the last ring is done", 3*time.Hour, func() bool {
				h := w.progress("2.0.0").Header
				return h.Wave == 1 && !h.Settled.IsZero()
			})
			w.open()
			for _, m := range w.progress("2.0.0").Members {
				w.rollout.Saw(m.ID, campaign.Fault)
			}
			w.step(5 * time.Second)
			w.run("it halts, or is over", 2*time.Hour, func() bool {
				h := w.progress("2.0.0").Header
				return h.Phase == rollout.Halted || h.Phase.Over()
			})
			if h := w.progress("2.0.0").Header; before != (h.Phase == rollout.Finished) || !before && !strings.Contains(h.Why, "8 of the 8 done in wave 2 have more than 0 faults since, and before their turn 0 of 8") {
				t.Errorf("%+v", h)
			}
		})
	}
}

// transact has a station have a transaction, with meter values in it or without.
func (w *world) transact(key string, values bool) {
	messages := []string{"TransactionEvent", `{"eventType":"Started","meterValue":[{"sampledValue":[{"value":1}]}]}`, "TransactionEvent", `{"eventType":"Updated","meterValue":[{"sampledValue":[{"value":2}]}]}`, "TransactionEvent", `{"eventType":"Ended","meterValue":[{"sampledValue":[{"value":3}]}]}`}
	if w.stations[key].version == ocpp.V16 {
		messages = []string{"StartTransaction", `{"connectorId":1,"idTag":"x","meterStart":1}`, "MeterValues", `{"connectorId":1,"transactionId":1,"meterValue":[{"sampledValue":[{"value":"2"}]}]}`, "StopTransaction", `{"transactionId":1,"meterStop":3}`}
	}
	if !values {
		messages = append(messages[:2:2], messages[4:]...)
	}
	for i := 0; i < len(messages); i += 2 {
		w.rollout.Message(key, messages[i], []byte(messages[i+1]))
	}
}

// A ring whose transactions have no meter values any more, or that has neither, isn't
// followed by the next.
func TestMeteringGaps(t *testing.T) {
	t.Parallel()
	const rings = 2 // that others follow on
	for name, tt := range map[string]struct {
		shows func(w *world, m rollout.Member, soak int)
		halts string
		wave  int
	}{
		"as ever":           {func(w *world, m rollout.Member, _ int) { w.transact(m.ID, m.ID != "cs-00000") }, "", 0},
		"of the first ring": {func(w *world, m rollout.Member, _ int) { w.transact(m.ID, m.Wave > 0) }, "8 of the 8 done in wave 1 have more than 0 transactions without meter values since", 0},
		"no transactions": {func(w *world, m rollout.Member, soak int) {
			if m.Wave > soak || soak == 0 {
				w.transact(m.ID, true)
			}
		}, "8 of the 8 done in wave 2 that are there have no meter values since, before their turn it were 0, and of those whose turn hasn't come 0 of 8", 1},
		"clock-aligned values alone": {func(w *world, m rollout.Member, soak int) {
			if m.Wave > soak || soak == 0 {
				w.transact(m.ID, true)
			} else {
				w.rollout.Message(m.ID, "MeterValues", []byte(`{"connectorId":0,"meterValue":[{}]}`))
			}
		}, "have no transactions since", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := soaking(t, 3)
			for soak := range rings {
				w.run("the ring is done", 3*time.Hour, func() bool {
					h := w.progress("2.0.0").Header
					return h.Phase == rollout.Halted || h.Wave == soak && !h.Settled.IsZero()
				})
				for _, m := range w.progress("2.0.0").Members {
					tt.shows(w, m, soak)
				}
				w.step(5 * time.Second)
				w.run("the next ring begins, or it halts", 3*time.Hour, func() bool {
					h := w.progress("2.0.0").Header
					return h.Phase == rollout.Halted || h.Wave > soak
				})
			}
			h := w.progress("2.0.0").Header
			if tt.halts == "" && (h.Phase != rollout.Running || h.Wave != rings) || tt.halts != "" && (h.Phase != rollout.Halted || h.Wave != tt.wave || !strings.Contains(h.Why, tt.halts)) {
				t.Errorf("%+v", h)
			}
		})
	}
}

// Of transactions that overlap, or that began before signs counted, nothing is said.
func TestTransactionsThatOverlap(t *testing.T) {
	t.Parallel()
	w := soaking(t, 2)
	say := func(action, payload string) { w.rollout.Message("cs-00000", action, []byte(payload)) }
	began, values, ended := `{"connectorId":1}`, `{"meterValue":[{}]}`, `{"transactionId":1}`
	say("StopTransaction", ended)
	say("StartTransaction", began)
	say("MeterValues", values)
	say("StartTransaction", began)
	say("StopTransaction", ended)
	say("StopTransaction", ended)
	say("StartTransaction", began)
	say("MeterValues", `{"meterValue":[]}`)
	say("StopTransaction", ended)
	w.step(5 * time.Second)
	for _, m := range w.progress("2.0.0").Members {
		if n := m.Signs.Count[string(campaign.Unmetered)]; m.ID == "cs-00000" && n != 1 {
			t.Errorf("%d transactions without meter values, not the last alone: %v", n, m.Signs.Count)
		}
	}
}
