package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"bollard/ocpp"
	"bollard/policy"
)

// many is a set of n rules, none of which names Heartbeat.
func many(b *testing.B, n int) *policy.Set {
	b.Helper()
	var text strings.Builder
	text.WriteString("rules:\n")
	actions := []string{"GetLog", "Reset", "ClearCache", "SetVariables", "ChangeConfiguration", "UpdateFirmware"}
	for i := range n {
		fmt.Fprintf(&text, "  - {name: r%d, reason: x, mode: enforce, direction: from-csms, action: %s, when: 'station.vendor == \"V%d\" && payload.x == %d', then: refuse}\n",
			i, actions[i%len(actions)], i, i)
	}
	if n == 0 {
		text.Reset()
	}
	set, err := policy.New(policy.Config{Bare: n == 0, Files: []policy.Source{{Name: "r.yaml", Data: []byte(text.String())}}})
	if err != nil {
		b.Fatal(err)
	}
	return set
}

// BenchmarkUnnamed is what a message costs that no rule names, at 0 and at 1,000 rules.
func BenchmarkUnnamed(b *testing.B) {
	for _, n := range []int{0, 1000} {
		set := many(b, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if set.Interest(ocpp.V16, ocpp.FromStation, "Heartbeat") {
					b.Fatal("a rule names it")
				}
			}
		})
	}
}

// BenchmarkNamed is the judgement on messages that rules name and read.
func BenchmarkNamed(b *testing.B) {
	set, err := policy.New(policy.Config{Files: []policy.Source{{Name: "r.yaml", Data: []byte("lists: {station_hosts: [files.example.com]}\n")}}})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ action, payload string }{
		{"Reset", `{"type":"Hard"}`},
		{"GetLog", `{"logType":"SecurityLog","requestId":1,"retries":3,"log":{"remoteLocation":"https://files.example.com/logs/a","oldestTimestamp":"2026-01-01T00:00:00Z"}}`},
		{"SetVariables", `{"setVariableData":[{"attributeValue":"60","component":{"name":"OCPPCommCtrlr"},"variable":{"name":"HeartbeatInterval"}}]}`},
	} {
		b.Run(c.action, func(b *testing.B) {
			in := input(ocpp.V201, c.action, c.payload)
			b.ReportAllocs()
			for b.Loop() {
				if d := set.Decide(in); d.Act != policy.Pass {
					b.Fatal(d.Reason)
				}
			}
		})
	}
}
