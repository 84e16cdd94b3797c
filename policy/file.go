package policy

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bollard/internal/config"
	"bollard/ocpp"
)

// builtIn are the rules that come with the program.
//
//go:embed builtin.yaml
var builtIn []byte

// builtInName stands for the built-in rules in errors.
const builtInName = "built-in"

// Bounds of a set. 1,000 rules are judged as fast as none where they name other actions.
const (
	maxRules = 2000
	maxWhen  = 4096 // characters
)

// file is one rule file.
type file struct {
	Lists   map[string][]string `yaml:"lists" number:"ok"`
	Numbers map[string]int      `yaml:"numbers"`
	Promote []string            `yaml:"promote"`
	Rules   []fileRule          `yaml:"rules"`
}

type fileRule struct {
	Name      string      `yaml:"name"`
	Reason    string      `yaml:"reason"`
	Mode      string      `yaml:"mode"`
	Promise   int         `yaml:"promise"`
	Direction string      `yaml:"direction"`
	Action    []string    `yaml:"action" one:"ok"`
	Version   []string    `yaml:"version" one:"ok" number:"ok"`
	Count     fileCount   `yaml:"count"`
	When      string      `yaml:"when" lines:"ok"`
	Then      string      `yaml:"then"`
	Error     string      `yaml:"error"`
	Rewrite   fileRewrite `yaml:"rewrite"`
}

type fileCount struct {
	Per    []string      `yaml:"per" one:"ok"`
	Within time.Duration `yaml:"within"`
}

type fileRewrite struct {
	Clamp fileClamp `yaml:"clamp"`
	Drop  string    `yaml:"drop"`
}

type fileClamp struct {
	Field string `yaml:"field"`
	Min   int    `yaml:"min"`
	Max   int    `yaml:"max"`
}

// Error is a fault of a rule file.
type Error struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"` // 0: of the whole file
	Rule string `json:"rule,omitempty"` // "" if it is in none, or in one without a name
	Text string `json:"text"`
}

// Error returns "uploads.yaml:7: rule no-foreign-logs: …".
func (e *Error) Error() string {
	place := e.File
	if e.Line > 0 {
		place = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	if e.Rule != "" {
		place += ": rule " + e.Rule
	}
	return place + ": " + e.Text
}

// Faults takes apart what New returns.
func Faults(err error) []*Error {
	var one *Error
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		var list []*Error
		for _, e := range several.Unwrap() {
			list = append(list, Faults(e)...)
		}
		return list
	}
	if errors.As(err, &one) {
		return []*Error{one}
	}
	return nil
}

// read is a decoded file and where its keys stand.
type read struct {
	Source
	file
	lines   map[string]int
	builtIn bool
}

func readFile(src Source) (*read, *Error) {
	r := &read{Source: src}
	lines, err := config.Decode(src.Name, src.Data, &r.file)
	r.lines = lines
	if err == nil {
		return r, nil
	}
	var fault *config.Error
	if !errors.As(err, &fault) {
		return nil, &Error{File: src.Name, Text: err.Error()}
	}
	e := &Error{File: src.Name, Line: fault.Line, Text: fault.Text}
	if fault.Key != "" {
		e.Text = fault.Key + ": " + fault.Text
	}
	var i int
	if _, err := fmt.Sscanf(fault.Key, "rules[%d]", &i); err == nil && i < len(r.Rules) {
		if name := r.Rules[i].Name; plainName(name) {
			e.Rule = name
		}
	}
	return nil, e
}

// at is the line of a rule's key, or of the rule where it lacks the key.
func (r *read) at(rule int, key string) int {
	if line, ok := r.lines[fmt.Sprintf("rules[%d].%s", rule, key)]; ok && key != "" {
		return line
	}
	return r.lines[fmt.Sprintf("rules[%d]", rule)]
}

