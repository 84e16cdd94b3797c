package gateway_test

import (
	"context"
	"fmt"
	"testing"

	"bollard/fleet"
	"bollard/gateway"
	"bollard/ocpp"
)

// A verdict that takes its time holds up nothing of its station until too many
// of them do; each CALL gets its own answer, and a late Pass becomes a refusal.
func TestLaterVerdicts(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := newRig(t, func(_ *gateway.Config, r *rig) {
		r.guard.interest = func(_ ocpp.Direction, action string) bool { return action == "Slow" || action == "Wrong" }
		r.guard.message = func(_ context.Context, _ fleet.Session, m fleet.Message) fleet.Verdict {
			return fleet.Verdict{Later: func(ctx context.Context) fleet.Verdict {
				if m.Action == "Wrong" {
					return fleet.Verdict{Act: fleet.Pass}
				}
				select {
				case <-release:
				case <-ctx.Done():
				}
				return fleet.Verdict{Act: fleet.Answer, Payload: map[string]string{"of": string(m.Head.ID)}}
			}}
		}
	})
	station, backend := r.station(t, "CS-1", nil)
	for i := range 4 {
		station.send(t, fmt.Sprintf(`[2,"s%d","Slow",{}]`, i))
	}
	station.send(t, `[2,"a","Heartbeat",{}]`)
	backend.want(t, `[2,"a","Heartbeat",{}]`)
	handedOn := func() float64 { return r.metric(t, "messages_total", "direction=from-station", "type=call") }
	eventually(t, "one CALL counted as handed on", func() bool { return handedOn() == 1 })
	station.send(t, `[2,"s4","Slow",{}]`) // one too many: it holds the pump up
	station.send(t, `[2,"b","Heartbeat",{}]`)
	backend.send(t, `[3,"a",{}]`)
	station.want(t, `[3,"a",{}]`)
	backend.send(t, `[2,"c","Reset",{"type":"Soft"}]`) // the other way goes on
	station.want(t, `[2,"c","Reset",{"type":"Soft"}]`)
	if n := handedOn(); n != 1 {
		t.Errorf("%v CALLs were handed on while too many verdicts are worked out, want 1", n)
	}
	close(release)
	got := map[string]bool{}
	for range 5 {
		got[string(must(station.ReadMessage()))] = true
	}
	for i := range 5 {
		if want := fmt.Sprintf(`[3,"s%d",{"of":"s%d"}]`, i, i); !got[want] {
			t.Errorf("%s is missing in %v", want, got)
		}
	}
	backend.want(t, `[2,"b","Heartbeat",{}]`)
	station.send(t, `[2,"w","Wrong",{}]`)
	station.wantPrefix(t, `[4,"w","InternalError"`)
}
