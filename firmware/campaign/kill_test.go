package campaign_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bollard/firmware/campaign"
	"bollard/firmware/job"
	"bollard/internal/failpoint"
	"bollard/internal/rollout"
	"bollard/ocpp"
)

// killedDir names the directory of a process that is killed in a rollout.
const killedDir = "BOLLARD_TEST_CAMPAIGN_DIR"

// A rollout that is killed at each of its steps, one after the other, from the
// beginning of a station to the end of its update: nobody is sent the same update
// twice, nobody is forgotten, and all of them end on the release.
func TestRolloutSurvivesKill(t *testing.T) { // promise 10
	if dir := os.Getenv(killedDir); dir != "" {
		killed(t, dir)
		return
	}
	t.Parallel()
	dir := t.TempDir()
	for _, point := range []string{"campaign.begun", "gate.approved", "gate.sent", "gate.answered", "gate.reported", "gate.over", ""} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRolloutSurvivesKill$", "-test.timeout=5m")
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", killedDir+"="+dir, failpoint.Env+"="+point)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if killed != (point != "") || !killed && err != nil {
			t.Fatalf("failpoint %q: process ended with %v\n%s", point, err, out)
		}
	}
}

// line is a request in the stations' own memory, which no kill of the server takes.
type line struct {
	Key     string
	Request ocpp.UpdateFirmwareRequest
}

// killed goes on where the process before was killed.
func killed(t *testing.T, dir string) {
	w := newWorldIn(t, dir, 4, func(_ int, m *mobile) { m.st.Site = "" })
	memory, err := os.OpenFile(filepath.Join(dir, "memory"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	w.diary = func(key string, r *ocpp.UpdateFirmwareRequest) {
		if err := json.NewEncoder(memory).Encode(line{key, *r}); err != nil {
			t.Fatal(err)
		}
	}
	newest, err := w.store.NewestTime(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.at(later(w.clock(), newest))
	list, err := w.rollout.Rollouts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		w.publish("2.0.0", 20)
		w.begin(plan(func(p *campaign.Plan) {
			p.Rings, p.Rules.PerMinute, p.Rules.FailLimit = []campaign.Ring{{Name: "all", Share: 1}}, 24, 0.5
		}))
	}
	// Stations do what they were told, whoever was killed.
	open, err := w.store.OpenJobs(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines(t, dir) {
		for _, j := range open {
			if j.Station == l.Key && strings.Contains(l.Request.Firmware.Location, fmt.Sprintf("/%d/", j.Number)) {
				w.atWork[""]++
				w.stations[l.Key].heard = j.Status
				w.play(w.stations[l.Key], &l.Request, w.clock())
			}
		}
	}
	if err := w.gate.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.run("it is over", 48*time.Hour, w.over)
	if n := w.states(); n[rollout.Done] != 4 {
		t.Errorf("%v", n)
	}
	given := map[string]int{}
	for _, l := range lines(t, dir) {
		given[l.Request.Firmware.Location]++
	}
	for location, n := range given {
		if n != 1 {
			t.Errorf("%s was sent %d times", location, n)
		}
	}
	jobs, err := w.store.Jobs(t.Context(), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[job.State]int{}
	for _, j := range jobs {
		ends[j.State]++
	}
	// Some were approved and not sent, some sent and never arrived.
	if ends[job.Done] != 4 || ends[job.Cancelled] == 0 || ends[job.TimedOut] == 0 || len(given) != 4 {
		t.Errorf("%v, %d sent", ends, len(given))
	}
}

func lines(t *testing.T, dir string) []line {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "memory"))
	if err != nil {
		t.Fatal(err)
	}
	var list []line
	for one := range strings.Lines(string(text)) {
		var l line
		if err := json.Unmarshal([]byte(one), &l); err != nil {
			t.Fatal(err)
		}
		list = append(list, l)
	}
	return list
}
