package gateway

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

// Admitting a station leaves some 50 KB behind: handshake, request, stacks; and
// ten seconds later its plan. The runtime would keep that for minutes once nothing
// happens any more, and after a reconnect storm it is most of the process.
const (
	tidyEvery = 2 * time.Second
	// tidyQuiet is how much a process allocates in that time that does little. In
	// one that does more garbage is collected soon anyway.
	tidyQuiet = 4 << 20
	// tidyFrom is from where, and tidyShare from which share of what lives, garbage
	// is worth a collection.
	tidyFrom  = 4 << 20
	tidyShare = 16
)

// heap is what the runtime's memory is in use for, in bytes.
type heap struct {
	Allocated uint64 // so far
	Live      uint64 // found by the last collection
	Garbage   uint64 // gathered since, or dead already then
}

// tidy collects garbage in quiet moments, until ctx ends. From then on, until there
// is more to do, nothing is kept in reserve.
func tidy(ctx context.Context, tick <-chan time.Time, look func() heap, collect func(), spare func(bool)) {
	sparing := false
	set := func(on bool) {
		if on != sparing {
			sparing = on
			spare(on)
		}
	}
	defer set(false)
	last := look()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		now := look()
		switch quiet := now.Allocated-last.Allocated < tidyQuiet; {
		case !quiet:
			set(false)
		case now.Garbage >= max(tidyFrom, now.Live/tidyShare):
			set(false)
			collect()
			set(true)
		}
		last = now
	}
}

// tidyUp runs tidy beside the doors.
func (g *Gateway) tidyUp(ctx context.Context) {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	tidy(ctx, ticker.C, lookAtHeap(), collect, spare())
}

// spare halves the garbage that the collector waits for. The scavenger measures
// what it leaves by that of the last collection, a tenth more than was in use then:
// with half of it, it gives back all that isn't in use. It takes 1 % of a processor
// for it.
func spare() func(on bool) {
	usual := []runtimemetrics.Sample{{Name: "/gc/gogc:percent"}}
	runtimemetrics.Read(usual)
	percent := usual[0].Value.Uint64()
	return func(on bool) {
		switch {
		case percent > math.MaxInt32: // switched off
		case on:
			debug.SetGCPercent(int(percent / 2))
		default:
			debug.SetGCPercent(int(percent))
		}
	}
}

// collect has the runtime's scavenger give back what is free, bit by bit: it
// goes by what was in use when the last collection was over, and the first of two
// finds the garbage still there. debug.FreeOSMemory does it at once
// and holds up everybody meanwhile: on a virtual machine whose page tables are
// slow to change, half a second and more.
func collect() {
	runtime.GC()
	runtime.GC()
}

// lookAtHeap asks the runtime, without stopping anybody.
func lookAtHeap() func() heap {
	list := []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}}
	return func() heap {
		runtimemetrics.Read(list)
		h := heap{Allocated: list[0].Value.Uint64(), Live: list[1].Value.Uint64()}
		objects := list[2].Value.Uint64()
		h.Garbage = objects - min(objects, h.Live)
		return h
	}
}
