package gateway_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bollard/gateway"
)

func TestMemoryIsGivenBackOnceAfterAStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		tick, done := make(chan time.Time), make(chan struct{})
		var admitted, freed atomic.Int64
		go func() {
			defer close(done)
			gateway.Tidy(ctx, tick, admitted.Load, func() { freed.Add(1) })
		}()
		for i, step := range []struct{ admitted, freed int64 }{
			{10, 0}, {10, 0}, // too few
			{150, 0}, {300, 0}, {400, 0}, {400, 1}, // when it is over
			{400, 1}, {410, 1}, {410, 1}, // once
			{700, 1}, {700, 2},
		} {
			admitted.Store(step.admitted)
			tick <- time.Time{}
			synctest.Wait()
			if got := freed.Load(); got != step.freed {
				t.Errorf("step %d: freed %d times, want %d", i, got, step.freed)
			}
		}
		cancel()
		<-done
	})
}
