package main

import (
	"io/fs"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// garbageShare is the garbage, in percent of what lives, that a collection waits
// for. Half of Go's own figure: most of what lives are idle stations, which cost
// little to look through, and what admissions leave between them stays dense.
const garbageShare = 50

// heapFloor is garbage the collector lets a small heap have before it looks: with
// no stations in it the process would collect each few megabytes, which was a
// sixth of what a resumed handshake costs. More of it would be seen between idle
// stations (docs/performance-notes.md).
const heapFloor = 16 << 20

// keepFloor makes a block that counts as living and is never written, so that no
// memory stands behind it, for as long as release isn't called.
func keepFloor() (release func()) {
	floor := make([]byte, heapFloor)
	return func() { runtime.KeepAlive(floor) }
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
