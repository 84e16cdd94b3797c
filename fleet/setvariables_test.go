package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/ledger"
	"bollard/ocpp"
)

// Each entry of a mixed list gets what it gets alone, in the order of the
// request; what goes on keeps its spelling, what doesn't isn't seen by anybody.
func TestMixedSetVariables(t *testing.T) { // promise 4, B05
	t.Parallel()
	r := newRig(t)
	adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
	s := r.open(adm, ocpp.V21)
	const (
		good1 = `{"attributeValue":"<1>","component":{"name":"AlignedDataCtrlr"},"variable":{"name":"Interval"},"customData":{"vendorId":"x"}}`
		bad1  = `{"attributeType":"Target","attributeValue":"secret-1","component":{"name":"SecurityCtrlr","instance":"1"},"variable":{"name":"BasicAuthPassword"}}`
		good2 = `{"attributeValue":"2","component":{"name":"ClockCtrlr"},"variable":{"name":"TimeZone"}}`
		bad2  = `{"attributeValue":"2,1","component":{"name":"ocppcommctrlr"},"variable":{"name":" NetworkConfigurationPriority"}}`
	)
	list := func(entries ...string) string { return `[` + strings.Join(entries, ",") + `]` }
	for name, tt := range map[string]struct{ asked, passed, results, merged string }{
		"bad first":  {list(bad1, good1, good2), list(good1, good2), `[{"n":1},{"n":2}]`, `R12`},
		"bad last":   {list(good1, good2, bad2), list(good1, good2), `[{"n":1},{"n":2}]`, `12R`},
		"in between": {list(good1, bad1, good2, bad2), list(good1, good2), `[{"n":1},{"n":2}]`, `1R2R`},
		"too few":    {list(bad1, good1, good2), list(good1, good2), `[{"n":1}]`, `R1`},
		"too many":   {list(good1, bad2), list(good1), `[{"n":1},{"n":2}]`, `1R2`},
	} {
		t.Run(name, func(t *testing.T) {
			v := s.judge(ocpp.FromCSMS, "SetVariables", `{"customData":{"vendorId":"y"},"setVariableData":`+tt.asked+`}`)
			if v.Act != fleet.Pass || v.Rewrite == nil || v.Reason == "" || strings.Contains(v.Reason, "secret-1") {
				t.Fatalf("%+v", v)
			}
			var passed struct {
				Custom json.RawMessage `json:"customData"`
				Data   json.RawMessage `json:"setVariableData"`
			}
			if err := json.Unmarshal(v.Rewrite, &passed); err != nil {
				t.Fatal(err)
			}
			if got := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(passed.Data)); got != tt.passed || string(passed.Custom) != `{"vendorId":"y"}` {
				t.Errorf("passed %s %s", got, passed.Custom)
			}
			merged, err := v.Merge(json.RawMessage(`{"setVariableResult":` + tt.results + `}`))
			if err != nil {
				t.Fatal(err)
			}
			var out struct {
				Results []struct {
					N      int    `json:"n"`
					Status string `json:"attributeStatus"`
				} `json:"setVariableResult"`
			}
			if err := json.Unmarshal([]byte(marshal(t, merged)), &out); err != nil {
				t.Fatal(err)
			}
			order := ""
			for _, res := range out.Results {
				order += map[bool]string{true: "R", false: string(rune('0' + res.N))}[res.Status == "Rejected"]
			}
			if order != tt.merged {
				t.Errorf("merged to %s, want %s", order, tt.merged)
			}
			if _, err := v.Merge(json.RawMessage(`{"setVariableResult":1}`)); err == nil {
				t.Error("an unreadable answer was merged")
			}
		})
	}
	// Nothing of what is signed as a whole can go on.
	mixed := `{"setVariableData":` + list(good1, bad1) + `}`
	v := r.svc.Message(t.Context(), s, fleet.Message{Direction: ocpp.FromCSMS, Action: "SetVariables",
		Head: ocpp.Head{Type: ocpp.Call, ID: []byte("1"), Action: "SetVariables-Signed"}, Payload: json.RawMessage(mixed)})
	if v.Act != fleet.Answer || strings.Count(status(v), "Rejected") != 2 {
		t.Errorf("signed: %+v", v)
	}
}

