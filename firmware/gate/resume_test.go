package gate_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bollard/firmware/gate"
	"bollard/firmware/job"
)

// A full disk keeps no gate from starting: what an earlier run left open is taken up once
// that can be written, and nothing of this one's.
func TestResumeOnceItCanBeWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		if got := b.ask("1.0.0"); !strings.Contains(got, "Accepted") {
			t.Fatal(got)
		}
		approved := func(station string, full error) {
			b.shelf.mu.Lock()
			defer b.shelf.mu.Unlock()
			b.full = full
			b.shelf.jobs = append(b.shelf.jobs, job.Job{ID: station, Number: int64(len(b.shelf.jobs) + 1), Station: station, Release: "1.0.0", State: job.Approved})
		}
		approved("cs-2", errors.New("the disk is full"))
		b.restart(func(*gate.Config) {})
		ended := make(chan error, 1)
		go func() { ended <- b.g.Run(t.Context()) }()
		time.Sleep(25 * time.Second)
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		default:
		}
		approved("cs-3", nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for i, want := range []job.State{job.Accepted, job.Cancelled, job.Approved} {
			if j := b.shelf.jobs[i]; j.State != want || j.Gap != (i == 0) {
				t.Errorf("%s: %s (%s), a gap %t", j.Station, j.State, j.Reason, j.Gap)
			}
		}
	})
}
