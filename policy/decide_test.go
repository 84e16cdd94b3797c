package policy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"bollard/ocpp"
	"bollard/policy"
)

const hard = `
rules:
  - name: no-hard
    reason: no hard resets
    mode: enforce
    direction: from-csms
    action: Reset
    when: payload.type == "Hard"
    then: refuse
`

// No spelling of a message gets a reading past a rule that a lenient peer would obey.
func TestSpellingsOfOneMessage(t *testing.T) {
	t.Parallel()
	set := rules(t, hard)
	for name, tt := range map[string]struct {
		action, payload string
		want            policy.Act
		code            ocpp.ErrorCode
	}{
		"plain":                {"Reset", `{"type":"Hard"}`, policy.Refuse, ""},
		"escapes":              {"Reset", `{"t\u0079pe":"\u0048ard"}`, policy.Refuse, ""},
		"soft":                 {"Reset", `{"type":"Soft"}`, policy.Pass, ""},
		"another field":        {"Reset", `{"type":"Soft","x":{"y":["Hard"]}}`, policy.Pass, ""},
		"key of another case":  {"Reset", `{"Type":"Hard"}`, policy.Refuse, ocpp.FormatViolation},
		"both cases":           {"Reset", `{"type":"Soft","TYPE":"Hard"}`, policy.Refuse, ocpp.FormatViolation},
		"twice":                {"Reset", `{"type":"Soft","type":"Hard"}`, policy.Refuse, ocpp.FormatViolation},
		"key with a space":     {"Reset", `{"type ":"Hard"}`, policy.Refuse, ocpp.FormatViolation},
		"key with NUL":         {"Reset", `{"type\u0000":"Hard"}`, policy.Refuse, ocpp.FormatViolation},
		"text with NUL":        {"Reset", `{"type":"Hard\u0000"}`, policy.Refuse, ocpp.FormatViolation},
		"deep twin":            {"Reset", `{"type":"Soft","a":[{"x":1,"X":2}]}`, policy.Refuse, ocpp.FormatViolation},
		"missing":              {"Reset", `{}`, policy.Refuse, ""},
		"null":                 {"Reset", `null`, policy.Refuse, ""},
		"no object":            {"Reset", `["Hard"]`, policy.Refuse, ocpp.FormatViolation},
		"number":               {"Reset", `{"type":1e999}`, policy.Refuse, ocpp.TypeConstraintViolation},
		"lower-case action":    {"reset", `{"type":"Soft"}`, policy.Refuse, ocpp.NotImplemented},
		"action with a space":  {"Reset ", `{"type":"Soft"}`, policy.Refuse, ocpp.NotImplemented},
		"an action of its own": {"ResetX", `{"type":"Hard"}`, policy.Pass, ""},
	} {
		in := input(ocpp.V16, tt.action, tt.payload)
		d := set.Decide(in)
		if d.Act != tt.want || tt.code != "" && d.Code != tt.code && tt.code != ocpp.TypeConstraintViolation {
			t.Errorf("%s: %s %s (%s), want %s %s", name, d.Act, d.Code, d.Reason, tt.want, tt.code)
		}
		if tt.want == policy.Refuse && !set.Interest(ocpp.V16, ocpp.FromCSMS, tt.action) {
			t.Errorf("%s: nobody would ask", name)
		}
		if strings.Contains(d.Reason, "Hard") {
			t.Errorf("%s: the reason repeats the message: %s", name, d.Reason)
		}
	}
	in := input(ocpp.V16, "Reset", `{"type":"Hard"}`)
	in.Direction = ocpp.FromStation
	if d := set.Decide(in); d.Act != policy.Pass || set.Interest(ocpp.V16, ocpp.FromStation, "Reset") {
		t.Errorf("the other direction: %+v", d)
	}
}

