package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"bollard/e2e/rawws"
	"bollard/fleet"
	"bollard/gateway"
	"bollard/ocpp"
)

// frames that must arrive as they were sent.
func oddFrames(id string) []string {
	return []string{
		fmt.Sprintf(`[2,"%s-1","Heartbeat",{}]`, id),
		fmt.Sprintf(" [ 2 ,\n\t\"%s-2\" , \"StatusNotification\" , { \"a\" : [ 1.50e+2 , null ] } ] \r\n", id),
		fmt.Sprintf(`[2,"%s-3","\u0046oo\u002dBar",{"x":"\u0000\/\ud83d\ude00","x":2}]`, id),
		fmt.Sprintf(`[2,"%s-4","NotifyReport",{"data":"%s"}]`, id, strings.Repeat("0123456789abcdef", 12500)),
		`[2,47110815,"Heartbeat",null]`,
	}
}

func TestPassThroughIsByteForByte(t *testing.T) {
	t.Parallel()
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprintf("compress=%t", compress), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.WS.Compression = compress })
			station, backend := r.station(t, "CS-1", func(q *rawws.Request) { q.Compress = compress })
			ids := []string{`"s-1"`, `"s-2"`, `"s-3"`, `"s-4"`, `47110815`}
			for i, frame := range oddFrames("s") {
				if compress {
					if err := station.WriteFrame(rawws.Frame{Op: rawws.Text, Fin: true, RSV1: true, Payload: rawws.Deflate([]byte(frame))}); err != nil {
						t.Fatal(err)
					}
				} else {
					station.send(t, frame)
				}
				backend.want(t, frame)
				answer := "[3 , " + ids[i] + ` , {"\u0061" :"` + strings.Repeat("z", i*50000) + `"}]`
				backend.send(t, answer)
				station.want(t, answer)
			}
			for i, frame := range oddFrames("s") {
				backend.send(t, frame)
				station.want(t, frame)
				answer := "[4," + ids[i] + `,"NotSupported","no",{ }]`
				station.send(t, answer)
				backend.want(t, answer)
			}
			// Counted once written, so a moment after the peer has it.
			eventually(t, "20 messages counted", func() bool { return r.metric(t, "messages_total") == 20 })
		})
	}
}

func TestHeadsCutAtEveryByte(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *gateway.Config, r *rig) {
		r.guard.interest = func(_ ocpp.Direction, action string) bool { return action == "SignCertificate" }
		r.guard.message = func(_ context.Context, _ fleet.Session, m fleet.Message) fleet.Verdict {
			return fleet.Verdict{Act: fleet.Answer, Payload: map[string]string{"status": "Accepted"}}
		}
	})
	station, backend := r.station(t, "CS-1", nil)
	pass := `[2,"1","Heartbeat",{}]`
	mine := `[2,"2","\u0053ignCertificate",{"csr":"x"}]`
	for cut := range len(mine) {
		if cut < len(pass) {
			fragments(t, station, pass, cut)
			backend.want(t, pass)
			backend.send(t, `[3,"1",{}]`)
			station.want(t, `[3,"1",{}]`)
		}
		fragments(t, station, mine, cut)
		station.want(t, `[3,"2",{"status":"Accepted"}]`)
	}
	// One byte in each frame, with a ping between: controls may come inside a message.
	var all []rawws.Frame
	for i := range len(mine) {
		all = append(all, rawws.Frame{Op: map[bool]byte{true: rawws.Text, false: rawws.Continuation}[i == 0],
			Fin: i == len(mine)-1, Payload: []byte{mine[i]}})
	}
	if err := station.WriteFrames(all...); err != nil {
		t.Fatal(err)
	}
	station.want(t, `[3,"2",{"status":"Accepted"}]`)
	station.send(t, pass)
	backend.want(t, pass) // nothing of the others went upstream
}

