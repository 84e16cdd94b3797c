package policy_test

import (
	"testing"

	"bollard/ocpp"
	"bollard/policy"
)

// No rule file and no message makes policy panic, and the same always gives the same.
func FuzzRules(f *testing.F) {
	f.Add([]byte(hard), []byte(`{"type":"Hard"}`))
	f.Add([]byte("lists: {a: [b]}\nnumbers: {n: 1}\npromote: [r]\nrules:\n  - {name: r, reason: x, direction: from-csms, action: Reset, count: {per: station, within: 1m}, when: 'count > numbers.n && payload.a[0].b in lists.a', then: rewrite, rewrite: {clamp: {field: a.b, min: 1, max: 2}}}\n"), []byte(`{"a":{"b":3}}`))
	f.Add([]byte("rules:\n  - when: |\n      a\n"), []byte(`null`))
	f.Fuzz(func(t *testing.T, text, payload []byte) {
		set, err := policy.New(policy.Config{Bare: true, Files: []policy.Source{{Name: "f.yaml", Data: text}}})
		if err != nil {
			if len(policy.Faults(err)) == 0 {
				t.Errorf("no fault is named: %v", err)
			}
			return
		}
		for _, action := range []string{"Reset", "DataTransfer", "reset"} {
			for _, v := range []ocpp.Version{ocpp.V16, ocpp.V21} {
				one, two := set.Decide(input(v, action, string(payload))), set.Decide(input(v, action, string(payload)))
				if one.Act != two.Act || one.Rule != two.Rule || string(one.Rewritten) != string(two.Rewritten) {
					t.Errorf("two decisions: %+v, %+v", one, two)
				}
			}
		}
	})
}
