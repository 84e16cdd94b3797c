package policy_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"bollard/ocpp"
	"bollard/policy"
)

func mask(text string) string {
	return fmt.Sprintf("masked-%x", sha256.Sum256([]byte(text)))[:14]
}

// No personal datum and no secret reaches a recording, whatever field it stands in.
func TestRecordingsHoldNoPersonalData(t *testing.T) {
	t.Parallel()
	const canary = "DE8ACANARYX7"
	for _, tt := range []struct{ action, payload string }{
		{"Authorize", `{"idTag":"` + canary + `"}`},
		{"Authorize", `{"IDTAG ":"` + canary + `"}`},
		{"Authorize", `{"idToken":{"idToken":"` + canary + `","type":"eMAID","additionalInfo":[{"additionalIdToken":"` + canary + `","type":"x"}]},"certificate":"` + canary + `"}`},
		{"StartTransaction", `{"connectorId":1,"idTag":"` + canary + `","meterStart":5}`},
		{"ChangeConfiguration", `{"key":"AuthorizationKey","value":"` + canary + `"}`},
		{"SetVariables", `{"setVariableData":[{"attributeValue":"` + canary + `","component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"}}]}`},
		{"GetLog", `{"log":{"remoteLocation":"ftp://` + canary + `:secret-` + canary + `@h.example/x?token=` + canary + `"}}`},
		{"DataTransfer", `{"vendorId":"v","messageId":"m","data":{"a":["` + canary + `"]}}`},
		{"NotifyEVChargingNeeds", `{"customData":{"vendorId":"x","vin":"` + canary + `"}}`},
		{"SecurityEventNotification", `{"type":"X","techInfo":"` + canary + `"}`},
		{"InstallCertificate", `{"certificateType":"V2GRootCertificate","certificate":"` + canary + `"}`},
		{"Reset", `{"` + canary + ` x":1}`},
		{"X" + canary + "-", `{}`},
	} {
		in := input(ocpp.V201, tt.action, tt.payload)
		line, err := in.Record(mask)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(line), canary) || strings.Contains(string(line), "secret-") {
			t.Errorf("%s: %s", tt.action, line)
		}
	}
	number := input(ocpp.V16, "Authorize", `{"idTag":12345678}`)
	if line, err := number.Record(mask); err != nil || strings.Contains(string(line), "12345678") {
		t.Errorf("a number: %s %v", line, err)
	}
}

// A recording replayed decides as the traffic was decided, and tells each rule's share.
func TestReplay(t *testing.T) {
	t.Parallel()
	set := promotedAll(t)
	good := root(t, nil)
	anchors := func(in *policy.Input) {
		in.Anchors = func() map[string][]string {
			return map[string][]string{"V2GRootCertificate": {policy.Anchor(good, noon)}}
		}
	}
	replay := policy.NewReplay(set, anchors)
	counters := policy.NewCounters()
	want := map[string]int{}
	for i, tt := range []struct{ action, payload string }{
		{"GetLog", `{"log":{"remoteLocation":"sftp://u:p@files.example.com/x?y"}}`},
		{"GetLog", `{"log":{"remoteLocation":"sftp://u:p@evil.example/x"}}`},
		{"InstallCertificate", `{"certificateType":"V2GRootCertificate","certificate":` + quote(t, good) + `}`},
		{"InstallCertificate", `{"certificateType":"MORootCertificate","certificate":` + quote(t, good) + `}`},
		{"Reset", `{"type":"Immediate"}`}, {"Reset", `{"type":"Immediate"}`}, {"Reset", `{"type":"Immediate"}`}, {"Reset", `{"type":"Immediate"}`},
	} {
		in := input(ocpp.V201, tt.action, tt.payload)
		in.Counters = counters
		anchors(&in)
		if rule := set.Decide(in).Rule; rule != "" {
			want[rule]++
		}
		line, err := in.Record(mask)
		if err != nil {
			t.Fatal(err)
		}
		if err := replay.Add(line); err != nil {
			t.Fatalf("line %d: %v: %s", i, err, line)
		}
	}
	report := replay.Report()
	for _, h := range report.Rules {
		if h.Hits != want[h.Rule] || h.Share != float64(h.Hits)/8 {
			t.Errorf("%s: %d hits, share %v, want %d", h.Rule, h.Hits, h.Share, want[h.Rule])
		}
	}
	if len(want) != 3 || report.Messages != 8 || report.Decisions["refuse"] != 3 || report.Decisions["pass"] != 5 {
		t.Errorf("%v, %+v", want, report)
	}
	if err := replay.Add([]byte(`{"version":"3"}`)); err == nil {
		t.Error("a line of another kind was taken")
	}
}

func quote(t *testing.T, text string) string {
	t.Helper()
	return strings.ReplaceAll(fmt.Sprintf("%q", text), `\x`, `\u00`)
}

func TestTable(t *testing.T) {
	t.Parallel()
	set := promotedAll(t)
	results, err := set.Test(policy.Source{Name: "t.yaml", Data: []byte(`
tests:
  - name: log elsewhere
    message: {version: 2.0.1, direction: from-csms, action: GetLog, payload: '{"log":{"remoteLocation":"https://evil.example/"}}'}
    expect: refuse
    rule: log-urls
  - name: too many
    message: {version: 1.6, direction: from-csms, action: UnlockConnector, at: 2026-01-01T00:00:00Z}
    repeat: 4
    expect: pass
`)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 2 || !results[0].OK || results[1].OK || results[1].Line != 7 || results[1].Got != "refuse" {
		t.Errorf("%+v", results)
	}
	for name, text := range map[string]string{
		"version": "tests:\n  - {name: x, message: {version: 3, direction: from-csms, action: Reset}, expect: pass}\n",
		"expect":  "tests:\n  - {name: x, message: {version: 1.6, direction: from-csms, action: Reset}}\n",
		"key":     "tests:\n  - {nam: x}\n",
	} {
		if _, err := set.Test(policy.Source{Name: "t.yaml", Data: []byte(text)}, nil); err == nil || !strings.Contains(err.Error(), "t.yaml:2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
