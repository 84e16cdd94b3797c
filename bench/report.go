package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Names of the measures. All but latency, CPU per message and memory are
// better when larger.
const (
	handshakes   = "stations connected per CPU-s (full mTLS)"
	roundTrips   = "round trips per CPU-s"
	issuance     = "durable issuances per CPU-s"
	issuanceWall = "durable issuances per second"
)

// leastRounds is how many valid rounds a median needs.
const leastRounds = 3

type summary struct {
	Measure string             `json:"measure"`
	Median  map[string]float64 `json:"median"` // by proxy
	// Ratio of Bollard to the peer: the median over the rounds both have.
	Ratio map[string]float64 `json:"ratio,omitempty"`
}

func (b *bench) report(ctx context.Context, dir string) error {
	summaries, err := summarise(b.samples)
	versions, e := b.versions(ctx)
	err = errors.Join(err, e)
	b.table(summaries, versions)
	if b.stats.Wrong != "" {
		err = errors.Join(err, fmt.Errorf("the back end got wrong bytes: %s", b.stats.Wrong))
	}
	return errors.Join(err, writeReport(b.out, dir, "quick", map[string]any{
		"plan": b.plan, "versions": versions, "summary": summaries, "samples": b.samples, "backend": b.stats,
	}))
}

// writeReport writes all there is to DIR/SET-TIME.json, with time and machine.
func writeReport(out io.Writer, dir, set string, content map[string]any) error {
	now := time.Now().UTC()
	content["time"], content["machine"] = now, machine()
	raw, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	err = os.MkdirAll(dir, 0o755)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, set+"-"+now.Format("20060102T150405Z")+".json")
	err = os.WriteFile(file, append(raw, '\n'), 0o644)
	if err != nil {
		return fmt.Errorf("couldn't write the report: %w", err)
	}
	fmt.Fprintf(out, "\nall rounds: %s\n", file)
	return nil
}

// summarise makes medians; an error says which measure has too few valid rounds.
func summarise(samples []sample) ([]summary, error) {
	var order []string
	values := map[string]map[string]map[int]float64{} // measure, proxy, round
	var errs []error
	for _, s := range samples {
		if s.Invalid != "" {
			errs = append(errs, fmt.Errorf("round %d of %s doesn't count: %s", s.Round, s.Proxy, s.Invalid))
			continue
		}
		if values[s.Measure] == nil {
			values[s.Measure] = map[string]map[int]float64{}
			order = append(order, s.Measure)
		}
		if values[s.Measure][s.Proxy] == nil {
			values[s.Measure][s.Proxy] = map[int]float64{}
		}
		values[s.Measure][s.Proxy][s.Round] = s.Value
	}
	var out []summary
	for _, name := range order {
		s := summary{Measure: name, Median: map[string]float64{}, Ratio: map[string]float64{}}
		own := values[name]["bollard"]
		for proxy, rounds := range values[name] {
			var all, ratios []float64
			for round, v := range rounds {
				all = append(all, v)
				if o, ok := own[round]; ok && proxy != "bollard" && v != 0 {
					ratios = append(ratios, o/v)
				}
			}
			if len(all) < leastRounds {
				errs = append(errs, fmt.Errorf("%s, %s: %d valid rounds, fewer than %d", proxy, name, len(all), leastRounds))
			}
			s.Median[proxy] = median(all)
			if len(ratios) > 0 {
				s.Ratio[proxy] = median(ratios)
			}
		}
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

func median(v []float64) float64 {
	slices.Sort(v)
	if len(v) == 0 {
		return 0
	}
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

func (b *bench) table(summaries []summary, versions map[string]string) {
	fmt.Fprintln(b.out)
	for _, p := range b.proxies {
		fmt.Fprintf(b.out, "%-8s %s\n", p.name(), versions[p.name()])
	}
	fmt.Fprintf(b.out, "%s, %s; medians of %d rounds, ratios of bollard to the peer\n\n", cpuModel(), loadAverage(), b.plan.Rounds)
	head := fmt.Sprintf("%-42s", "")
	for _, p := range b.proxies {
		head += fmt.Sprintf("%12s", p.name())
	}
	for _, p := range b.proxies {
		if b.bollard != nil && p.name() != "bollard" {
			head += fmt.Sprintf("%12s", "/ "+p.name())
		}
	}
	fmt.Fprintln(b.out, head)
	for _, s := range summaries {
		line := fmt.Sprintf("%-42s", s.Measure)
		for _, p := range b.proxies {
			line += cell(s.Median, p.name(), "%12.1f")
		}
		for _, p := range b.proxies {
			if b.bollard != nil && p.name() != "bollard" {
				line += cell(s.Ratio, p.name(), "%12.2f")
			}
		}
		fmt.Fprintln(b.out, strings.TrimRight(line, " "))
	}
}

func cell(values map[string]float64, name, format string) string {
	v, ok := values[name]
	if !ok {
		return fmt.Sprintf("%12s", "-")
	}
	return fmt.Sprintf(format, v)
}

func cpuModel() string {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	for line := range strings.Lines(string(raw)) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

func loadAverage() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "load unknown"
	}
	fields := strings.Fields(string(raw))
	return "load " + strings.Join(fields[:min(3, len(fields))], " ")
}
