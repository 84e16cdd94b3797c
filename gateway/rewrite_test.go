package gateway_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"testing"

	"bollard/fleet"
	"bollard/gateway"
	"bollard/ocpp"
)

// A rewritten message arrives in the service's words, with the sender's id, and
// its answer goes back; a signed one is refused instead.
func TestRewrittenMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *gateway.Config, r *rig) {
		r.guard.interest = func(_ ocpp.Direction, action string) bool { return action == "GetLog" }
		r.guard.message = func(context.Context, fleet.Session, fleet.Message) fleet.Verdict {
			return fleet.Verdict{Act: fleet.Pass, Rewrite: json.RawMessage(`{"retries":3}`)}
		}
	})
	station, backend := r.station(t, "CS-1", nil)
	backend.send(t, `[2, 4711 ,"G\u0065tLog", {"retries": 99}]`)
	station.want(t, `[2,4711,"GetLog",{"retries":3}]`)
	station.send(t, `[3,4711,{"status":"Accepted"}]`)
	backend.want(t, `[3,4711,{"status":"Accepted"}]`)
	station.send(t, `[2,"x","GetLog",{"retries": 99}]`)
	backend.want(t, `[2,"x","GetLog",{"retries":3}]`)

	inner := base64.RawURLEncoding.EncodeToString([]byte(`{"retries":99}`))
	backend.send(t, `[2,"2","GetLog-Signed",{"protected":"e30","payload":"`+inner+`","signature":"AA"}]`)
	backend.wantPrefix(t, `[4,"2","InternalError"`)
}

// Live sessions follow a guard that changed its mind.
func TestReconsiderReachesLiveSessions(t *testing.T) {
	t.Parallel()
	wants := make(chan bool, 1)
	wants <- false
	r := newRig(t, func(_ *gateway.Config, r *rig) {
		r.guard.interest = func(ocpp.Direction, string) bool { w := <-wants; wants <- w; return w }
		r.guard.message = func(context.Context, fleet.Session, fleet.Message) fleet.Verdict {
			return fleet.Verdict{Act: fleet.Refuse, Code: ocpp.SecurityError}
		}
	})
	station, backend := r.station(t, "CS-1", nil)
	backend.send(t, `[2,"1","Reset",{}]`)
	station.want(t, `[2,"1","Reset",{}]`)
	station.send(t, `[3,"1",{}]`)
	backend.want(t, `[3,"1",{}]`)
	<-wants
	wants <- true
	r.Reconsider()
	backend.send(t, `[2,"2","Reset",{}]`)
	backend.wantPrefix(t, `[4,"2","SecurityError"`)
}