// plainName: letters, digits and hyphens, fit for a label, a ledger and a shell.
func plainName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || i == 0) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// shape judges what needs no compiler and fills in a rule.
func (r *read) shape(i int, into *rule) []*Error {
	f := &r.Rules[i]
	var faults []*Error
	fail := func(key, format string, args ...any) {
		faults = append(faults, &Error{File: r.Name, Line: r.at(i, key), Rule: into.name, Text: fmt.Sprintf(format, args...)})
	}
	*into = rule{file: r.Name, line: r.at(i, "name"), builtIn: r.builtIn, reason: f.Reason, then: f.Then, promise: f.Promise}
	if !plainName(f.Name) {
		fail("name", "a rule needs a name of lower-case letters, digits and hyphens, at most 64")
	} else {
		into.name = f.Name
	}
	if f.Reason == "" || len(f.Reason) > 300 {
		fail("reason", "needs a reason of at most 300 characters: it is what the operator reads when a message is refused")
	}
	if f.Promise != 0 && !r.builtIn {
		fail("promise", "promise is for built-in rules")
	}
	switch f.Mode {
	case "enforce":
		into.enforce = true
	case "", "shadow":
	default:
		fail("mode", "mode must be enforce or shadow")
	}
	switch f.Direction {
	case "from-station":
		into.direction = ocpp.FromStation
	case "from-csms":
		into.direction = ocpp.FromCSMS
	default:
		fail("direction", "direction must be from-station or from-csms")
	}
	r.heads(f, into, fail)
	if len(f.When) > maxWhen {
		fail("when", "the condition is longer than %d characters", maxWhen)
	}
	r.effect(i, f, into, fail)
	return faults
}

// heads reads actions and versions.
func (r *read) heads(f *fileRule, into *rule, fail func(key, format string, args ...any)) {
	if len(f.Action) == 0 {
		fail("action", `action is missing: name one, several, or "*" for all`)
	}
	for n, name := range f.Action {
		_, known := ocpp.FindAction(name)
		switch {
		case slices.Contains(f.Action[:n], name):
			fail("action", "action %s stands here twice", name)
		case !known && name != "*":
			fail("action", "no version of OCPP has an action %.40q%s", name, nearAction(name))
		}
	}
	into.actions = f.Action
	if slices.Contains(f.Action, "*") {
		into.actions = []string{"*"}
		if len(f.Action) > 1 {
			fail("action", `"*" stands for all actions and needs no others`)
		}
	}
	for _, text := range f.Version {
		v, ok := ocpp.ParseSubprotocol("ocpp" + text)
		if !ok {
			fail("version", "version must be 1.6, 2.0.1 or 2.1")
		}
		into.versions = append(into.versions, v)
	}
	if len(f.Version) == 0 {
		into.versions = []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21}
	}
}

// effect reads what a rule does.
func (r *read) effect(i int, f *fileRule, into *rule, fail func(key, format string, args ...any)) {
	if !slices.Contains([]string{"pass", "refuse", "hold", "rewrite"}, f.Then) {
		fail("then", "then must be pass, refuse, hold or rewrite")
	}
	if f.Error != "" {
		into.code = ocpp.ErrorCode(f.Error)
		if ocpp.ParseErrorCode(f.Error) != into.code {
			fail("error", "OCPP has no error code %.40q; codes are spelled as in 2.1, such as SecurityError", f.Error)
		}
		if f.Then != "refuse" && f.Then != "hold" {
			fail("error", "error goes with then: refuse or hold")
		}
	}
	if _, counts := r.lines[fmt.Sprintf("rules[%d].count", i)]; counts {
		into.count = &f.Count
		for _, per := range f.Count.Per {
			if !slices.Contains([]string{"station", "group", "backend", "action"}, per) {
				fail("count.per", "count.per must be of station, group, backend and action; none counts the whole fleet's")
			}
		}
		if f.Count.Within < time.Second || f.Count.Within > 24*time.Hour {
			fail("count.within", "count.within must be from 1s to 24h")
		}
		if f.When == "" {
			fail("count", "count needs a condition in when that compares it, such as count > 10")
		}
	}
	rewrite, ok := newRewrite(&f.Rewrite)
	switch {
	case f.Then == "rewrite" && !ok:
		fail("rewrite", "then: rewrite needs one of rewrite.clamp and rewrite.drop, with a field such as a.b")
	case f.Then != "rewrite" && f.Rewrite != fileRewrite{}:
		fail("rewrite", "rewrite goes with then: rewrite")
	}
	into.rewrite = rewrite
}

// nearAction suggests the action that was meant.
func nearAction(name string) string {
	if base, signed := strings.CutSuffix(name, "-Signed"); signed {
		return "; rules name the action without -Signed and see what was signed: " + fmt.Sprintf("%.40s", base)
	}
	for _, a := range ocpp.Actions() {
		if fold(a.Name) == fold(name) {
			return "; did you mean " + a.Name + "?"
		}
	}
	return ""
}

// fold is how two spellings that some peer may take for one compare.
func fold(s string) string { return strings.ToLower(strings.TrimSpace(s)) }
