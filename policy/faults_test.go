package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"bollard/ocpp"
	"bollard/policy"
)

// Every fault is told with its file, line and rule, all of them at once.
func TestFaults(t *testing.T) {
	t.Parallel()
	const head = "rules:\n  - name: r\n    reason: x\n    direction: from-csms\n    action: Reset\n    then: refuse\n"
	for name, tt := range map[string]struct {
		text, rule, want string
		line             int
	}{
		"unknown key":          {head + "    wen: 'true'\n", "r", "did you mean when?", 7},
		"tab":                  {"rules:\n\t- x\n", "", "blanks, not tabs", 2},
		"no name":              {"rules:\n  - reason: x\n", "", "needs a name", 2},
		"odd name":             {strings.Replace(head, "name: r", "name: __proto__", 1), "", "needs a name", 2},
		"no reason":            {strings.Replace(head, "    reason: x\n", "", 1), "r", "reason", 2},
		"no direction":         {strings.Replace(head, "from-csms", "sideways", 1), "r", "from-station or from-csms", 4},
		"unknown action":       {strings.Replace(head, "Reset", "reset", 1), "r", "did you mean Reset?", 5},
		"signed action":        {strings.Replace(head, "Reset", "Reset-Signed", 1), "r", "without -Signed", 5},
		"action twice":         {strings.Replace(head, "Reset", "[Reset, Reset]", 1), "r", "twice", 5},
		"all and one":          {strings.Replace(head, "Reset", `["*", Reset]`, 1), "r", "all actions", 5},
		"version":              {head + "    version: 2.0\n", "r", "1.6, 2.0.1 or 2.1", 7},
		"then":                 {strings.Replace(head, "then: refuse", "then: explode", 1), "r", "pass, refuse", 6},
		"mode":                 {head + "    mode: maybe\n", "r", "enforce or shadow", 7},
		"promise":              {head + "    promise: 4\n", "r", "built-in", 7},
		"error code":           {head + "    error: Oops\n", "r", "no error code", 7},
		"1.6 spelling":         {head + "    error: FormationViolation\n", "r", "spelled as in 2.1", 7},
		"rewrite of a refusal": {head + "    rewrite: {drop: a}\n", "r", "goes with then: rewrite", 7},
		"no rewrite":           {strings.Replace(head, "then: refuse", "then: rewrite", 1), "r", "needs one of", 2},
		"two rewrites":         {strings.Replace(head, "then: refuse", "then: rewrite\n    rewrite: {drop: a, clamp: {field: b, min: 1, max: 2}}", 1), "r", "needs one of", 7},
		"count alone":          {head + "    count: {within: 1m}\n", "r", "count > 10", 7},
		"count of a year":      {head + "    count: {within: 9999h}\n    when: count > 1\n", "r", "1s to 24h", 7},
		"count per what":       {head + "    count: {per: moon, within: 1m}\n    when: count > 1\n", "r", "station, group, backend and action", 7},
		"syntax":               {head + "    when: payload.x ==\n", "r", "when:", 7},
		"syntax in a block":    {head + "    when: |\n      true &&\n      payload.x =\n", "r", "when:", 9},
		"unknown variable":     {head + "    when: station.colour == 'red'\n", "r", "undeclared reference", 7},
		"unknown list":         {head + "    when: action in lists.nope\n", "r", "undeclared reference", 7},
		"count undeclared":     {head + "    when: count > 1\n", "r", "undeclared reference", 7},
		"type":                 {head + "    when: station.profile == 'x'\n", "r", "no matching overload", 7},
		"not a truth":          {head + "    when: station.profile\n", "r", "true or false", 7},
		"pattern of a message": {head + "    when: station.vendor.matches(payload.x)\n", "r", "written out", 7},
		"pattern too large":    {head + "    when: station.vendor.matches('(a{100}){100}')\n", "r", "when:", 7},
		"zone of a message":    {head + "    when: now.getHours(payload.tz) == 1\n", "r", "local.hour", 7},
		"list twice":           {"lists: {a: [x]}\nlists: {b: [x]}\n", "", "second time", 2},
		"odd list name":        {"lists:\n  __proto__: [x]\n", "", "lower-case letters", 2},
		"list named in":        {"lists:\n  in: [x]\n" + head, "", "", 0},
		"promote unknown":      {"promote:\n  - nope\n", "", "no rule", 2},
		"anchor":               {"lists: &a {x: [y]}\n", "", "anchors", 1},
		"long condition":       {head + "    when: '" + strings.Repeat("true || ", 600) + "true'\n", "r", "4096", 7},
		"deep condition":       {head + "    when: '" + strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200) + "'\n", "r", "when:", 7},
		"nested lists":         {head + "    when: payload.a.exists(x, payload.b.exists(y, payload.c.exists(z, x == y && y == z)))\n", "r", "could cost", 7},
		"rule twice":           {head + "  - name: r\n    reason: y\n    direction: from-csms\n    action: Reset\n    then: hold\n", "r", "already", 7},
	} {
		_, err := policy.New(policy.Config{Bare: true, Files: []policy.Source{{Name: "f.yaml", Data: []byte(tt.text)}}})
		if name == "list named in" {
			continue // usable or not, but no panic
		}
		faults := policy.Faults(err)
		if len(faults) == 0 {
			t.Errorf("%s: no fault: %v", name, err)
			continue
		}
		f := faults[0]
		if f.File != "f.yaml" || f.Line != tt.line || f.Rule != tt.rule || !strings.Contains(f.Text, tt.want) {
			t.Errorf("%s: got %v, want line %d, rule %q, text %q", name, f, tt.line, tt.rule, tt.want)
		}
	}
	_, err := policy.New(policy.Config{Files: []policy.Source{
		{Name: "a.yaml", Data: []byte("lists: {x: [a], station_hosts: [h]}\n")},
		{Name: "b.yaml", Data: []byte("lists: {x: [b]}\npromote: [nope]\nrules:\n  - {name: log-urls, reason: x, direction: from-csms, action: Reset, then: pass}\n")},
	}})
	if faults := policy.Faults(err); len(faults) != 3 {
		t.Errorf("faults of two files: %v", err)
	}
}