// What a back end sets as the password becomes the secret it will ask Bollard
// for, if it asks per station; the station never hears it and takes another.
func TestBackEndPasswordBecomesTheUpstreamSecret(t *testing.T) { // A01
	t.Parallel()
	const value = "a-passphrase-of-24-chars"
	entry := `{"attributeValue":"` + value + `","component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"}}`
	harmless := `{"attributeValue":"UTC","component":{"name":"ClockCtrlr"},"variable":{"name":"TimeZone"}}`
	hexed := `{"key":"AuthorizationKey","value":"` + strings.Repeat("4f", 20) + `"}`
	for _, tt := range []struct {
		name    string
		version ocpp.Version
		action  string
		payload string
		perSt   bool // the back end asks per station
		fails   bool // the secret can't be stored
		kept    string
	}{
		{"2.x", ocpp.V201, "SetVariables", `{"setVariableData":[` + entry + `]}`, true, false, value},
		{"2.x among others", ocpp.V21, "SetVariables", `{"setVariableData":[` + harmless + `,` + entry + `]}`, true, false, value},
		{"1.6 hex", ocpp.V16, "ChangeConfiguration", hexed, true, false, strings.Repeat("O", 20)},
		{"1.6 passphrase", ocpp.V16, "ChangeConfiguration", `{"key":"AuthorizationKey","value":"plain-passphrase"}`, true, false, "plain-passphrase"},
		{"1.6 too long", ocpp.V16, "ChangeConfiguration", `{"key":"AuthorizationKey","value":"` + value + `"}`, true, false, ""},
		{"too short", ocpp.V201, "SetVariables", `{"setVariableData":[` + strings.Replace(entry, value, "short", 1) + `]}`, true, false, ""},
		{"as the target", ocpp.V201, "SetVariables", `{"setVariableData":[` + strings.Replace(entry, `{`, `{"attributeType":"Target",`, 1) + `]}`, true, false, ""},
		{"of a network", ocpp.V21, "SetVariables", `{"setVariableData":[` + strings.Replace(entry, "SecurityCtrlr", "NetworkConfiguration", 1) + `]}`, true, false, ""},
		{"back end asks for no secret", ocpp.V201, "SetVariables", `{"setVariableData":[` + entry + `]}`, false, false, ""},
		{"disk full", ocpp.V201, "SetVariables", `{"setVariableData":[` + entry + `]}`, true, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			kept := ""
			r.keep = func(_ context.Context, backend, station string, password []byte, e ledger.Event) (bool, error) {
				if backend != "csms" || station != "cs-1" || e.Kind != "backend.password" || strings.Contains(marshal(t, e), string(password)) {
					t.Errorf("kept for %s, %s with %+v", backend, station, e)
				}
				if tt.fails {
					return true, errors.New("disk full")
				}
				if tt.perSt {
					kept = string(password)
				}
				return tt.perSt, nil
			}
			r.start()
			adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
			r.advance(2 * time.Hour)
			s := r.open(adm, tt.version)
			r.advance(time.Minute)
			v := s.message(ocpp.FromCSMS, tt.action, tt.payload)
			if kept != tt.kept {
				t.Errorf("kept %q", kept)
			}
			accepted := strings.Contains(status(v), `"Accepted"`)
			switch {
			case v.Act == fleet.Pass && !strings.Contains(string(v.Rewrite), "TimeZone"):
				t.Errorf("verdict %+v", v)
			case v.Act == fleet.Answer && accepted != (tt.kept != ""):
				t.Errorf("answered %s", status(v))
			}
			if strings.Contains(status(v)+string(v.Rewrite), value) {
				t.Error("the station, or the answer, sees the value")
			}
			if tt.kept == "" {
				if r.station("CS-1").RotateWanted {
					t.Error("station is to take a new password although nothing was kept")
				}
				return
			}
			sending := map[bool]string{true: "ChangeConfiguration", false: "SetVariables"}[tt.version == ocpp.V16]
			eventually(t, "a new password of the station's own", func() bool { return len(s.sent(sending)) == 1 })
			if strings.Contains(string(s.sent(sending)[0]), value) || !slices.ContainsFunc(r.events("station.rotate"), func(e ledger.Entry) bool { return e.Actor == "backend" }) {
				t.Errorf("sent %s", s.sent(sending)[0])
			}
		})
	}
}

