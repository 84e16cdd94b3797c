package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// result is one report as it was written.
type result struct {
	Time     string            `json:"time"`
	Machine  map[string]any    `json:"machine"`
	Versions map[string]string `json:"versions"`
	Samples  []sample          `json:"samples"`
	Sizes    []size            `json:"sizes"`
}

// goal is a line of the table: what is measured, and how much must be reached.
type goal struct {
	measure string
	peer    string  // "": none
	bound   float64 // of the ratio, or of Bollard's own value where there is no peer
	less    bool    // smaller is better: it stays below
}

// goals are those of the design.
var goals = []goal{
	{roundTrips, "haproxy", 1.4, false},
	{fmt.Sprintf(cpuAtRate, 500), "haproxy", 1.0, true},
	{fmt.Sprintf(cpuAtRate, 5000), "haproxy", 0.8, true},
	{fmt.Sprintf(p99AtRate, 5000), "haproxy", 1.1, true},
	{added + fmt.Sprintf(p50AtRate, 5000), "haproxy", 1.0, true},
	{fmt.Sprintf(idleStation, 5000, "1.2"), "", 8, true},
	{fmt.Sprintf(idleStation, 9000, "1.2"), "", 8, true},
	{fmt.Sprintf(idleStation, 5000, "1.3"), "", 8, true},
	{fmt.Sprintf(idleStation, 9000, "1.3"), "", 8, true},
	{fmt.Sprintf(afterRecord, 5000, "1.2"), "", 22, true},
	{fmt.Sprintf(afterRecord, 5000, "1.2"), "haproxy", 0.8, true},
	{fmt.Sprintf(afterRecord, 5000, "1.3"), "", 22, true},
	{fmt.Sprintf(fullHandshakes, "1.3"), "haproxy", 3.0, false},
	{fmt.Sprintf(resumed, "1.3"), "haproxy", 3.5, false},
	{fmt.Sprintf(stormWall, 6000), "haproxy", 0.6, true},
	{fmt.Sprintf(stormCPU, 6000), "haproxy", 0.45, true},
	{fmt.Sprintf(afterRecord, 5000, "1.3"), "haproxy", 0.8, true},
	{estIssuance, "step-ca bbolt", 3.0, false},
	{ocspGet, "nginx", 0.5, false},
	{whenMany(ocspGet), "nginx", 0.5, false},
	{depotRate, "nginx", 1.0, false},
}

// added is what a proxy adds to a measure of none.
const added = "added "

// performance writes the page and its charts from all reports of a directory.
func performance(dir, page string) error {
	list, err := resultFiles(dir)
	if err != nil || len(list) == 0 {
		return errors.Join(err, failIf(len(list) == 0, "no reports in %s: run bench full and bench ca-full first", dir))
	}
	var all []result
	for _, file := range list {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var r result
		err = json.Unmarshal(raw, &r)
		if err != nil {
			return fmt.Errorf("couldn't read %s: %w", file, err)
		}
		all = append(all, r)
	}
	samples, sizes := merge(all)
	drawn := charts(samples, sizes)
	for name, c := range drawn {
		err = os.WriteFile(filepath.Join(dir, name+".svg"), []byte(c.svg()), 0o644)
		if err != nil {
			return fmt.Errorf("couldn't write a chart: %w", err)
		}
	}
	return os.WriteFile(page, []byte(pageOf(all, list, samples, sizes, drawn)), 0o644)
}

// merge numbers rounds on over the reports, so that pairs stay pairs, and adds
// what a proxy adds to the latency of none. The newest sizes count.
func merge(all []result) ([]sample, []size) {
	const apart = 1000
	var out []sample
	var sizes []size
	for i, r := range all {
		for _, s := range r.Samples {
			s.Round += i * apart
			if (strings.HasPrefix(s.Measure, "p50 ") || strings.HasPrefix(s.Measure, "p99 ")) && s.Late > 0 && s.Invalid == "" {
				s.Invalid = fmt.Sprintf("%d messages were sent late: the machine was too busy to tell a latency", s.Late)
			}
			out = append(out, s)
		}
		if len(r.Sizes) > 0 {
			sizes = r.Sizes
		}
	}
	bare := map[string]float64{}
	key := func(s sample) string { return fmt.Sprintf("%d %s", s.Round, s.Measure) }
	for _, s := range out {
		if s.Proxy == directName && s.Invalid == "" {
			bare[key(s)] = s.Value
		}
	}
	for _, s := range out {
		if v, ok := bare[key(s)]; ok && s.Proxy != directName && s.Invalid == "" && strings.HasPrefix(s.Measure, "p50 ") {
			s.Measure, s.Value = added+s.Measure, s.Value-v
			out = append(out, s)
		}
	}
	return out, sizes
}

