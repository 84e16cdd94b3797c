package main

import (
	"io/fs"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
)

// garbageShare is the garbage, in percent of what lives, that a collection waits
// for. Less than half of Go's own figure: most of what lives are idle stations, which
// cost little to look through, and what admissions leave between them stays dense.
const garbageShare = 40

// heapFloor is garbage the collector lets a small heap have before it looks: with
// no stations in it the process would collect each few megabytes, which was a
// sixth of what a resumed handshake costs. A heap that has half as much in it needs no
// floor: between idle stations all garbage is seen (docs/performance-notes.md).
const heapFloor = 40 << 20

// floorBlock is the size of one of its blocks. As one block of 32 MB the floor was
// resident in half of all starts with one processor: the runtime had cleared it,
// wherever it lay across a border of its arenas, as far as was seen. Where
// they begin is by chance (Go 1.26), and of small blocks one at most lies so.
const floorBlock = 1 << 20

// floor are blocks that count as living and are never written, so that no memory
// stands behind them.
type floor struct{ blocks atomic.Pointer[[][]byte] }

// keepFloor has a floor until half as much lives beside it, as each collection tells,
// or until release.
func keepFloor(live func() uint64) *floor {
	// A limit counts them, though nothing stands behind them.
	size := min(heapFloor, debug.SetMemoryLimit(-1)/16)
	blocks, f := make([][]byte, size/floorBlock), &floor{}
	share := debug.SetGCPercent(-1) // it would collect each few blocks
	for i := range blocks {
		blocks[i] = make([]byte, floorBlock)
	}
	debug.SetGCPercent(share)
	f.blocks.Store(&blocks)
	eachCollection(func() (again bool) {
		if 2*live() >= 3*uint64(size) {
			f.release()
		}
		return f.blocks.Load() != nil
	})
	return f
}

func (f *floor) release() { f.blocks.Store(nil) }

// liveHeap is what the last collection found to live, floor included.
func liveHeap() uint64 {
	live := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	runtimemetrics.Read(live)
	return live[0].Value.Uint64()
}

// eachCollection runs f after each of the collector's rounds, until it returns false.
func eachCollection(f func() (again bool)) {
	runtime.AddCleanup(new(*byte), func(struct{}) { // nobody holds it: the next round finds it
		if f() {
			eachCollection(f)
		}
	}, struct{}{})
}

// limitMemory has the collector know what the process may use: the cgroup's
// limit less a tenth for what isn't the runtime's. GOGC and GOMEMLIMIT in the
// environment win.
func limitMemory(root fs.FS) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbageShare)
	}
	if limit := memoryLimit(root); limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit - limit/10)
	}
}

// memoryLimit is the limit of the cgroup a container's process sees as its root,
// version 2 or 1; 0 without one.
func memoryLimit(root fs.FS) int64 {
	for _, name := range []string{"sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		// Version 2 says "max" where there is none, version 1 a number near the largest.
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 && n < math.MaxInt64/2 {
			return n
		}
	}
	return 0
}
