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

// soaking is a rollout to 40 stations whose first ring, a half of them, is done.
func soaking(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 40, func(_ int, m *mobile) { m.st.Site = "" })
	w.publish("2.0.0", 20)
	w.begin(plan(func(p *campaign.Plan) {
		p.Rings = []campaign.Ring{{Name: "early", Share: 0.5}, {Name: "rest", Share: 1}}
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
				w := soaking(t)
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
				if h.Phase != rollout.Halted || !strings.Contains(h.Why, "20 of the 20 done in wave 1 have more than 0 "+string(sign)) || len(w.halted) != 1 || len(w.sent) != 20 {
					t.Fatalf("%+v; told of %v; %d were sent it", h, w.halted, len(w.sent))
				}
				if _, err := w.rollout.Resume(t.Context(), "operator", "2.0.0", "a storm"); err != nil {
					t.Fatal(err)
				}
				w.run("it is over", 12*time.Hour, w.over)
				if n := w.states(); n[rollout.Done] != 40 {
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
	if w.changes != 1 || w.rollout.Interest(ocpp.FromCSMS, action) || w.rollout.Interest(ocpp.FromStation, "MeterValues") {
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
			w := soaking(t)
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
			if h := w.progress("2.0.0").Header; before != (h.Phase == rollout.Finished) || !before && !strings.Contains(h.Why, "20 of the 20 done in wave 2 have more than 0 faults since, and before their turn 0 of 20") {
				t.Errorf("%+v", h)
			}
		})
	}
}