// A message inside of a plug & charge DataTransfer is judged as itself.
func TestWrappedMessages(t *testing.T) {
	t.Parallel()
	set := rules(t, strings.ReplaceAll(strings.ReplaceAll(hard, "Reset", "InstallCertificate"), "payload.type", "payload.certificateType"))
	wrap := func(vendor, id, inner string) string {
		data, err := json.Marshal(inner)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"vendorId":%q,"messageId":%q,"data":%s}`, vendor, id, data)
	}
	const pnc = "org.openchargealliance.iso15118pnc"
	for name, tt := range map[string]struct {
		payload string
		refused bool
	}{
		"refused":             {wrap(pnc, "InstallCertificate", `{"certificateType":"Hard"}`), true},
		"vendor's case":       {wrap("ORG.openchargealliance.ISO15118pnc", " installcertificate", `{"certificateType":"Hard"}`), true},
		"twins inside":        {wrap(pnc, "InstallCertificate", `{"certificateType":"x","CertificateType":"Hard"}`), true},
		"data is no text":     {`{"vendorId":"` + pnc + `","messageId":"InstallCertificate","data":{"certificateType":"Hard"}}`, true},
		"twins outside":       {`{"vendorId":"x","VendorId":"` + pnc + `","messageId":"InstallCertificate","data":"{\"certificateType\":\"Hard\"}"}`, true},
		"another certificate": {wrap(pnc, "InstallCertificate", `{"certificateType":"x"}`), false},
		"another message":     {wrap(pnc, "DeleteCertificate", `{"certificateType":"Hard"}`), false},
		"another vendor":      {wrap("com.acme", "InstallCertificate", `{"certificateType":"Hard"}`), false},
	} {
		d := set.Decide(input(ocpp.V16, "DataTransfer", tt.payload))
		if (d.Act == policy.Refuse) != tt.refused {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if !set.Interest(ocpp.V16, ocpp.FromCSMS, "DataTransfer") || set.Interest(ocpp.V201, ocpp.FromCSMS, "DataTransfer") {
		t.Error("who wants to see DataTransfer?")
	}
	d := set.Decide(input(ocpp.V16, "DataTransfer", wrap(pnc, "InstallCertificate", `{"certificateType":"Hard"}`)))
	raw, err := json.Marshal(d.Answer)
	if want := `{"status":"Accepted","data":"{\"status\":\"Rejected\",\"statusInfo\":{\"reasonCode\":\"UnsupportedRequest\",\"additionalInfo\":\"refused by policy\"}}"}`; err != nil || string(raw) != want {
		t.Errorf("answered %s, want %s", raw, want)
	}
}

// The first rule in force that matches decides; pass is an exception from later
// ones, but never from a promise.
func TestOrder(t *testing.T) {
	t.Parallel()
	text := `
lists: {station_hosts: []}
rules:
  - {name: let, reason: x, mode: enforce, direction: from-csms, action: [Reset, GetLog], when: 'station.vendor == "ACME"', then: pass}
  - {name: b, reason: x, mode: enforce, direction: from-csms, action: "*", when: 'action == "Reset"', then: refuse, error: GenericError}
  - {name: c, reason: x, mode: shadow, direction: from-csms, action: Reset, then: refuse}
promote: [reset-storm]
`
	set, err := policy.New(policy.Config{Files: []policy.Source{{Name: "r.yaml", Data: []byte(text)}}})
	if err != nil {
		t.Fatal(err)
	}
	in := input(ocpp.V201, "Reset", `{}`)
	if d := set.Decide(in); d.Act != policy.Pass || d.Rule != "let" {
		t.Errorf("the exception: %+v", d)
	}
	in.Station.Vendor = "other"
	if d := set.Decide(in); d.Act != policy.Refuse || d.Rule != "b" || d.Code != ocpp.GenericError || d.Answer != nil {
		t.Errorf("the rule behind it: %+v", d)
	}
	in = input(ocpp.V201, "GetLog", `{"log":{"remoteLocation":"https://evil.example/"}}`)
	if d := set.Decide(in); d.Rule != "log-urls" {
		t.Errorf("an exception went before a promise: %+v", d)
	}
	if d := set.Decide(input(ocpp.V201, "MadeUp", `{}`)); d.Act != policy.Pass || !set.Interest(ocpp.V201, ocpp.FromCSMS, "MadeUp") {
		t.Errorf("a rule about all actions: %+v", d)
	}
}

// A condition that can't be evaluated counts against the message: rules in force
// act, exceptions don't, and shadow says that it failed.
func TestConditionsThatFail(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		then, mode string
		act        policy.Act
		failed     bool
	}{
		{"refuse", "enforce", policy.Refuse, false}, {"hold", "enforce", policy.Hold, false},
		{"pass", "enforce", policy.Pass, false}, {"refuse", "shadow", policy.Pass, true},
		{"rewrite, rewrite: {drop: a}", "enforce", policy.Refuse, false},
	} {
		set := rules(t, fmt.Sprintf(`
rules:
  - {name: r, reason: x, mode: %s, direction: from-csms, action: Reset, when: payload.a.b == 1, then: %s}
`, tt.mode, tt.then))
		d := set.Decide(input(ocpp.V16, "Reset", `{"a":"text"}`))
		if d.Act != tt.act || (len(d.Shadow) == 1 && d.Shadow[0].Failed) != tt.failed || tt.then == "pass" && d.Rule != "" {
			t.Errorf("%s, %s: %+v", tt.then, tt.mode, d)
		}
	}
}

func TestRewrites(t *testing.T) {
	t.Parallel()
	set := rules(t, `
rules:
  - {name: second, reason: x, mode: enforce, direction: from-csms, action: GetLog, when: payload.retries == 3, then: rewrite, rewrite: {drop: log.note}}
  - {name: clamp, reason: x, mode: enforce, direction: from-csms, action: GetLog, then: rewrite, rewrite: {clamp: {field: retries, min: 0, max: 3}}}
  - {name: later, reason: x, mode: enforce, direction: from-csms, action: GetLog, when: has(payload.log) && has(payload.log.note), then: refuse}
`)
	for name, tt := range map[string]struct{ payload, want, rules string }{
		"both":         {`{"z":1.5, "retries":9,"log":{"note":"x","a":"<&>"}}`, `{"log":{"a":"<&>"},"retries":3,"z":1.5}`, "clamp second"},
		"within":       {`{"retries":2}`, "", ""},
		"below":        {`{"retries":-2.5}`, `{"retries":0}`, "clamp"},
		"absent":       {`{}`, "", ""},
		"not a number": {`{"retries":"9"}`, "refused", ""},
		"later rule":   {`{"retries":2,"log":{"note":"x"}}`, "refused", ""},
		"big number":   {`{"retries":3,"n":9007199254740993,"log":{"note":1}}`, `{"log":{},"n":9007199254740993,"retries":3}`, "second"},
	} {
		d := set.Decide(input(ocpp.V16, "GetLog", tt.payload))
		got := string(d.Rewritten)
		if d.Act == policy.Refuse {
			got = "refused"
		}
		if name != "absent" && (got != tt.want || strings.Join(d.Rewrites, " ") != tt.rules) || name == "absent" && d.Rewritten != nil {
			t.Errorf("%s: %q by %v, want %q by %s", name, got, d.Rewrites, tt.want, tt.rules)
		}
	}
	signed := input(ocpp.V21, "GetLog", `{"retries":9}`)
	signed.Signed = true
	if d := set.Decide(signed); d.Act != policy.Refuse || d.Rewritten != nil {
		t.Errorf("a signed message: %+v", d)
	}
}

// A held message is refused until the operator releases it; then the rules behind judge.
func TestHold(t *testing.T) {
	t.Parallel()
	set := rules(t, `
rules:
  - {name: h, reason: x, mode: enforce, direction: from-csms, action: Reset, then: hold}
  - {name: r, reason: x, mode: enforce, direction: from-csms, action: Reset, when: payload.type == "Hard", then: refuse}
`)
	in := input(ocpp.V16, "Reset", `{"type" : "Soft" , "a":1}`)
	d := set.Decide(in)
	if d.Act != policy.Hold || d.Answer == nil || len(d.Held) == 0 {
		t.Fatalf("%+v", d)
	}
	again := set.Decide(input(ocpp.V16, "Reset", `{"a":1,"type":"Soft"}`))
	if string(again.Held) != string(d.Held) {
		t.Error("another spelling of the message is another message")
	}
	other := input(ocpp.V16, "Reset", `{"a":1,"type":"Soft"}`)
	other.Station.Identity = "CS-2"
	if string(set.Decide(other).Held) == string(d.Held) {
		t.Error("another station's message is the same")
	}
	in.Released = func(rule string, message []byte) bool { return rule == "h" && string(message) == string(d.Held) }
	if d := set.Decide(in); d.Act != policy.Pass {
		t.Errorf("released: %+v", d)
	}
	in.Payload = []byte(`{"type":"Hard"}`)
	if d := set.Decide(in); d.Act != policy.Hold {
		t.Errorf("not what was released: %+v", d)
	}
	in.Released = func(string, []byte) bool { return true }
	if d := set.Decide(in); d.Rule != "r" {
		t.Errorf("released, but not by the rule behind: %+v", d)
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	set := rules(t, `
rules:
  - {name: r, reason: x, mode: enforce, direction: from-csms, action: [Reset, ClearCache], count: {per: [station, action], within: 1m}, when: count > 10, then: refuse}
`)
	counters := policy.NewCounters()
	send := func(station, action string, at time.Duration) bool {
		in := input(ocpp.V16, action, `{}`)
		in.Counters, in.Station.Identity, in.Now = counters, station, noon.Add(at)
		return set.Decide(in).Act == policy.Pass
	}
	for range 10 {
		if !send("A", "Reset", 0) {
			t.Fatal("ten are too many")
		}
	}
	if send("A", "Reset", time.Second) || !send("B", "Reset", 0) || !send("A", "ClearCache", 0) {
		t.Error("stations or actions are counted together, or none is")
	}
	if send("a", "Reset", 2*time.Second) {
		t.Error("a station is another in another case")
	}
	if send("A", "Reset", 61*time.Second) { // 12 of the minute before still count nearly whole
		t.Error("the window isn't sliding")
	}
	if !send("A", "Reset", 10*time.Minute) {
		t.Error("the count never ends")
	}
}

// A clock that is set back, by an hour or by years, counts what comes from then on: the
// messages of all the time until it is where it was aren't those of a minute.
func TestCountsOfAClockSetBack(t *testing.T) {
	t.Parallel()
	set := rules(t, `
rules:
  - {name: r, reason: x, mode: enforce, direction: from-csms, action: Reset, count: {per: station, within: 1m}, when: count > 10, then: refuse}
`)
	counters := policy.NewCounters()
	send := func(at time.Duration) bool {
		in := input(ocpp.V16, "Reset", `{}`)
		in.Counters, in.Now = counters, noon.Add(at)
		return set.Decide(in).Act == policy.Pass
	}
	for range 8 {
		send(0)
	}
	const back = -10 * 365 * 24 * time.Hour
	if first, second, third := send(back), send(back), send(back); !first || !second || third {
		t.Error("what came just before counts no more, or what comes doesn't")
	}
	for n := range 30 { // five a minute
		if at := back + 2*time.Minute + time.Duration(n)*12*time.Second; !send(at) {
			t.Fatalf("message %d after the clock was set back is refused", n+1)
		}
	}
}

// Hours are those of the zone the caller gives.
func TestLocalTime(t *testing.T) {
	t.Parallel()
	set := rules(t, `
rules:
  - {name: r, reason: x, mode: enforce, direction: from-csms, action: Reset, when: local.weekday == 1 && local.hour == 13 && local.minute == 30, then: refuse}
`)
	in := input(ocpp.V16, "Reset", `{}`)
	in.Now = noon.Add(30 * time.Minute).In(time.FixedZone("x", 3600))
	if set.Decide(in).Act != policy.Refuse {
		t.Error("not at half past one in that zone")
	}
}
