package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// races collects what the race detector prints. It writes past the tests, so
// its trace stands in the output of whichever test spoke last, and the tests
// that fail with it are often others.
type races struct {
	open  map[string]*strings.Builder // package → the trace that is being printed
	found []race
	known map[string]int // what identifies a trace → its place in found
}

type race struct {
	pkg   string
	trace string
	times int
}

const (
	raceFence = "=================="
	raceHead  = "WARNING: DATA RACE"
	// maxTrace is more than the detector prints: a fence that got lost hides no
	// more of a package's output than that.
	maxTrace = 32 << 10
)

// changing is what differs in a trace from one time to the next.
var changing = regexp.MustCompile(`0x[0-9a-f]+|(?i:goroutine) \d+|main goroutine`)

// take looks at one piece of a package's output and tells whether it belongs to a trace.
func (r *races) take(pkg, text string) bool {
	line := strings.TrimSpace(text)
	trace := r.open[pkg]
	switch {
	case trace == nil && line == raceHead:
		if r.open == nil {
			r.open, r.known = map[string]*strings.Builder{}, map[string]int{}
		}
		r.open[pkg] = &strings.Builder{}
		return true
	case trace == nil:
		return line == raceFence
	case line == raceFence || trace.Len() > maxTrace:
		r.end(pkg)
		return line == raceFence
	}
	trace.WriteString(text)
	return true
}

// end files the trace that a package is printing, if it is.
func (r *races) end(pkg string) {
	trace := r.open[pkg]
	if trace == nil {
		return
	}
	delete(r.open, pkg)
	key := pkg + changing.ReplaceAllString(trace.String(), "")
	at, ok := r.known[key]
	if !ok {
		at = len(r.found)
		r.known[key] = at
		r.found = append(r.found, race{pkg: pkg, trace: trace.String()})
	}
	r.found[at].times++
}

// print shows every trace once.
func (r *races) print(out io.Writer) {
	for pkg := range r.open {
		r.end(pkg)
	}
	for _, one := range r.found {
		fmt.Fprintf(out, "--- DATA RACE in %s, seen %d times\n%s\n", one.pkg, one.times, strings.TrimRight(one.trace, "\n"))
	}
}
