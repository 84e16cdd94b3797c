// Command testreport reads `go test -json` from standard input, prints what
// failed, what was slow and how much was skipped. It ends, for whoever sees only
// the end, with each data race's trace, a line for each failed test and a line
// "N passed, N failed, N skipped".
//
// A skipped test counts as a failure while the shared specifications lie
// beside the checkout: then nothing has a reason to skip.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64
	Output  string
}

func main() {
	_, err := os.Stat("../shared")
	os.Exit(report(os.Stdin, os.Stdout, err == nil))
}

// maxOutput is how many bytes of a test's output are shown, its log included;
// messages have as much again, since what failed is said last.
const maxOutput = 64 << 10

// noise is what the test binary says about a test's course.
var noise = regexp.MustCompile(`(?m)^=== (RUN|PAUSE|CONT|NAME) .*\n`)

// message is what a test says with Error, Fatal or Log.
var message = regexp.MustCompile(`(?m)^ +\w+\.go:\d+: .*$`)

// raced is what a test says that ran while the detector found a race, anywhere.
const raced = "race detected during execution of test"

// told is what a failed test has to say: its whole output and its first
// message. It is nothing if a subtest or a race says it all.
func told(output string) (all, first string) {
	died := strings.Contains(output, "panic:") || strings.Contains(output, "fatal error:")
	for _, m := range message.FindAllString(output, -1) {
		if first == "" && !strings.HasSuffix(m, raced) {
			first = strings.TrimSpace(m)
		}
	}
	switch {
	case first != "" || died:
		return noise.ReplaceAllString(output, ""), first
	case strings.Contains(output, raced):
		return "", "race detected"
	}
	return "", ""
}

// unfinished prints what tests of a package that died in the middle had to say
// about it: a panic is told by whichever test ran.
func unfinished(out io.Writer, pkg string, output map[string]*strings.Builder) {
	for key, rest := range output {
		text := rest.String()
		if strings.HasPrefix(key, pkg+" ") && (strings.Contains(text, "panic:") || strings.Contains(text, "fatal error:")) {
			fmt.Fprintf(out, "--- DIED IN %s\n%s", key, text)
		}
	}
}

// report returns the exit code: 1 if a test or package failed, or if a test
// was skipped although skipping is not allowed.
func report(in io.Reader, out io.Writer, skipsFail bool) int {
	var passed, failed, skipped, broken int
	var races races
	var failures []string
	output := map[string]*strings.Builder{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(out, lines.Text()) // a build error, for instance
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			if races.take(e.Package, e.Output) {
				continue
			}
			if output[key] == nil {
				output[key] = &strings.Builder{}
			}
			if n := output[key].Len(); n < maxOutput || n < 2*maxOutput && message.MatchString(e.Output) {
				output[key].WriteString(e.Output)
			}
			continue
		case "build-fail":
			broken++
		}
		text := ""
		if b := output[key]; b != nil {
			text = b.String()
		}
		switch {
		case e.Test == "" && e.Action == "pass":
			fmt.Fprintf(out, "ok    %-40s %6.1fs\n", e.Package, e.Elapsed)
		case e.Test == "" && e.Action == "fail":
			broken++
			failures = append(failures, fmt.Sprintf("FAIL  %s", e.Package))
			fmt.Fprintf(out, "FAIL  %-40s %6.1fs\n%s", e.Package, e.Elapsed, text)
			unfinished(out, e.Package, output)
		case e.Action == "pass":
			passed++
		case e.Action == "fail":
			failed++
			all, first := told(text)
			failures = append(failures, fmt.Sprintf("FAIL  %s  %.200s", key, first))
			fmt.Fprintf(out, "--- FAIL %s\n%s", key, all)
		case e.Action == "skip" && e.Test != "":
			skipped++
			fmt.Fprintf(out, "--- SKIP %s\n%s", key, text)
		default:
			continue
		}
		delete(output, key)
	}
	for key, rest := range output { // a build error belongs to no finished test
		if broken > 0 && strings.HasSuffix(key, " ") {
			fmt.Fprint(out, rest.String())
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintf(out, "testreport: couldn't read the test output: %v\n", err)
		broken++
	}
	races.print(out)
	for _, failure := range failures {
		fmt.Fprintln(out, strings.TrimSpace(failure))
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	if failed > 0 || broken > 0 || passed == 0 || (skipsFail && skipped > 0) {
		return 1
	}
	return 0
}
