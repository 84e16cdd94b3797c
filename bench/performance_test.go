package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Messages of a given size and share are CALLs of just that size, all
// different, of which so many are of interest to the gateway.
func TestMix(t *testing.T) {
	t.Parallel()
	for _, m := range []mix{{Bytes: 40}, {Bytes: 400, Inspected: 25}, {Bytes: 64_000, Inspected: 100}, {Bytes: 12_000}} {
		inspected, seen := 0, map[string]bool{}
		for n := range 200 {
			msg := m.request(nil, 12, n)
			if !json.Valid(msg) || len(msg) != m.Bytes || seen[string(msg)] {
				t.Fatalf("%+v: %d bytes: %.80q", m, len(msg), msg)
			}
			seen[string(msg)] = true
			if strings.Contains(string(msg), `"DataTransfer"`) {
				inspected++
			}
			_, err := response(nil, msg)
			if err != nil {
				t.Fatal(err)
			}
		}
		if inspected != 2*m.Inspected {
			t.Errorf("%+v: %d of 200 are inspected", m, inspected)
		}
	}
}

func TestBounded(t *testing.T) {
	t.Parallel()
	f := newFullPlan().bounded(3000)
	if f.most(fullParts) != 3000 || !slices.Equal(f.Idle, []int{3000}) || !slices.Equal(f.Cost.Stations, []int{100, 300, 1000, 3000}) {
		t.Errorf("%+v", f)
	}
	if whole := newFullPlan(); whole.bounded(9000).most(fullParts) != 9000 || !slices.Equal(whole.bounded(9000).Idle, whole.Idle) {
		t.Errorf("%+v", whole.bounded(9000))
	}
}

// The page says what the rounds say: medians of ratios in one round, whether a
// goal is reached, what a proxy adds, and which rounds don't count.
func TestPerformancePage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, samples []sample, sizes []size) {
		t.Helper()
		raw, err := json.Marshal(result{Time: "now", Machine: map[string]any{"cpu": "Z80"}, Versions: map[string]string{"haproxy": "HAProxy 9"}, Samples: samples, Sizes: sizes})
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+".json"), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var first, second []sample
	for round, v := range []float64{30, 10, 20} {
		first = append(first, sample{Round: round, Proxy: "bollard", Measure: roundTrips, Value: v}, sample{Round: round, Proxy: "haproxy", Measure: roundTrips, Value: 10})
	}
	const p50 = "p50 µs at 5000 msg/s"
	second = append(second, sample{Proxy: directName, Measure: p50, Value: 100}, sample{Proxy: "bollard", Measure: p50, Value: 190}, sample{Proxy: "haproxy", Measure: p50, Value: 160},
		sample{Proxy: "nginx", Measure: p50, Value: 1, Invalid: "wrong bytes\nlog"},
		sample{Round: 1, Proxy: "haproxy", Measure: p50, Value: 9000, Late: 3})
	for i, v := range []float64{5, 7, 40} {
		second = append(second, sample{Round: i, Proxy: "bollard", Measure: costByBytes + "40", Value: v}, sample{Round: i, Proxy: "bollard", Measure: costByBytes + "1000", Value: 9})
	}
	idle := fmt.Sprintf(idleStation, 5000, "1.3")
	first = append(first, sample{Proxy: "bollard", Measure: idle, Value: 8.5})
	write("a", first, nil)
	write("b", second, []size{{Certificates: 1000, Serial: 20}, {Certificates: 10_000, Serial: 30}})
	page := filepath.Join(dir, "page.md")
	err := performance(dir, page)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| round trips per CPU-s | bollard 20, haproxy 10 | 2.00 × haproxy | ≥ 1.4 × haproxy: reached | 3 |",
		"| added p50 µs at 5000 msg/s | bollard 90, haproxy 60 | 1.50 × haproxy | ≤ 1 × haproxy: **missed** | 1 |",
		"| " + idle + " | bollard 8.5 |  | ≤ 8: **missed** | 1 |",
		"- nginx, " + p50 + ": wrong bytes\n", "- haproxy, " + p50 + ": 3 messages were sent late", "- haproxy: HAProxy 9", "Z80", "| 10000 | 0 | 0 | 30 |", "(performance/bytes.svg)", "(performance/certificates.svg)",
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%q is missing in\n%s", want, raw)
		}
	}
	if strings.Contains(string(raw), "stations.svg") {
		t.Error("a chart of nothing is shown")
	}
	drawing, err := os.ReadFile(filepath.Join(dir, "bytes.svg"))
	if err != nil {
		t.Fatal(err)
	}
	for dec := xml.NewDecoder(strings.NewReader(string(drawing))); ; {
		_, err = dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("not XML: %v\n%s", err, drawing)
		}
	}
	if n := strings.Count(string(drawing), "<circle"); n != 2 || !strings.Contains(string(drawing), ">40<") || !strings.Contains(string(drawing), ">1k<") {
		t.Errorf("%d points:\n%s", n, drawing)
	}
	// The median 7 of 9 is drawn, on an axis up to 10.
	if y := fmt.Sprintf(`cy="%.1f"`, plotBottom-plotHeight*7/10); !strings.Contains(string(drawing), y) {
		t.Errorf("no point at %s:\n%s", y, drawing)
	}
	if performance(t.TempDir(), page) == nil {
		t.Error("a page was written of nothing")
	}
}