// Rules that contradict each other, or go in a circle, are refused; rules that do
// nothing are told.
func TestConflictsCirclesAndDeadRules(t *testing.T) {
	t.Parallel()
	rule := func(name, more string) string {
		return fmt.Sprintf("  - {name: %s, reason: x, mode: enforce, direction: from-csms, %s}\n", name, more)
	}
	for name, tt := range map[string]struct {
		rules, want string
		usable      bool
	}{
		"conflict":            {rule("a", `action: Reset, when: payload.x == 1, then: refuse`) + rule("b", `action: [ClearCache, Reset], when: payload.x == 1, then: pass`), "f.yaml:3: rule b: says pass where rule a", false},
		"other versions":      {rule("a", `action: Reset, version: "1.6", when: payload.x == 1, then: refuse`) + rule("b", `action: Reset, version: "2.1", when: payload.x == 1, then: pass`), "", true},
		"one field":           {rule("a", `action: GetLog, then: rewrite, rewrite: {drop: log.a}`) + rule("b", `action: GetLog, then: rewrite, rewrite: {drop: log}`), "rewrites log", false},
		"circle":              {rule("a", `action: GetLog, when: payload.y == 1, then: rewrite, rewrite: {drop: x}`) + rule("b", `action: GetLog, when: has(payload.x), then: rewrite, rewrite: {drop: y}`), "a → b → a", false},
		"circle of three":     {rule("a", `action: GetLog, when: payload.z == 1, then: rewrite, rewrite: {drop: x}`) + rule("b", `action: GetLog, when: has(payload.x), then: rewrite, rewrite: {drop: y}`) + rule("c", `action: GetLog, when: has(payload.y), then: rewrite, rewrite: {drop: z}`), "a → b → c → a", false},
		"circle over all":     {rule("a", `action: GetLog, when: payload.y == 1, then: rewrite, rewrite: {drop: x}`) + rule("b", `action: GetLog, when: size(payload) > 1, then: rewrite, rewrite: {drop: y}`), "circle", false},
		"looks at its own":    {rule("a", `action: GetLog, when: payload.x > 3, then: rewrite, rewrite: {clamp: {field: x, min: 0, max: 3}}`), "", true},
		"never true":          {rule("a", `action: Reset, when: "size(lists.none) > 0", then: refuse`), "f.yaml:2: rule a: never matches: its condition is false", true},
		"decided before":      {rule("a", `action: "*", then: refuse`) + rule("b", `action: Reset, then: hold`), "never matters: rule a", false},
		"decided before, too": {rule("a", `action: "*", then: refuse`) + rule("b", `action: Reset, when: payload.x == 1, then: refuse`), "f.yaml:3: rule b: never matters: rule a", true},
		"no such version":     {rule("a", `action: SetVariables, version: "1.6", then: refuse`), "none of its versions has SetVariables", true},
	} {
		set, err := policy.New(policy.Config{Bare: true, Files: []policy.Source{{Name: "f.yaml", Data: []byte("rules:\n" + tt.rules)}, {Name: "l.yaml", Data: []byte("lists: {none: []}\n")}}})
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(set.Findings())
		}
		if name == "decided before" {
			tt.want = "says hold where rule a"
		}
		if (err == nil) != tt.usable || !strings.Contains(got, tt.want) || tt.want == "" && got != "[]" {
			t.Errorf("%s: %s, want %q", name, got, tt.want)
		}
	}
}

// What a condition costs is bounded whatever the message: then it counts against it.
func TestCostBombs(t *testing.T) {
	t.Parallel()
	set := rules(t, `
rules:
  - {name: r, reason: x, mode: enforce, direction: from-csms, action: Reset, when: 'payload.b.all(x, !x.matches("(a|b|ab)*c"))', then: refuse}
`)
	long := strings.Repeat("ab", 5000)
	list := `["` + strings.Repeat(long+`","`, 20) + `"]`
	d := set.Decide(input(ocpp.V16, "Reset", `{"b":`+list+`}`))
	if d.Act != policy.Refuse || d.Rule != "r" {
		t.Errorf("%+v", d)
	}
	cheap := rules(t, `
rules:
  - {name: r, reason: x, mode: enforce, direction: from-csms, action: Reset, when: 'payload.b.all(x, x.startsWith("ab") && x.size() > 1 && x.contains("zz"))', then: pass}
  - {name: s, reason: x, mode: enforce, direction: from-csms, action: Reset, then: refuse}
`)
	if d := cheap.Decide(input(ocpp.V16, "Reset", `{"b":["abzz"`+strings.Repeat(`,"abzz"`, 20_000)+`]}`)); d.Rule != "s" {
		t.Errorf("an exception that costs too much lets pass: %+v", d)
	}
}