func fragments(t *testing.T, l *link, msg string, cut int) {
	t.Helper()
	err := l.WriteFrames(rawws.Frame{Op: rawws.Text, Payload: []byte(msg[:cut])},
		rawws.Frame{Op: rawws.Continuation, Fin: true, Payload: []byte(msg[cut:])})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBadFramesAreAnsweredAsTheVersionSays(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, version, frame, answer string // answer "": dropped
	}{
		{"no JSON 1.6", "ocpp1.6", `hello`, ""},
		{"no JSON 2.0.1", "ocpp2.0.1", `hello`, `[4,"-1","RpcFrameworkError",`},
		{"no JSON 2.1", "ocpp2.1", `[`, `[4,"-1","RpcFrameworkError",`},
		{"no action 1.6", "ocpp1.6", `[2,"7"]`, `[4,"7","FormationViolation",`},
		{"no action 2.0.1", "ocpp2.0.1", `[2,"7"]`, `[4,"7","FormatViolation",`},
		{"too deep 2.1", "ocpp2.1", `[2,"7","A",` + strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 41), `[4,"7","FormatViolation",`},
		{"unknown type 1.6", "ocpp1.6", `[9,"7",{}]`, ""},
		{"unknown type 2.0.1", "ocpp2.0.1", `[9,"7",{}]`, `[4,"7","MessageTypeNotSupported",`},
		{"unknown type 2.1", "ocpp2.1", `[9,"7",{}]`, ""},
		{"SEND 1.6", "ocpp1.6", `[6,"7","A",{}]`, ""},
		{"SEND 2.0.1", "ocpp2.0.1", `[6,"7","A",{}]`, `[4,"7","MessageTypeNotSupported",`},
		{"CALLRESULTERROR 2.0.1", "ocpp2.0.1", `[5,"7","GenericError","",{}]`, `[4,"7","MessageTypeNotSupported",`},
		{"broken answer", "ocpp2.0.1", `[3,"7"]`, ""},
		{"private id", "ocpp1.6", `[2,"bollard:1","Heartbeat",{}]`, `[4,"bollard:1","PropertyConstraintViolation",`},
		{"private id, escaped", "ocpp2.1", `[2,"\u0062ollard:1","Heartbeat",{}]`, `[4,"\u0062ollard:1","PropertyConstraintViolation",`},
		{"private id in a SEND", "ocpp2.1", `[6,"bollard:1","NotifyPeriodicEventStream",{}]`, ""},
		{"unsolicited answer", "ocpp1.6", `[3,"7",{}]`, ""},
		{"unsolicited complaint", "ocpp2.1", `[5,"7","GenericError","",{}]`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			station, backend := r.station(t, "CS-1", func(q *rawws.Request) { q.Subprotocols = []string{tt.version} })
			for _, side := range []struct {
				name     string
				from, to *link
			}{{"station", station, backend}, {"backend", backend, station}} {
				side.from.send(t, tt.frame)
				if tt.answer != "" {
					side.from.wantPrefix(t, tt.answer)
				}
				side.from.send(t, `[2,"next","Heartbeat",{}]`)
				side.to.want(t, `[2,"next","Heartbeat",{}]`) // and nothing before it
			}
			eventually(t, "both counted", func() bool { return r.metric(t, "frames_dropped_total") == 2 })
		})
	}
}

func TestSendAndComplaintsOf21(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	station, backend := r.station(t, "CS-1", func(q *rawws.Request) { q.Subprotocols = []string{"ocpp2.1"} })
	send := `[6,"1","NotifyPeriodicEventStream",{"id":1}]`
	station.send(t, send)
	backend.want(t, send)

	complaint := `[5,"a","FormatViolation","",{}]`
	for range 2 { // only once for each answer
		station.send(t, `[2,"a","Heartbeat",{}]`)
		backend.want(t, `[2,"a","Heartbeat",{}]`)
		backend.send(t, `[3,"a",{}]`)
		station.want(t, `[3,"a",{}]`)
		backend.send(t, complaint) // its answer went the other way
		station.send(t, complaint)
		backend.want(t, complaint)
		station.send(t, complaint)
	}
	station.send(t, send)
	backend.want(t, send)
	backend.send(t, `[2,"b","Reset",{}]`)
	station.want(t, `[2,"b","Reset",{}]`)
	station.send(t, `[3,"b",{}]`)
	backend.want(t, `[3,"b",{}]`)
	backend.send(t, `[5,"b","FormatViolation","",{}]`)
	station.want(t, `[5,"b","FormatViolation","",{}]`)
}

func TestWebSocketViolations(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		frame rawws.Frame
		code  int
	}{
		{"binary", rawws.Frame{Op: rawws.Binary, Fin: true, Payload: []byte("x")}, 1003},
		{"invalid UTF-8", rawws.Frame{Op: rawws.Text, Fin: true, Payload: []byte("[2,\"1\",\"A\",{\"a\":\"\xff\"}]")}, 1007},
		{"too big", rawws.Frame{Op: rawws.Text, Fin: true, Payload: []byte(strings.Repeat(" ", 70000))}, 1009},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Limits.WS.MaxMessage = 1 << 16 })
			station, backend := r.station(t, "CS-1", nil)
			if err := station.WriteFrame(tt.frame); err != nil {
				t.Fatal(err)
			}
			station.wantClose(t, tt.code)
			backend.wantClose(t, 1001)
		})
	}
}

