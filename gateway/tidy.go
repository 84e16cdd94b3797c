package gateway

import (
	"context"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

// Admitting a station leaves some 50 KB behind: handshake, request, stacks; and
// ten seconds later its plan. The runtime would keep that for minutes once nothing
// happens any more, and after a reconnect storm it is most of the process.
const (
	tidyEvery = 2 * time.Second
	// tidyQuiet is how much a process allocates in that time that does little. One
	// that does more needs what is spare itself.
	tidyQuiet = 4 << 20
	// tidyFrom is from where, and tidyShare from which share of what lives, giving
	// back is worth a collection.
	tidyFrom  = 4 << 20
	tidyShare = 8
)

// heap is what the runtime's memory is in use for, in bytes.
type heap struct {
	Allocated uint64 // so far
	Live      uint64 // found by the last collection
	Spare     uint64 // free, or garbage by now
}

// tidy gives memory back to the system in quiet moments, until ctx ends.
func tidy(ctx context.Context, tick <-chan time.Time, look func() heap, free func()) {
	last := look()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		now := look()
		if now.Allocated-last.Allocated < tidyQuiet && now.Spare >= max(tidyFrom, now.Live/tidyShare) {
			free()
		}
		last = now
	}
}

// tidyUp runs tidy beside the doors.
func (g *Gateway) tidyUp(ctx context.Context) {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	tidy(ctx, ticker.C, lookAtHeap(), debug.FreeOSMemory)
}

// lookAtHeap asks the runtime, without stopping anybody.
func lookAtHeap() func() heap {
	list := []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	return func() heap {
		runtimemetrics.Read(list)
		h := heap{Allocated: list[0].Value.Uint64(), Live: list[1].Value.Uint64()}
		objects, free := list[2].Value.Uint64(), list[3].Value.Uint64()
		h.Spare = free + objects - min(objects, h.Live)
		return h
	}
}
