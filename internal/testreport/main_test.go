package main

import (
	"strings"
	"testing"
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
