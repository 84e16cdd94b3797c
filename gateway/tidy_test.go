package gateway_test

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bollard/gateway"
)

func TestGarbageIsCollectedInQuietMoments(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const mb = 1 << 20
		ctx, cancel := context.WithCancel(t.Context())
		tick, done := make(chan time.Time), make(chan struct{})
		var now atomic.Pointer[gateway.Heap]
		now.Store(&gateway.Heap{})
		var collected atomic.Int64
		var sparing atomic.Bool
		go func() {
			defer close(done)
			gateway.Tidy(ctx, tick, func() gateway.Heap { return *now.Load() }, func() {
				if sparing.Load() {
					t.Error("collected with a goal that leaves the scavenger nothing")
				}
				collected.Add(1)
			}, sparing.Store)
		}()
		for i, step := range []struct {
			allocated, live, garbage uint64
			collected                int64
			sparing                  bool
		}{
			{1 * mb, 10 * mb, 3 * mb, 0, false},       // too little
			{100 * mb, 60 * mb, 50 * mb, 0, false},    // a storm
			{200 * mb, 60 * mb, 60 * mb, 0, false},    //
			{202 * mb, 60 * mb, 60 * mb, 1, true},     // is over
			{203 * mb, 80 * mb, 4 * mb, 1, true},      // too little for so much that lives
			{204 * mb, 60 * mb, 8 * mb, 2, true},      // one message after the other
			{1000 * mb, 60 * mb, 30 * mb, 2, false},   // full load
			{1001 * mb, 200 * mb, 30 * mb, 3, true},   //
			{1001 * mb, 1000 * mb, 30 * mb, 3, true},  //
			{2000 * mb, 1000 * mb, 30 * mb, 3, false}, //
			{2001 * mb, 200 * mb, 30 * mb, 4, true},   //
		} {
			now.Store(&gateway.Heap{Allocated: step.allocated, Live: step.live, Garbage: step.garbage})
			tick <- time.Time{}
			synctest.Wait()
			if got := collected.Load(); got != step.collected {
				t.Errorf("step %d: collected %d times, want %d", i, got, step.collected)
			}
			if got := sparing.Load(); got != step.sparing {
				t.Errorf("step %d: sparing is %v, want %v", i, got, step.sparing)
			}
		}
		cancel()
		<-done
		if sparing.Load() {
			t.Error("the collector's goal was left as it is in quiet moments")
		}
	})
}

// What the collector will find is seen before it runs. It must not run in the
// middle: no other test does beside this one.
func TestGarbageIsSeen(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	look := gateway.LookAtHeap()
	runtime.GC()
	before := look()
	garbage := make([]byte, 64<<20)
	runtime.KeepAlive(garbage)
	after := look()
	if before.Live == 0 || after.Allocated-before.Allocated < 64<<20 || after.Garbage < 32<<20 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