// A station without a password to change comes back, so that the next session
// logs in with the new secret.
func TestBackEndPasswordOnProfile3(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.keep = func(context.Context, string, string, []byte, ledger.Event) (bool, error) { return true, nil }
	r.start()
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	s := r.open(r.admit(withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-1")...)), ocpp.V16)
	s.message(ocpp.FromCSMS, "ChangeConfiguration", `{"key":"AuthorizationKey","value":"plain-passphrase"}`)
	eventually(t, "the session's end", func() bool { r.advance(5 * time.Second); return s.endedWith() != "" })
}

// While Bollard changes what a station stands on, its back end doesn't reset it.
func TestResetHalfWay(t *testing.T) {
	t.Parallel()
	for _, v := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
			asked, release := make(chan struct{}), make(chan struct{})
			s := r.openWith(adm, v, fleet.SecurityBollard, func(action string, _ json.RawMessage) (any, error) {
				if action == ocpp.ActionChangeConfiguration || action == ocpp.ActionSetVariables {
					close(asked)
					<-release
				}
				return nil, &ocpp.CallFailure{Code: ocpp.NotSupported}
			})
			reset := map[bool]string{true: `{"type":"Hard"}`, false: `{"type":"Immediate"}`}[v == ocpp.V16]
			if got := s.judge(ocpp.FromCSMS, "Reset", reset); got.Act != fleet.Pass {
				t.Errorf("nothing is being changed: %+v", got)
			}
			r.advance(time.Minute)
			if _, err := r.svc.Rotate(t.Context(), "operator", "CS-1"); err != nil {
				t.Fatal(err)
			}
			<-asked
			if got := s.judge(ocpp.FromCSMS, "Reset", reset); got.Act != fleet.Answer || !strings.Contains(status(got), "Rejected") || got.Reason == "" {
				t.Errorf("half-way: %+v", got)
			}
			close(release)
			eventually(t, "resets again", func() bool { return s.judge(ocpp.FromCSMS, "Reset", reset).Act == fleet.Pass })
		})
	}
}

// Where the back end runs the upgrade, it puts in use what leads to Bollard on
// no lower profile: a slot it was seen to fill so, and the one in use.
func TestBackEndSlots(t *testing.T) { // B09, B10
	t.Parallel()
	r := newRig(t)
	adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
	s := r.openWith(adm, ocpp.V201, fleet.SecurityBackend, func(action string, _ json.RawMessage) (any, error) {
		out := ocpp.GetVariablesResponse{}
		for name, value := range map[string]string{"ActiveNetworkProfile": "1", "NetworkConfigurationPriority": "1,5"} {
			out.GetVariableResult = append(out.GetVariableResult, ocpp.GetVariableResult{AttributeStatus: "Accepted", AttributeValue: value, Variable: ocpp.Variable{Name: name}})
		}
		return out, nil
	})
	priority := func(slots string) fleet.Verdict {
		return s.message(ocpp.FromCSMS, "SetVariables", `{"setVariableData":[{"attributeValue":"`+slots+`","component":{"name":"OCPPCommCtrlr"},"variable":{"name":"NetworkConfigurationPriority"}}]}`)
	}
	fill := func(slot, answer string) {
		payload := `{"configurationSlot":` + slot + `,"connectionData":{"ocppVersion":"OCPP20","ocppTransport":"JSON","ocppCsmsUrl":"wss://bollard.example:8443/ocpp","messageTimeout":30,"securityProfile":3,"ocppInterface":"Wired0"}}`
		if v := s.message(ocpp.FromCSMS, "SetNetworkProfile", payload); v.Act != fleet.Pass || !v.Watch {
			t.Fatalf("%+v", v)
		}
		r.svc.Answered(t.Context(), s, fleet.Message{Direction: ocpp.FromCSMS, Action: "SetNetworkProfile", Payload: json.RawMessage(payload)},
			ocpp.Head{Type: ocpp.CallResult, Payload: []byte(`{"status":"` + answer + `"}`)})
	}
	if v := priority("1"); v.Act != fleet.Answer {
		t.Errorf("the slot in use, before anybody asked for it: %+v", v)
	}
	eventually(t, "the slot in use", func() bool { return priority("1").Act == fleet.Pass })
	fill("2", "Rejected")
	fill("3", "Accepted")
	for slots, passes := range map[string]bool{"3,1": true, " 3 , 1 ": true, "2,1": false, "3,1,5": false, "5": false, "": false, "3,1;5": false} {
		if v := priority(slots); (v.Act == fleet.Pass) != passes {
			t.Errorf("%q: %+v", slots, v)
		}
	}
}
