package policy

import (
	"fmt"
	"slices"
	"strings"

	"bollard/internal/config"
)

// table is a file of `policy test`.
type table struct {
	Tests []tableTest `yaml:"tests"`
}

type tableTest struct {
	Name    string   `yaml:"name"`
	Message Message  `yaml:"message"`
	Repeat  int      `yaml:"repeat"` // so often in all; the last counts
	Expect  string   `yaml:"expect"` // pass, refuse, hold or rewrite
	Rule    string   `yaml:"rule"`   // that decided
	Shadow  []string `yaml:"shadow" one:"ok"`
}

// Result of one test of a table.
type Result struct {
	Name string `json:"name"`
	Line int    `json:"line"`
	Want string `json:"want"`
	Got  string `json:"got"`
	OK   bool   `json:"ok"`
}

// maxRepeat bounds what a test of a table costs.
const maxRepeat = 100_000

// Test runs a table against the set. fill completes each input with what a table
// can't say; it may be nil. The error says what is wrong with the file.
func (s *Set) Test(src Source, fill func(*Input)) ([]Result, error) {
	var t table
	lines, err := config.Decode(src.Name, src.Data, &t)
	if err != nil {
		return nil, err
	}
	results := make([]Result, 0, len(t.Tests))
	for i, test := range t.Tests {
		line := lines[fmt.Sprintf("tests[%d]", i)]
		fault := func(text string) error { return &Error{File: src.Name, Line: line, Text: test.Name + ": " + text} }
		in, err := test.Message.Input()
		switch {
		case err != nil:
			return nil, fault(err.Error())
		case test.Repeat < 0 || test.Repeat > maxRepeat:
			return nil, fault(fmt.Sprintf("repeat must be from 1 to %d", maxRepeat))
		case !slices.Contains([]string{"pass", "refuse", "hold", "rewrite"}, test.Expect):
			return nil, fault("expect must be pass, refuse, hold or rewrite")
		}
		in.Counters = NewCounters()
		if fill != nil {
			fill(&in)
		}
		var d Decision
		for range max(test.Repeat, 1) {
			d = s.Decide(in)
		}
		r := Result{Name: test.Name, Line: line, Want: outcome(test.Expect, test.Rule, test.Shadow)}
		var shadow []string
		for _, hit := range d.Shadow {
			shadow = append(shadow, hit.Rule)
		}
		got, rule := d.Outcome(), d.Rule
		if got == "rewrite" {
			rule = strings.Join(d.Rewrites, ", ")
		}
		if test.Rule == "" {
			rule = "" // the table doesn't ask
		}
		if test.Shadow == nil {
			shadow = nil
		}
		r.Got = outcome(got, rule, shadow)
		r.OK = r.Got == r.Want
		results = append(results, r)
	}
	return results, nil
}

// Outcome is the decision in one of the words pass, refuse, hold and rewrite.
func (d *Decision) Outcome() string {
	if d.Rewritten != nil {
		return "rewrite"
	}
	return d.Act.String()
}

func outcome(word, rule string, shadow []string) string {
	if rule != "" {
		word += " by " + rule
	}
	if len(shadow) > 0 {
		shadow = slices.Sorted(slices.Values(shadow))
		word += ", in shadow " + strings.Join(slices.Compact(shadow), ", ")
	}
	return word
}

// Promoted reads the names a file promotes.
func Promoted(src Source) ([]string, error) {
	r, fault := readFile(src)
	if fault != nil {
		return nil, fault
	}
	return r.Promote, nil
}
