package gateway_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"bollard/e2e/rawws"
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

// The answer to a rewritten message is merged for the one who asked, whether it
// went on at once or waited; what can't be merged goes on as it came.
func TestMergedAnswers(t *testing.T) {
	t.Parallel()
	for name, compress := range map[string]bool{"loop": false, "pumps": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			watched := make(chan string, 8)
			r := newRig(t, func(cfg *gateway.Config, r *rig) {
				cfg.Limits.WS.Compression = true
				r.guard.interest = func(_ ocpp.Direction, a string) bool { return strings.HasPrefix(a, "X") }
				r.guard.message = func(_ context.Context, _ fleet.Session, m fleet.Message) fleet.Verdict {
					return fleet.Verdict{Act: fleet.Pass, Rewrite: json.RawMessage(`{"good":1}`), Watch: m.Action == "XWatch",
						Merge: func(result json.RawMessage) (any, error) {
							if strings.Contains(string(result), "odd") {
								return nil, errors.New("can't be merged")
							}
							return map[string]json.RawMessage{"merged": result}, nil
						}}
				}
				r.guard.answered = func(c fleet.Message, a ocpp.Head) { watched <- string(c.Payload) + string(a.Payload) }
			})
			station, backend := r.station(t, "CS-1", func(q *rawws.Request) {
				q.Subprotocols, q.Compress = []string{"ocpp2.1"}, compress
			})
			for _, side := range []struct{ from, to *link }{{station, backend}, {backend, station}} {
				for action, tt := range map[string][2]string{
					"XMerge": {`[3,"1",{"a":"<"}]`, `[3,"1",{"merged":{"a":"<"}}]`}, "XError": {`[4,"1","InternalError","",{}]`, `[4,"1","InternalError","",{}]`},
					"XOdd": {`[3,"1",{"odd": 1}]`, `[3,"1",{"odd": 1}]`}, "XWatch": {`[3,"1",{}]`, `[3,"1",{"merged":{}}]`},
				} {
					side.from.send(t, `[2, "1" ,"`+action+`",{"bad":1}]`)
					side.to.want(t, `[2,"1","`+action+`",{"good":1}]`)
					side.to.send(t, tt[0])
					side.from.want(t, tt[1])
				}
				if got := <-watched; got != `{"bad":1}{}` {
					t.Errorf("watched %s", got)
				}
			}
			backend.send(t, `[2,"7","Reset",{}]`)
			backend.send(t, `[2,"8","XMerge",{"bad":1}]`) // waits
			backend.send(t, `[2,"9","ClearCache",{}]`)
			station.want(t, `[2,"7","Reset",{}]`)
			station.send(t, `[3,"7",{}]`)
			backend.want(t, `[3,"7",{}]`)
			station.want(t, `[2,"8","XMerge",{"good":1}]`)
			station.send(t, `[3,"8",{}]`)
			backend.want(t, `[3,"8",{"merged":{}}]`)
			station.want(t, `[2,"9","ClearCache",{}]`)
		})
	}
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
