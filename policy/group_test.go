package policy_test

import (
	"testing"

	"bollard/ocpp"
	"bollard/policy"
)

// A rule may be about a group of stations; who has none is of no group.
func TestGroup(t *testing.T) {
	t.Parallel()
	set := rules(t, `
rules:
  - {name: depot, reason: x, mode: enforce, direction: from-csms, action: Reset, when: station.group == "depot", then: refuse}
`)
	for group, want := range map[string]policy.Act{"depot": policy.Refuse, "street": policy.Pass, "": policy.Pass} {
		in := input(ocpp.V201, "Reset", `{"type":"Immediate"}`)
		in.Group = func() string { return group }
		if d := set.Decide(in); d.Act != want {
			t.Errorf("group %q: %v", group, d.Act)
		}
	}
	if d := set.Decide(input(ocpp.V201, "Reset", `{}`)); d.Act != policy.Pass {
		t.Errorf("no groups at all: %v", d.Act)
	}
}

// A limit may be a group's: its stations share it, others don't feel it.
func TestCountPerGroup(t *testing.T) {
	t.Parallel()
	set := rules(t, `
rules:
  - {name: r, reason: x, mode: enforce, direction: from-csms, action: Reset, count: {per: group, within: 1m}, when: count > 2, then: refuse}
`)
	counters := policy.NewCounters()
	send := func(station, group string) policy.Act {
		in := input(ocpp.V16, "Reset", `{}`)
		in.Counters, in.Station.Identity, in.Group = counters, station, func() string { return group }
		return set.Decide(in).Act
	}
	for _, tt := range []struct {
		station, group string
		want           policy.Act
	}{{"A", "depot", policy.Pass}, {"B", "depot", policy.Pass}, {"C", "depot", policy.Refuse}, {"D", "street", policy.Pass}, {"A", "depot", policy.Refuse}, {"E", "", policy.Pass}} {
		if got := send(tt.station, tt.group); got != tt.want {
			t.Errorf("%s of %q: %v", tt.station, tt.group, got)
		}
	}
}

// Meter values and what tells them in 2.x are the most frequent messages: as
// shipped nobody reads them.
func TestMeterValuesAreLeftAlone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]bool{
		"lists: {}\n": {}, "numbers: {meter_values_ownership: 1}\n": {true, false}, "numbers: {transaction_event_ownership: 1}\n": {false, true},
	} {
		set, err := policy.New(policy.Config{Files: []policy.Source{{Name: "r.yaml", Data: []byte(text)}}})
		if err != nil {
			t.Fatal(err)
		}
		got := [2]bool{set.Interest(ocpp.V16, ocpp.FromStation, "MeterValues"), set.Interest(ocpp.V201, ocpp.FromStation, "TransactionEvent")}
		if got != want {
			t.Errorf("%q: interest %t", text, got)
		}
	}
}
