package fleet_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/internal/failpoint"
	"bollard/internal/rollout"
	"bollard/ocpp"
)

// rolledDir names the directory of a process that is killed in a rollout.
const rolledDir = "BOLLARD_TEST_ROLLED_DIR"

// A rollout and the way to the next root's listener, killed at each of their
// steps, one after the other: nobody begins twice, nobody is forgotten, and the
// one that fails is left on what it had.
func TestRolloutSurvivesKill(t *testing.T) { // A05.FR.08, B09, promise 7
	if dir := os.Getenv(rolledDir); dir != "" {
		synctest.Test(t, func(t *testing.T) { rolled(t, dir) })
		return
	}
	t.Parallel()
	dir := t.TempDir()
	for _, point := range []string{"fleet.rollout-begun", "fleet.rollout-released", "fleet.rollout-withdrawn", "fleet.plan-chain-filled", ""} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRolloutSurvivesKill$", "-test.timeout=5m")
		cmd.Env = append(os.Environ(), rolledDir+"="+dir, failpoint.Env+"="+point)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if killed != (point != "") || !killed && err != nil {
			t.Fatalf("failpoint %q: process ended with %v\n%s", point, err, out)
		}
	}
}

// rolled goes on where the process before was killed.
func rolled(t *testing.T, dir string) {
	f := newSim(t, dir)
	defer f.close()
	start := func(n int, scope fleet.Scope) string { // the nth rollout, unless it is there
		list, err := f.ctl.Rollouts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(list) >= n {
			return list[len(list)-n].ID
		}
		return f.start(scope, func(r *rollout.Rules) { r.PerMinute = 1 })
	}
	if len(f.stations) == 0 {
		f.add(&simStation{Identity: "A", Version: ocpp.V201}, &simStation{Identity: "B", Version: ocpp.V21},
			&simStation{Identity: "C", Version: ocpp.V201}, &simStation{Identity: "MUTE", Version: ocpp.V201, Fault: "mute"})
		f.want(fleet.Group{Name: fleet.DefaultGroup, Wants: fleet.Wants{Profile: 3}})
	}
	f.connect()
	synctest.Wait()
	id := start(1, fleet.Scope{})
	f.until("profile 3", 12*time.Hour, f.over(id))
	began := map[time.Time]string{}
	for _, m := range f.rollout(id).Members {
		want := rollout.Done
		if m.ID == "mute" {
			want = rollout.Failed
		}
		if other := began[m.Began.Truncate(time.Minute)]; m.State != want || other != "" {
			t.Errorf("%s is %s (%s), began with %q", m.ID, m.State, m.Note, other)
		}
		began[m.Began.Truncate(time.Minute)] = m.ID
	}
	if st := f.station("MUTE"); st.FloorProfile != 2 || st.WantedProfile != 2 {
		t.Errorf("the one that failed: %+v", st)
	}
	released, failed := map[string]int{}, 0
	for e, err := range f.store.Entries(t.Context(), 1) {
		switch {
		case err != nil:
			t.Fatal(err)
		case e.Kind == "station.released" && e.Actor == "rollout:"+id:
			released[e.Subject]++
		case e.Kind == "fleet.failed":
			failed++
		}
	}
	for key, n := range released {
		if n != 1 {
			t.Errorf("%s was released %d times", key, n)
		}
	}
	if len(released) != 4 {
		t.Errorf("released: %v", released)
	}
	if state := f.auth.RolloverState(ca.KindCSMS); state.Phase == "" || state.Phase == ca.PhasePreparing {
		if failed != 1 {
			t.Errorf("%d failures were recorded", failed)
		}
		must(f.auth.Rollover(t.Context(), ca.KindCSMS, "operator"))
	}
	f.until("the next root", 12*time.Hour, func() bool {
		fleet.Poke(f.svc)
		synctest.Wait()
		_, waiting, err := f.svc.RolloverMoved(t.Context())
		return err == nil && len(waiting) <= 1
	})
	id = start(2, fleet.Scope{Only: []fleet.Change{fleet.ChangeChain}})
	f.until("the next root's listener", 12*time.Hour, f.over(id))
	for _, name := range []string{"A", "B", "C"} {
		if plan := must(f.svc.Plan(t.Context(), name)); plan.ChainProven == "" || plan.ChainProven != plan.ChainWanted {
			t.Errorf("%s: proven %q of %q", name, plan.ChainProven, plan.ChainWanted)
		}
	}
}
