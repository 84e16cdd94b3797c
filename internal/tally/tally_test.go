package tally_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"bollard/internal/tally"
)

// The first is told at once; the others are counted, ever less often, and none is lost.
func TestTally(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := tally.New[string]()
	if !c.Add("a", "1", now) || c.Add("a", "2", now) || !c.Add("b", "x", now) {
		t.Fatal("what is told at once?")
	}
	if c.First("a", now) || !c.First("c", now) || !c.First("c", now) {
		t.Error("what would be told at once?")
	}
	c.Add("a", "3", now)
	if got := due(c, now.Add(59*time.Second), false); len(got) != 0 {
		t.Errorf("too early: %v", got)
	}
	if got := due(c, now.Add(time.Minute), false); len(got) != 1 || got["a"] != (tally.Count{Text: "3", Count: 2}) {
		t.Errorf("after a minute: %v", got)
	}
	c.Add("a", "4", now.Add(61*time.Second))
	if got := due(c, now.Add(2*time.Minute), false); len(got) != 0 {
		t.Errorf("the pause didn't grow: %v", got)
	}
	if got := due(c, now.Add(2*time.Minute), true); got["a"].Count != 1 {
		t.Errorf("all: %v", got)
	}
	if due(c, now.Add(24*time.Hour), false); !c.Add("a", "5", now.Add(24*time.Hour)) {
		t.Error("who has stopped isn't forgotten")
	}
}

// What comes each time just after the pause is told ever less often, and all over
// again once it has been away for a day.
func TestTallyOfTheSlow(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := tally.NewLong[string]()
	told, records := 0, 0
	const times = 1000
	for range times {
		if c.Add("a", "", now) {
			told, records = told+1, records+1
		}
		for range 61 {
			now = now.Add(time.Second)
			for _, n := range due(c, now, false) {
				told, records = told+n.Count, records+1
			}
		}
	}
	for _, n := range due(c, now, true) {
		told += n.Count
	}
	if told != times || records > 30 {
		t.Errorf("%d records in 17 hours tell of %d of %d", records, told, times)
	}
	now = now.Add(25 * time.Hour)
	due(c, now, false)
	if !c.Add("a", "", now) || c.Add("a", "", now) || len(due(c, now.Add(time.Minute), false)) != 1 {
		t.Error("who was away for a day is still waited for")
	}
}

// What couldn't be recorded is counted again, the first of a kind as well, and told
// once with all of it after the same pause.
func TestTallyOfFailedWrites(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := tally.New[string]()
	broken := true
	var told []tally.Count
	write := func(_ string, n tally.Count) error {
		if broken {
			return errors.New("disk full")
		}
		told = append(told, n)
		return nil
	}
	c.Tell("a", "1", now, write)
	c.Tell("a", "2", now, write)
	for range 5 { // the disk is full for minutes
		now = now.Add(time.Minute)
		c.Flush(now, false, write)
	}
	c.Tell("a", "3", now, write)
	broken = false
	c.Flush(now.Add(59*time.Second), false, write)
	if len(told) != 0 {
		t.Errorf("told before its pause: %v", told)
	}
	c.Flush(now.Add(time.Minute), false, write)
	c.Flush(now.Add(time.Hour), true, write)
	if want := []tally.Count{{Text: "3", Count: 3}}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	c.Back("gone", tally.Count{Text: "x", Count: 2}) // was forgotten meanwhile
	if got := due(c, now, false); got["gone"] != (tally.Count{Text: "x", Count: 2}) {
		t.Errorf("what was forgotten and comes back: %v", got)
	}
}

// due is what is recorded of each kind.
func due(c *tally.Tally[string], now time.Time, all bool) map[string]tally.Count {
	out := map[string]tally.Count{}
	c.Flush(now, all, func(kind string, n tally.Count) error { out[kind] = n; return nil })
	return out
}

// Counts are flushed while it runs, and all of them once it is to end, with time left
// to write them.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		var calls []bool
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			tally.Run(ctx, time.Minute, func(ctx context.Context, all bool) {
				if ctx.Err() != nil {
					t.Error("nothing can be written any more")
				}
				calls = append(calls, all)
			})
		}()
		time.Sleep(150 * time.Second)
		end()
		<-ended
		if want := []bool{false, false, true}; !slices.Equal(calls, want) {
			t.Errorf("%v, want %v", calls, want)
		}
	})
}
