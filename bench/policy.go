package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"bollard/ocpp"
	"bollard/policy"
)

// Names of the measures of policy, with what was promised of them.
const (
	unnamedRules = "ns to see that no rule names a message, %d rules"
	namedRules   = "p50 µs to judge a named message, %s"
	namedTarget  = 20 // µs
)

// judgements of one round and message.
const judgements = 20_000

// measurePolicy measures what rules cost a message: the look into the table that
// each message pays, at 0 and at 1,000 rules, and judging one that the built-in
// rules name.
func measurePolicy(rounds int, dir string, stdout io.Writer) error {
	bare, err := ruleSet(0)
	if err != nil {
		return err
	}
	full, err := ruleSet(1000)
	if err != nil {
		return err
	}
	var samples []sample
	add := func(round int, measure string, value float64) {
		samples = append(samples, sample{Round: round, Proxy: "bollard", Measure: measure, Value: value})
	}
	for round := range rounds {
		for _, n := range []int{0, 1000} {
			set := bare
			if n > 0 {
				set = full
			}
			begun := time.Now()
			for range judgements {
				if set.Interest(ocpp.V16, ocpp.FromStation, "Heartbeat") {
					return errors.New("a rule names Heartbeat")
				}
			}
			add(round, fmt.Sprintf(unnamedRules, n), float64(time.Since(begun).Nanoseconds())/judgements)
		}
		for _, m := range namedMessages() {
			p50, err := judge(full, m)
			if err != nil {
				return err
			}
			add(round, fmt.Sprintf(namedRules, m.Action), p50)
		}
	}
	summaries, err := summarise(samples)
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURE\tBOLLARD\tTARGET")
	for _, s := range summaries {
		target := "nothing measurable: as with 0 rules"
		if strings.HasPrefix(s.Measure, "p50") {
			target = fmt.Sprintf("≤ %d: %s", namedTarget, map[bool]string{true: "met", false: "missed"}[s.Median["bollard"] <= namedTarget])
		}
		fmt.Fprintf(w, "%s\t%.3g\t%s\n", s.Measure, s.Median["bollard"], target)
	}
	return errors.Join(err, w.Flush(), writeReport(stdout, dir, "policy", map[string]any{"summary": summaries, "samples": samples}))
}

// ruleSet has n rules beside the built-in ones, about other messages than those
// measured; with 0 there are none at all.
func ruleSet(n int) (*policy.Set, error) {
	var text strings.Builder
	text.WriteString("lists: {station_hosts: [files.example.com]}\nrules:\n")
	if n == 0 {
		return policy.New(policy.Config{Bare: true})
	}
	actions := []string{"ClearCache", "UnlockConnector", "ChangeAvailability", "SendLocalList"}
	for i := range n {
		fmt.Fprintf(&text, "  - {name: r%d, reason: x, mode: enforce, direction: from-csms, action: %s, when: 'station.vendor == \"V%d\"', then: refuse}\n", i, actions[i%len(actions)], i)
	}
	return policy.New(policy.Config{Files: []policy.Source{{Name: "bench.yaml", Data: []byte(text.String())}}})
}

func namedMessages() []policy.Message {
	of := func(action, payload string) policy.Message {
		return policy.Message{Version: "2.0.1", Direction: "from-csms", Action: action, Station: "CS-1", Vendor: "Acme", Backend: "csms",
			Profile: 3, Boot: string(policy.BootAccepted), At: "2026-01-01T12:00:00Z", Payload: policy.Text(payload)}
	}
	return []policy.Message{
		of("Reset", `{"type":"OnIdle"}`),
		of("GetLog", `{"logType":"SecurityLog","requestId":1,"retries":3,"log":{"remoteLocation":"https://files.example.com/logs/a","oldestTimestamp":"2026-01-01T00:00:00Z"}}`),
		of("SetVariables", `{"setVariableData":[{"attributeValue":"60","component":{"name":"OCPPCommCtrlr"},"variable":{"name":"HeartbeatInterval"}}]}`),
	}
}

// judge returns the median time of judging a message, in microseconds.
func judge(set *policy.Set, m policy.Message) (float64, error) {
	in, err := m.Input()
	if err != nil {
		return 0, err
	}
	in.Counters = policy.NewCounters()
	all := make([]float64, judgements)
	for i := range all {
		begun := time.Now()
		d := set.Decide(in)
		all[i] = float64(time.Since(begun).Nanoseconds()) / 1000
		if d.Act != policy.Pass {
			return 0, fmt.Errorf("%s: %s", m.Action, d.Reason)
		}
	}
	return median(all), nil
}
