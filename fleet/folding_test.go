package fleet_test

import (
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"bollard/fleet"
	"bollard/ocpp"
)

// cased writes a name with every letter in any of its cases, those beyond ASCII that
// fold to it among them, and with any of between behind it.
func cased(t *rapid.T, name string, between ...string) string {
	out := strings.Builder{}
	for _, r := range name {
		cases := []rune{r}
		for c := unicode.SimpleFold(r); c != r; c = unicode.SimpleFold(c) {
			cases = append(cases, c)
		}
		out.WriteRune(rapid.SampledFrom(cases).Draw(t, "case"))
		if len(between) > 0 {
			out.WriteString(rapid.SampledFrom(between).Draw(t, "between"))
		}
	}
	return out.String()
}

// What a setting is called is judged in whatever case its letters are, and whatever
// stands between them that stations leave out: the seven spellings of
// TestWritingPathsMatrix stand for all.
func TestEverySpellingIsJudged(t *testing.T) { // promise 4, threat A6
	t.Parallel()
	r := newRig(t)
	adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
	type setting struct{ component, name string }
	settings := map[ocpp.Version][]setting{}
	for _, key := range variables(t, "### 5.1 1.6 keys") {
		if !isHarmless(key) {
			settings[ocpp.V16] = append(settings[ocpp.V16], setting{"", key})
		}
	}
	for _, name := range variables(t, "### 5.2 2.x variables") {
		component, variable, _ := strings.Cut(name, ".")
		if variable == "*" {
			variable = "OcppCsmsUrl"
		}
		if !isHarmless(name) {
			settings[ocpp.V201] = append(settings[ocpp.V201], setting{component, variable})
		}
	}
	actions := map[ocpp.Version]string{ocpp.V16: "ChangeConfiguration", ocpp.V201: "SetVariables"}
	for v, list := range settings {
		s := r.open(adm, v)
		rapid.Check(t, func(t *rapid.T) {
			w := rapid.SampledFrom(list).Draw(t, "setting")
			between := []string{"", "", "", "", " ", "_", "-", "\t", "\u00a0", "\u200b"}
			component, name := cased(t, w.component, between...), cased(t, w.name, between...)
			payload := marshal(r.t, map[string]string{"key": name, "value": "1"})
			if v != ocpp.V16 {
				payload = marshal(r.t, map[string]any{"setVariableData": []any{map[string]any{"attributeValue": "1", "component": map[string]string{"name": component}, "variable": map[string]string{"name": name}}}})
			}
			if got := s.judge(ocpp.FromCSMS, actions[v], payload); got.Act == fleet.Pass {
				t.Fatalf("%s passes", payload)
			}
			if action := cased(t, actions[v]); !r.svc.Interest(v, ocpp.FromCSMS, action) {
				t.Fatalf("nobody looks at %q", action)
			}
		})
		s.close()
	}
}
