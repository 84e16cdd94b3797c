package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"bollard/ocpp"
)

// New checks and compiles. The error joins every fault found, each an *Error, and
// then there is no Set: a set is whole or not at all.
func New(cfg Config) (*Set, error) {
	files := make([]*read, 0, len(cfg.Files)+1)
	var faults []*Error
	add := func(src Source, own bool) {
		r, fault := readFile(src)
		if fault != nil {
			faults = append(faults, fault)
			return
		}
		r.builtIn = own
		files = append(files, r)
	}
	if !cfg.Bare {
		add(Source{builtInName, builtIn}, true)
	}
	for _, src := range cfg.Files {
		add(src, false)
	}
	if len(faults) > 0 {
		return nil, join(faults)
	}
	b := &builder{set: &Set{index: map[place]*group{}, folded: map[string]string{}, values: map[string]ref.Val{}}}
	b.constants(files)
	b.collect(files)
	b.promote(files)
	if len(b.faults) > 0 {
		return nil, join(b.faults)
	}
	b.order()
	b.conflicts()
	b.cycles()
	if len(b.faults) > 0 {
		return nil, join(b.faults)
	}
	b.dead()
	b.indexRules()
	return b.set, nil
}

func join(faults []*Error) error {
	list := make([]error, len(faults))
	for i, f := range faults {
		list[i] = f
	}
	return errors.Join(list...)
}

// builder makes a Set of files.
type builder struct {
	set    *Set
	rules  []*rule // as they stand in the files
	lists  map[string][]string
	nums   map[string]int
	faults []*Error
}

func (b *builder) fail(file string, line int, name, format string, args ...any) {
	b.faults = append(b.faults, &Error{File: file, Line: line, Rule: name, Text: fmt.Sprintf(format, args...)})
}

// constants takes lists and numbers: the operator's stand for the built-in ones
// of the same name, and two files may not disagree.
func (b *builder) constants(files []*read) {
	b.lists, b.nums = map[string][]string{}, map[string]int{}
	from := map[string]string{}
	take := func(r *read, kind, name string) {
		key := kind + "." + name
		if other, taken := from[key]; taken && other != builtInName {
			b.fail(r.Name, r.lines[key], "", "%s is set in %s already; keep one", key, other)
		}
		from[key] = r.Name
	}
	for _, r := range files {
		for _, name := range slices.Sorted(maps.Keys(r.Lists)) {
			take(r, "lists", name)
			b.lists[name] = r.Lists[name]
			b.set.values["lists."+name] = newHosts(r.Lists[name])
		}
		for _, name := range slices.Sorted(maps.Keys(r.Numbers)) {
			take(r, "numbers", name)
			b.nums[name] = r.Numbers[name]
			b.set.values["numbers."+name] = types.Int(r.Numbers[name])
		}
	}
}

// collect checks and compiles every rule.
func (b *builder) collect(files []*read) {
	c, err := newCompiler(b.lists, b.nums)
	if err != nil {
		b.fail("rules", 0, "", "%v; a list or number may have a name that CEL keeps for itself", err)
		return
	}
	names := map[string]*rule{}
	for _, f := range files {
		for i := range f.Rules {
			r := new(rule)
			faults := f.shape(i, r)
			if other := names[r.name]; other != nil && r.name != "" {
				faults = append(faults, &Error{File: f.Name, Line: r.line, Rule: r.name, Text: fmt.Sprintf("a rule of this name stands at %s:%d already", other.file, other.line)})
			}
			names[r.name] = r
			if r.when = f.Rules[i].When; r.when != "" && len(faults) == 0 {
				for _, fault := range c.compile(r) {
					fault.File, fault.Rule, fault.Line = f.Name, r.name, f.whenLine(i)+max(fault.Line, 1)-1
					faults = append(faults, &fault)
				}
			}
			b.faults = append(b.faults, faults...)
			b.rules = append(b.rules, r)
		}
	}
	if len(b.rules) > maxRules {
		b.fail("rules", 0, "", "%d rules are more than %d", len(b.rules), maxRules)
	}
}

// whenLine is the line a condition's text begins on: the next, where it is a block.
func (r *read) whenLine(i int) int {
	line := r.at(i, "when")
	lines := strings.Split(string(r.Data), "\n")
	if line < 1 || line > len(lines) {
		return line
	}
	text := lines[line-1]
	if at := strings.Index(text, "when:"); at >= 0 {
		if text = strings.TrimSpace(text[at+len("when:"):]); strings.HasPrefix(text, "|") || strings.HasPrefix(text, ">") {
			return line + 1
		}
	}
	return line
}

// promote turns rules on by name.
func (b *builder) promote(files []*read) {
	for _, f := range files {
		for i, name := range f.Promote {
			at := slices.IndexFunc(b.rules, func(r *rule) bool { return r.name == name })
			switch {
			case at < 0:
				b.fail(f.Name, f.lines[fmt.Sprintf("promote[%d]", i)], "", "promote: there is no rule %.64q", name)
			case b.rules[at].then == "":
			default:
				b.rules[at].enforce = true
			}
		}
	}
}

// order is that of judgement: rules that keep a promise, the operator's, then the
// other built-in ones. A pass of the operator's can't go before a promise.
func (b *builder) order() {
	rank := func(r *rule) int {
		switch {
		case r.promise > 0:
			return 0
		case !r.builtIn:
			return 1
		}
		return 2
	}
	b.set.rules = slices.Clone(b.rules)
	slices.SortStableFunc(b.set.rules, func(x, y *rule) int { return rank(x) - rank(y) })
}

// indexRules puts each rule where its messages look.
func (b *builder) indexRules() {
	s := b.set
	actions := map[string]bool{"": true}
	for _, r := range s.rules {
		if r.dormant {
			continue
		}
		for _, name := range r.actions {
			if name != "*" {
				actions[name] = true
				s.folded[fold(name)] = name
			}
		}
	}
	for name := range actions {
		for _, d := range []ocpp.Direction{ocpp.FromStation, ocpp.FromCSMS} {
			for _, v := range []ocpp.Version{0, ocpp.V16, ocpp.V201, ocpp.V21} {
				if v == 0 && name == "" {
					continue // what is wrapped in a DataTransfer, and any action: the DataTransfer itself is met
				}
				if g := b.group(v, d, name); g != nil {
					s.index[place{v, d, name}] = g
				}
			}
		}
	}
}

// group gathers the rules for one place; nil if there are none.
func (b *builder) group(v ocpp.Version, d ocpp.Direction, action string) *group {
	g := &group{fields: map[string]string{}}
	for _, r := range b.set.rules {
		fits := slices.Contains(r.versions, v) || v == 0 && (slices.Contains(r.versions, ocpp.V16) || slices.Contains(r.versions, ocpp.V201))
		if r.dormant || r.direction != d || !fits || !r.all() && !slices.Contains(r.actions, action) {
			continue
		}
		if r.then == "rewrite" {
			g.rewrites = append(g.rewrites, r)
		} else {
			g.rules = append(g.rules, r)
		}
		for _, name := range append(r.fields, r.rewrite.path...) {
			folded := fold(name)
			if other, taken := g.fields[folded]; taken && other != name {
				name = "" // rules look at both spellings
			}
			g.fields[folded] = name
		}
	}
	maps.DeleteFunc(g.fields, func(_, name string) bool { return name == "" })
	if len(g.rewrites)+len(g.rules) == 0 {
		return nil
	}
	g.rewrites = b.inOrder(g.rewrites)
	return g
}