// charts of how cost grows, those that were measured.
func charts(samples []sample, sizes []size) map[string]chart {
	out := map[string]chart{}
	for name, c := range map[string]struct {
		prefix, title, x string
		log              bool
	}{
		"stations":  {costByStations, "CPU per round trip as the fleet grows", "stations", true},
		"bytes":     {costByBytes, "CPU per round trip as messages grow", "bytes a message", true},
		"inspected": {costByInspected, "CPU per round trip as more is inspected", "% of messages inspected", false},
	} {
		if points := curve(samples, c.prefix); len(points) > 1 {
			out[name] = chart{Title: c.title, X: c.x, Y: "µs", LogX: c.log, Lines: []line{{"bollard", points}}}
		}
	}
	if len(sizes) > 1 {
		c := chart{Title: "Look-ups as certificates grow", X: "certificates on record", Y: "ms", LogX: true}
		for _, l := range []struct {
			name string
			of   func(size) float64
		}{
			{"one by serial", func(s size) float64 { return s.Serial / 1000 }},
			{"newest hundred", func(s size) float64 { return s.Newest }},
			{"one station's", func(s size) float64 { return s.Station }},
		} {
			var points []point
			for _, s := range sizes {
				points = append(points, point{float64(s.Certificates), l.of(s)})
			}
			c.Lines = append(c.Lines, line{l.name, points})
		}
		out["certificates"] = c
	}
	return out
}

// curve is the median of each point.
func curve(samples []sample, prefix string) []point {
	values := map[float64][]float64{}
	for _, s := range samples {
		at, ok := strings.CutPrefix(s.Measure, prefix)
		x, err := strconv.ParseFloat(at, 64)
		if ok && err == nil && s.Invalid == "" {
			values[x] = append(values[x], s.Value)
		}
	}
	var points []point
	for x, v := range values {
		points = append(points, point{x, median(v)})
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.X, b.X) })
	return points
}

