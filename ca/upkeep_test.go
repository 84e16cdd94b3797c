package ca_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/ca"
)

// A failure is followed by the next try soon, then ever later; a success by when it says,
// within an hour.
func TestKeepUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		type result struct {
			next time.Duration
			err  error
		}
		away := errors.New("away")
		results := []result{{next: 30 * time.Minute}, {next: -time.Hour}, {next: 1000 * time.Hour}}
		for range 8 {
			results = append(results, result{time.Minute, away})
		}
		results = append(results, result{next: 2 * time.Minute}, result{err: away}, result{})
		var waits, told []time.Duration
		last := time.Now()
		ca.KeepUp(ctx, func(context.Context) (time.Duration, error) {
			waits = append(waits, time.Since(last))
			last = time.Now()
			r := results[len(waits)-1]
			if len(waits) == len(results) {
				cancel()
			}
			return r.next, r.err
		}, func(_ error, retry time.Duration) { told = append(told, retry) })
		m := time.Minute
		if diff := cmp.Diff([]time.Duration{0, 30 * m, time.Second, 60 * m, m, 2 * m, 4 * m, 8 * m, 16 * m, 32 * m, 60 * m, 60 * m, 2 * m, m}, waits); diff != "" {
			t.Errorf("waits (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]time.Duration{m, 2 * m, 4 * m, 8 * m, 16 * m, 32 * m, 60 * m, 60 * m, m}, told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}
