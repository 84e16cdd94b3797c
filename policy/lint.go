package policy

import (
	"slices"
	"strings"
)

// conflicts are rules in force that contradict each other, whatever the order.
func (b *builder) conflicts() {
	for i, r := range b.set.rules {
		for _, other := range b.set.rules[:i] {
			if !r.meets(other) || !r.enforce || !other.enforce {
				continue
			}
			switch {
			case r.then == "rewrite" && other.then == "rewrite":
				if overlaps(r.rewrite.path, other.rewrite.path) {
					b.fail(r.file, r.line, r.name, "rewrites %s, which rule %s (%s:%d) rewrites too; keep one",
						strings.Join(r.rewrite.path, "."), other.name, other.file, other.line)
				}
			case r.then != other.then && r.then != "rewrite" && other.then != "rewrite" && r.when == other.when && r.count == nil && other.count == nil:
				b.fail(r.file, r.line, r.name, "says %s where rule %s (%s:%d) says %s, on the same condition; keep one",
					r.then, other.name, other.file, other.line, other.then)
			}
		}
	}
}

// cycles are rewrites each of which changes what the other looks at: no order of
// them would be right. A rewrite may look at what it changes itself.
func (b *builder) cycles() {
	state := map[*rule]int{} // 1: on the way, 2: done
	var way []*rule
	var visit func(r *rule)
	visit = func(r *rule) {
		state[r] = 1
		way = append(way, r)
		for _, next := range b.fedBy(r) {
			switch state[next] {
			case 0:
				visit(next)
			case 1:
				loop := way[slices.Index(way, next):]
				names := make([]string, 0, len(loop)+1)
				for _, l := range append(slices.Clone(loop), next) {
					names = append(names, l.name)
				}
				b.fail(next.file, next.line, next.name, "rewrites go in a circle, each changing what the next looks at: %s", strings.Join(names, " → "))
			}
		}
		way = way[:len(way)-1]
		state[r] = 2
	}
	for _, r := range b.set.rules {
		if r.then == "rewrite" && state[r] == 0 {
			visit(r)
		}
	}
}

// fedBy are the rewrites whose condition looks at what r changes.
func (b *builder) fedBy(r *rule) []*rule {
	var list []*rule
	for _, other := range b.set.rules {
		if other != r && other.then == "rewrite" && r.meets(other) && r.feeds(other) {
			list = append(list, other)
		}
	}
	return list
}

// inOrder sorts rewrites so that each comes behind those that change what it
// looks at. There are no circles any more.
func (b *builder) inOrder(list []*rule) []*rule {
	var out []*rule
	var place func(r *rule)
	place = func(r *rule) {
		if slices.Contains(out, r) {
			return
		}
		for _, other := range list {
			if other != r && other.feeds(r) {
				place(other)
			}
		}
		out = append(out, r)
	}
	for _, r := range list {
		place(r)
	}
	return out
}

// dead finds rules of the operator's that can never matter.
func (b *builder) dead() {
	for i, r := range b.set.rules {
		if r.builtIn {
			continue
		}
		find := func(text string) {
			b.set.findings = append(b.set.findings, &Error{File: r.file, Line: r.line, Rule: r.name, Text: text})
		}
		if r.dormant {
			find("never matches: its condition is false whatever the message")
			continue
		}
		if !r.all() && !slices.ContainsFunc(r.actions, r.exists) {
			find("never matches: none of its versions has " + strings.Join(r.actions, ", "))
			continue
		}
		for _, other := range b.set.rules[:i] {
			if other.enforce && other.when == "" && other.then != "rewrite" && r.then != "rewrite" && other.covers(r) {
				find("never matters: rule " + other.name + " decides about all its messages before")
				break
			}
		}
	}
}
