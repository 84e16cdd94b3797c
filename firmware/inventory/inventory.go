// Package inventory says which stations run what: which of them run less than a
// release, or one whose bill of materials has a part below a version, and what a
// report about a vulnerability can say of that.
//
// It promises to leave no station out: one whose version is no release's is named as
// unknown, not counted as good. It is pure.
package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"bollard/firmware/bundle"
	"bollard/firmware/catalogue"
	"bollard/firmware/release"
)

// Station is one as its newest boot showed it.
type Station struct {
	ID      string `json:"station"`
	Vendor  string `json:"vendor"`
	Model   string `json:"model"`
	Version string `json:"version"` // "": it hasn't said
	// Unverified: by an exception it was given this version without a signature.
	Unverified bool `json:"unverified,omitempty"`
}

// Row is a station with the release it runs.
type Row struct {
	Station
	Release  string `json:"release,omitempty"` // "": none that is known
	Sequence uint64 `json:"sequence,omitempty"`
	Why      string `json:"why"`
}

// Answer is which stations are below what was asked for, and which nobody can tell of.
type Answer struct {
	Asked   string `json:"asked"`
	Models  int    `json:"stations"` // of models it is about
	Below   []Row  `json:"below"`
	Unknown []Row  `json:"unknown"`
	// Unverified are those that run what they didn't verify, whatever that is.
	Unverified []Row `json:"unverified,omitempty"`
	// Note: no bill of materials here has the part, so that "none" may be a name misspelt.
	Note string `json:"note,omitempty"`
}

// BelowRelease answers which stations of a release's models run an older one of its
// component.
func BelowRelease(stations []Station, list []catalogue.Entry, r *release.Release) Answer {
	a := Answer{Asked: fmt.Sprintf("less than %s %s %s, sequence %d", r.Vendor, r.Component, r.Version, r.Sequence), Below: []Row{}, Unknown: []Row{}}
	for _, s := range stations {
		if !isFor(r, s) {
			continue
		}
		a.count(s)
		if on, ok := running(s, list, r.Component); !ok {
			a.unknown(s)
		} else if on.Sequence < r.Sequence {
			a.Below = append(a.Below, Row{s, on.ID, on.Sequence, fmt.Sprintf("runs sequence %d", on.Sequence)})
		}
	}
	return a
}

// Parts are the bills of materials of releases, by ID; one without is missing.
type Parts map[string][]bundle.Part

// BelowPart answers which stations run a release with a part below a version, by name
// or package URL. Of a release without a bill of materials nobody can tell.
func BelowPart(stations []Station, list []catalogue.Entry, parts Parts, name, version string) Answer {
	a := Answer{Asked: fmt.Sprintf("%s below %s", name, version), Below: []Row{}, Unknown: []Row{}, Note: "no bill of materials here has a part of that name"}
	for _, bill := range parts {
		if slices.ContainsFunc(bill, func(p bundle.Part) bool { return named(p, name) }) {
			a.Note = ""
		}
	}
	for _, s := range stations {
		a.count(s)
		known := false
		for _, e := range list {
			if r := e.Release; isFor(r, s) && r.Version == s.Version {
				bill, ok := parts[r.ID]
				if !ok {
					continue
				}
				known = true
				if why := below(bill, name, version); why != "" {
					a.Below = append(a.Below, Row{s, r.ID, r.Sequence, why})
					break
				}
			}
		}
		if !known {
			a.unknown(s)
		}
	}
	return a
}

func (a *Answer) count(s Station) {
	a.Models++
	if s.Unverified {
		a.Unverified = append(a.Unverified, Row{Station: s, Why: "didn't verify what it runs: an exception let it have that without a signature"})
	}
}

func (a *Answer) unknown(s Station) {
	why := "runs a version that is no release's here, or one without a bill of materials"
	if s.Version == "" {
		why = "hasn't said what it runs"
	}
	a.Unknown = append(a.Unknown, Row{Station: s, Why: why})
}

// below says which part is, or "".
func below(bill []bundle.Part, name, version string) string {
	for _, p := range bill {
		if named(p, name) && (p.Version == "" || CompareVersions(p.Version, version) < 0) {
			return "has " + strings.TrimSpace(p.Name+" "+p.Version)
		}
	}
	return ""
}

func named(p bundle.Part, name string) bool {
	return p.Name == name || p.PURL == name || strings.HasPrefix(p.PURL, name+"@")
}

// isFor ignores revisions of hardware, which stations don't tell.
func isFor(r *release.Release, s Station) bool {
	return slices.ContainsFunc(r.Models, func(m release.Model) bool { return m.Vendor == s.Vendor && m.Model == s.Model })
}

// running finds the release of a component that a station shows; of several of one
// version the oldest, so that none is taken for newer than it may be.
func running(s Station, list []catalogue.Entry, component string) (*release.Release, bool) {
	var found *release.Release
	for _, e := range list {
		if r := e.Release; s.Version != "" && r.Component == component && r.Version == s.Version && isFor(r, s) && (found == nil || r.Sequence < found.Sequence) {
			found = r
		}
	}
	return found, found != nil
}

// CompareVersions orders versions of parts as their makers mostly mean them: runs of
// digits as numbers, the rest as text, and what stands behind a hyphen or tilde before
// the version without it (1.0-rc1 < 1.0 < 1.0a < 1.0.1 < 1.10).
func CompareVersions(a, b string) int {
	x, y := runs(a), runs(b)
	for i := range max(len(x), len(y)) {
		var p, q string
		if i < len(x) {
			p = x[i]
		}
		if i < len(y) {
			q = y[i]
		}
		if c := cmp.Or(cmp.Compare(rank(p), rank(q)), compareRun(p, q)); c != 0 {
			return c
		}
	}
	return 0
}

// rank is what kind of run comes first where two differ in kind.
func rank(run string) int {
	switch {
	case strings.HasPrefix(run, "-") || strings.HasPrefix(run, "~"):
		return 0
	case run == "":
		return 1
	case run[0] >= '0' && run[0] <= '9':
		return 3
	}
	return 2
}

func compareRun(p, q string) int {
	if rank(p) != 3 {
		return cmp.Compare(p, q)
	}
	p, q = strings.TrimLeft(p, "0"), strings.TrimLeft(q, "0")
	return cmp.Or(cmp.Compare(len(p), len(q)), cmp.Compare(p, q))
}

// runs cuts a version where digits begin or end; dots and plus signs only separate.
func runs(version string) []string {
	var list []string
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	for version != "" {
		n := 1
		switch c := version[0]; {
		case c == '.' || c == '+':
			version = version[1:]
			continue
		case digit(c):
			for n < len(version) && digit(version[n]) {
				n++
			}
		default:
			for n < len(version) && !digit(version[n]) && !strings.ContainsRune(".+-~", rune(version[n])) {
				n++
			}
		}
		list, version = append(list, version[:n]), version[n:]
	}
	return list
}