func TestSignedActionsAreJudgedByTheirBase(t *testing.T) {
	t.Parallel()
	seen := make(chan fleet.Message, 8)
	r := newRig(t, func(_ *gateway.Config, r *rig) {
		r.guard.interest = func(_ ocpp.Direction, action string) bool { return action == "Reset" }
		r.guard.message = func(_ context.Context, _ fleet.Session, m fleet.Message) fleet.Verdict {
			seen <- m
			return fleet.Verdict{}
		}
	})
	station, backend := r.station(t, "CS-1", func(q *rawws.Request) { q.Subprotocols = []string{"ocpp2.1"} })
	frame := `[2,"1","Reset-Signed",{"payload":"eyJ0eXBlIjoiSW1tZWRpYXRlIn0","protected":"e30","signature":"AA"}]`
	backend.send(t, frame)
	station.want(t, frame)
	if m := <-seen; m.Action != "Reset" || string(m.Payload) != `{"type":"Immediate"}` {
		t.Errorf("the service saw %s %s", m.Action, m.Payload)
	}
	backend.send(t, `[2,"2","Reset-Signed",{"payload":"%"}]`)
	backend.wantPrefix(t, `[4,"2","FormatViolation",`)
	other := `[2,"3","GetLog-Signed",{"payload":"%"}]` // none of our business
	station.send(t, `[3,"1",{}]`)
	backend.want(t, `[3,"1",{}]`)
	backend.send(t, other)
	station.want(t, other)
}

func TestRandomSplits(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	station, backend := r.station(t, "CS-1", nil)
	rng := rand.New(rand.NewPCG(1, 2))
	frame := oddFrames("s")[3]
	for i := range 5 {
		var all []rawws.Frame
		for rest := frame; ; {
			n := min(1+rng.IntN(1<<(4+3*i)), len(rest))
			op := byte(rawws.Continuation)
			if len(all) == 0 {
				op = rawws.Text
			}
			all = append(all, rawws.Frame{Op: op, Fin: n == len(rest), Payload: []byte(rest[:n])})
			if rest = rest[n:]; rest == "" {
				break
			}
		}
		done := make(chan error, 1)
		go func() { done <- station.WriteFrames(all...) }()
		backend.want(t, frame)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// A SEND has no answer of any kind (OCPP 2.1 part 4 §4.1.3), whatever a service
// or a fault would answer.
func TestNothingAnswersASend(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *gateway.Config, r *rig) {
		r.guard.interest = func(_ ocpp.Direction, a string) bool { return strings.HasPrefix(a, "X") }
		r.guard.message = func(_ context.Context, _ fleet.Session, m fleet.Message) fleet.Verdict {
			if m.Action == "XAnswer" {
				return fleet.Verdict{Act: fleet.Answer, Payload: map[string]string{"status": "Accepted"}}
			}
			return fleet.Verdict{Act: fleet.Refuse, Code: ocpp.SecurityError}
		}
	})
	station, backend := r.station(t, "CS-1", func(q *rawws.Request) { q.Subprotocols = []string{"ocpp2.1"} })
	for _, side := range []struct{ from, to *link }{{station, backend}, {backend, station}} {
		for _, frame := range []string{
			`[6,"1","XAnswer",{}]`, `[6,"2","XRefuse",{}]`, `[6,"bollard:1","Any",{}]`, `[6,"3","XAnswer-Signed",{}]`, `[6,"4","Any",[]]`, `[6,"5"]`,
		} {
			side.from.send(t, frame)
		}
		side.from.send(t, `[2,"6","XAnswer",{}]`)
		side.from.want(t, `[3,"6",{"status":"Accepted"}]`) // the first frame that came back
		side.from.send(t, `[6,"7","Any",{}]`)
		side.to.want(t, `[6,"7","Any",{}]`) // the first that went through
	}
}

// Threat F1: bad frames are counted, all of them; lines of log are few.
func TestBadFramesDontFillTheLog(t *testing.T) {
	t.Parallel()
	var lines atomic.Int32
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Log = slog.New(slog.NewTextHandler(writer(func(p []byte) {
			if bytes.Contains(p, []byte("frame not handed on")) {
				lines.Add(1)
			}
			if bytes.Contains(p, []byte("CANARY")) {
				t.Errorf("the log repeats a frame: %s", p)
			}
		}), nil))
	})
	station, backend := r.station(t, "CS-1", nil)
	const frames = 100
	for range frames {
		station.send(t, `[3,"CANARY",{"idTag":"CANARY"}]`)
	}
	station.send(t, `[2,"1","Heartbeat",{}]`)
	backend.want(t, `[2,"1","Heartbeat",{}]`)
	if n := r.metric(t, "frames_dropped_total"); n != frames {
		t.Errorf("%v frames counted, want %d", n, frames)
	}
	if n := lines.Load(); n != 20 {
		t.Errorf("%d log lines, want 20", n)
	}
}
