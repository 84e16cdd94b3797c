package fleet_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/ocpp"
)

// profiles is a station's order of network profiles; the second of them is in use.
type profiles struct {
	mu     sync.Mutex
	order  string
	refuse bool // changes of the order
	writes int
}

func (p *profiles) read() (order string, writes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.order, p.writes
}

func (p *profiles) answer(active string) func(string, json.RawMessage) (any, error) {
	rest := lowerable("true", map[string]any{"Reset": map[string]string{"status": "Rejected"}})
	return func(action string, payload json.RawMessage) (any, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		answered := func(name, value string) any {
			return json.RawMessage(`{"getVariableResult":[{"attributeStatus":"Accepted","attributeValue":"` + p.order + `","component":{"name":"OCPPCommCtrlr"},"variable":{"name":"NetworkConfigurationPriority"}},` +
				`{"attributeStatus":"Accepted","attributeValue":"` + value + `","component":{"name":"OCPPCommCtrlr"},"variable":{"name":"` + name + `"}}]}`)
		}
		switch {
		case action == "GetVariables" && strings.Contains(string(payload), "NetworkConfigurationPriority"):
			return answered("ActiveNetworkProfile", active), nil
		case action == "SetVariables" && strings.Contains(string(payload), "NetworkConfigurationPriority"):
			if p.writes++; p.refuse {
				return json.RawMessage(`{"setVariableResult":[{"attributeStatus":"Rejected","component":{"name":"OCPPCommCtrlr"},"variable":{"name":"NetworkConfigurationPriority"}}]}`), nil
			}
			var set ocpp.SetVariablesRequest
			if err := json.Unmarshal(payload, &set); err != nil {
				return nil, err
			}
			p.order = set.SetVariableData[0].AttributeValue
		}
		return rest(action, payload)
	}
}

// A station that didn't come down has its order of network profiles back, or it
// would try the lower one at each start and be refused (B10).
func TestOrderAfterAWayDownThatCameToNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		end func(*testing.T, *rig) // of the way down
		// active is the profile in use afterwards; refuse: the first try is refused.
		active string
		refuse bool
		want   string
	}{
		"over":       {func(_ *testing.T, r *rig) { r.advance(time.Hour) }, "1", false, "1,0"},
		"taken back": {raise, "1", false, "1,0"},
		"over, through a restart of ours": {func(_ *testing.T, r *rig) {
			r.advance(time.Hour)
			r.restart()
		}, "1", false, "1,0"},
		"refused at first":          {raise, "1", true, "1,0"},
		"filled anew by the owner":  {raise, "2", false, "2,1,0"},
		"lost, and found as it was": {lostAndFound, "1", false, "1,0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c := newCouncil(t, "alice", "bob").of(r)
			p := &profiles{order: "1,0"}
			s, on3 := r.onProfile3("CS-1", ocpp.V201, p.answer("1"))
			s.ready()
			c.signed(c.ask("CS-1", time.Hour), "alice", "bob")
			if _, err := r.svc.SetProfile(t.Context(), "operator:root", "CS-1", 2); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the lower profile is first", func() bool { order, _ := p.read(); return order == "2,1,0" })
			eventually(t, "Reset", func() bool { return len(s.sent("Reset")) > 0 })
			s.close()
			p.mu.Lock()
			p.refuse, p.writes = tt.refuse, 0
			p.mu.Unlock()
			tt.end(t, r)
			if name == "lost, and found as it was" {
				on3 = withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-CS-1")...)
			}
			s = r.openWith(r.admit(on3), ocpp.V201, fleet.SecurityBollard, p.answer(tt.active))
			s.ready()
			if tt.refuse {
				eventually(t, "a refused try", func() bool { _, n := p.read(); return n == 1 })
				s.wg.Wait()
				p.mu.Lock()
				p.refuse = false
				p.mu.Unlock()
				r.advance(time.Hour)
			}
			eventually(t, "the order", func() bool { order, _ := p.read(); return order == tt.want && r.plan("CS-1").Slot == "" })
			s.wg.Wait()
			events := r.events("plan.order")
			if _, n := p.read(); len(events) != 1 || events[0].Data["slot"] != "2" || n > 2 {
				t.Errorf("%d writes, recorded %+v", n, events)
			}
			// Once is enough.
			s.close()
			again := r.openWith(r.admit(on3), ocpp.V201, fleet.SecurityBollard, p.answer(tt.active))
			again.ready()
			again.wg.Wait()
			if got := again.actions(); slices.Contains(got, "SetVariables") {
				t.Errorf("sent %v", got)
			}
		})
	}
}

func raise(t *testing.T, r *rig) {
	t.Helper()
	if _, err := r.svc.SetProfile(t.Context(), "operator:root", "CS-1", 3); err != nil {
		t.Fatal(err)
	}
}

func lostAndFound(t *testing.T, r *rig) {
	t.Helper()
	if _, err := r.svc.Lose(t.Context(), "operator:root", "CS-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.svc.Find(t.Context(), "operator:root", "CS-1", 0); err != nil {
		t.Fatal(err)
	}
}