func pageOf(all []result, files []string, samples []sample, sizes []size, drawn map[string]chart) string {
	var b strings.Builder
	b.WriteString(`# Performance

Written by ` + "`make bench-full`" + ` from the rounds kept in [performance/](performance). Ratios are Bollard's value over the peer's in the same round, medians
over rounds; rates are per second of the server's own CPU. Every server has one worker, every station its own certificate, and half of them TLS 1.2 with AES-128
or -256 where a line doesn't name a version. A round with one lost, late or wrong byte doesn't count. Messages and handshakes are measured in turns of about a second, eight a round, with all servers up at once, certificates and OCSP in four. What the peers are configured with is in bench/*.tmpl.
What made Bollard faster, and what didn't: [performance-notes.md](performance-notes.md).

`)
	seen := map[string]bool{}
	for _, r := range all {
		for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
			if text := name + ": " + r.Versions[name]; !seen[text] {
				seen[text] = true
				fmt.Fprintf(&b, "- %s\n", text)
			}
		}
	}
	last := slices.MaxFunc(all, func(a, b result) int { return cmp.Compare(a.Time, b.Time) })
	var machines []string
	for i, r := range all {
		m := fmt.Sprintf("%v, %v CPUs, %v/%v", r.Machine["cpu"], r.Machine["cpus"], r.Machine["os"], r.Machine["arch"])
		if at := slices.IndexFunc(machines, func(known string) bool { return strings.HasPrefix(known, m+": ") }); at >= 0 {
			machines[at] += ", " + filepath.Base(files[i])
		} else {
			machines = append(machines, m+": "+filepath.Base(files[i]))
		}
	}
	fmt.Fprint(&b, "- servers share the machine with the load generator and the back end\n")
	for _, m := range machines {
		fmt.Fprintf(&b, "- machine: %s\n", m)
	}
	fmt.Fprint(&b, "- load averages at the end of each report:")
	for _, r := range all {
		fmt.Fprintf(&b, " %v;", r.Machine["load"])
	}
	b.WriteString(" with other work beside, rates and latencies wander, and only ratios within a round say something\n\n")
	table(&b, samples)
	if len(sizes) > 0 {
		b.WriteString("\n## Certificates on record\n\n| certificates | file MB | open ms | one by serial µs | newest 100 ms | CRL ms | OCSP signed ahead s |\n| ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
		for _, s := range sizes {
			fmt.Fprintf(&b, "| %d | %.0f | %.0f | %.0f | %.1f | %.0f | %.1f |\n", s.Certificates, s.FileMB, s.Open, s.Serial, s.Newest, s.CRL, s.First)
		}
	}
	if len(drawn) > 0 {
		b.WriteString("\n## How cost grows\n\n")
		for _, name := range slices.Sorted(maps.Keys(drawn)) {
			fmt.Fprintf(&b, "![%s](performance/%s.svg)\n\n", drawn[name].Title, name)
		}
	}
	b.WriteString("\n## Rounds that don't count\n\n")
	invalid := 0
	for _, s := range samples {
		if s.Invalid != "" {
			invalid++
			first, _, _ := strings.Cut(s.Invalid, "\n")
			fmt.Fprintf(&b, "- %s, %s: %s\n", s.Proxy, s.Measure, first)
		}
	}
	if invalid == 0 {
		b.WriteString("None.\n")
	}
	fmt.Fprintf(&b, "\nAll rounds: %d reports, the newest of %s.\n", len(files), last.Time)
	return b.String()
}

// table writes every measure with its medians, and the goals.
func table(b *strings.Builder, samples []sample) {
	plain := slices.DeleteFunc(slices.Clone(samples), func(s sample) bool {
		for _, prefix := range []string{costByStations, costByBytes, costByInspected} {
			if strings.HasPrefix(s.Measure, prefix) {
				return true
			}
		}
		return false
	})
	summaries, _ := summarise(plain) // rounds are named below, however few
	b.WriteString("| measure | medians | ratios | goal | rounds |\n| --- | --- | --- | --- | ---: |\n")
	for _, s := range summaries {
		var medians, ratios []string
		for _, name := range slices.Sorted(maps.Keys(s.Median)) {
			medians = append(medians, fmt.Sprintf("%s %s", name, short(round3(s.Median[name]))))
		}
		for _, name := range slices.Sorted(maps.Keys(s.Ratio)) {
			if name != directName {
				ratios = append(ratios, fmt.Sprintf("%.2f × %s", s.Ratio[name], name))
			}
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %d |\n", s.Measure, strings.Join(medians, ", "), strings.Join(ratios, ", "), verdict(s), rounds(plain, s.Measure))
	}
}

// verdict says of each goal of a measure whether it is reached.
func verdict(s summary) string {
	var list []string
	for _, g := range goals {
		value, ok := s.Ratio[g.peer]
		unit := " × " + g.peer
		if g.peer == "" {
			value, ok = s.Median["bollard"]
			unit = ""
		}
		if g.measure != s.Measure || !ok {
			continue
		}
		sign, reached := "≥", value >= g.bound
		if g.less {
			sign, reached = "≤", value <= g.bound
		}
		text := "reached"
		if !reached {
			text = "**missed**"
		}
		list = append(list, fmt.Sprintf("%s %.2g%s: %s", sign, g.bound, unit, text))
	}
	return strings.Join(list, ", ")
}

// rounds of Bollard's that count.
func rounds(samples []sample, measure string) int {
	n := 0
	for _, s := range samples {
		if s.Measure == measure && s.Proxy == "bollard" && s.Invalid == "" {
			n++
		}
	}
	return n
}

func round3(v float64) float64 {
	f, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	if err != nil {
		return v
	}
	return f
}
