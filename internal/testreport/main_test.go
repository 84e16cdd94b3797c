package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReport(t *testing.T) {
	t.Parallel()
	const pass = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
	for _, tt := range []struct {
		name, in  string
		skipsFail bool
		want      int
		last      string
	}{
		{"all passed", pass, true, 0, "1 passed, 0 failed, 0 skipped"},
		{"one failed", pass + `{"Action":"fail","Package":"p","Test":"TestB"}`, false, 1, "1 passed, 1 failed, 0 skipped"},
		{"a package did not build", pass + `{"Action":"fail","Package":"q"}`, false, 1, "1 passed, 0 failed, 0 skipped"},
		{"skip tolerated without the specifications", pass + `{"Action":"skip","Package":"p","Test":"TestB"}`, false, 0, "1 passed, 0 failed, 1 skipped"},
		{"skip refused with the specifications", pass + `{"Action":"skip","Package":"p","Test":"TestB"}`, true, 1, "1 passed, 0 failed, 1 skipped"},
		{"nothing ran", "", false, 1, "0 passed, 0 failed, 0 skipped"},
		{"a package without tests is no skip", pass + `{"Action":"skip","Package":"p"}`, true, 0, "1 passed, 0 failed, 0 skipped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			got := report(strings.NewReader(tt.in), &out, tt.skipsFail)
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if got != tt.want || lines[len(lines)-1] != tt.last {
				t.Errorf("exit %d, last line %q; want %d, %q", got, lines[len(lines)-1], tt.want, tt.last)
			}
		})
	}
}

// A panic is told although its test never ended.
func TestReportTellsWhatKilledAPackage(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	report(strings.NewReader(`{"Action":"output","Package":"p","Test":"TestA","Output":"panic: boom\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"=== PAUSE TestB\n"}
{"Action":"fail","Package":"p"}`), &out, false)
	if !strings.Contains(out.String(), "--- DIED IN p TestA\npanic: boom\n") || strings.Contains(out.String(), "PAUSE") {
		t.Error(out.String())
	}
}

// A race's trace is told once, wherever it was printed, and hides nothing.
func TestReportTellsRaces(t *testing.T) {
	t.Parallel()
	var in strings.Builder
	say := func(test string, lines ...string) {
		for _, l := range lines {
			line, err := json.Marshal(event{Action: "output", Package: "p", Test: test, Output: l + "\n"})
			if err != nil {
				t.Fatal(err)
			}
			in.Write(append(line, '\n'))
		}
	}
	for i := range 3 {
		say("TestPasses", "before", raceFence, raceHead, fmt.Sprintf("Write at 0x%d by goroutine %d:", i, i))
		say("TestOther", "  p.writes()", "      /p/p.go:7 +0x4", raceFence, "behind it")
	}
	say("TestRaced", slices.Repeat([]string{"level=INFO"}, 10_000)...)
	say("TestRaced", "    testing.go:1617: "+raced, "--- FAIL: TestRaced (0.01s)")
	say("TestWrong", "=== RUN   TestWrong", "    p_test.go:9: got 1", "    testing.go:1617: "+raced, "--- FAIL: TestWrong (0.01s)")
	say("TestOther", "    p_test.go:4: got 2")
	say("", raceFence, raceHead, "Read by main goroutine") // and it ends there
	for _, test := range []string{"TestRaced", "TestWrong", "TestOther", ""} {
		fmt.Fprintf(&in, `{"Action":"fail","Package":"p","Test":%q}`+"\n", test)
	}
	var out strings.Builder
	if got := report(strings.NewReader(in.String()), &out, false); got != 1 {
		t.Errorf("exit %d, want 1", got)
	}
	want := `--- FAIL p TestRaced
--- FAIL p TestWrong
    p_test.go:9: got 1
    testing.go:1617: ` + raced + `
--- FAIL: TestWrong (0.01s)
--- FAIL p TestOther
behind it
behind it
behind it
    p_test.go:4: got 2
FAIL  p                                           0.0s
--- DATA RACE in p, seen 3 times
Write at 0x0 by goroutine 0:
  p.writes()
      /p/p.go:7 +0x4
--- DATA RACE in p, seen 1 times
Read by main goroutine
FAIL  p TestRaced  race detected
FAIL  p TestWrong  p_test.go:9: got 1
FAIL  p TestOther  p_test.go:4: got 2
FAIL  p
0 passed, 3 failed, 0 skipped
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
