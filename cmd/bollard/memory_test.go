package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"testing/fstest"
	"time"
)

func TestMemoryLimitOfTheCgroup(t *testing.T) {
	t.Parallel()
	const v2, v1 = "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"
	for name, tt := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"none":              {nil, 0},
		"version 2":         {map[string]string{v2: "536870912\n"}, 512 << 20},
		"version 2 without": {map[string]string{v2: "max\n"}, 0},
		"version 1":         {map[string]string{v1: "268435456\n"}, 256 << 20},
		"version 1 without": {map[string]string{v1: "9223372036854771712\n"}, 0},
		"nonsense":          {map[string]string{v2: "-1\n", v1: "?"}, 0},
	} {
		root := fstest.MapFS{}
		for file, text := range tt.files {
			root[file] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := memoryLimit(root); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestFloorIsThereWhileTheHeapIsSmall(t *testing.T) {
	t.Parallel()
	found := make(chan uint64)
	f := keepFloor(func() uint64 { return <-found })
	for _, live := range []uint64{0, 3*heapFloor/2 - 1, 3 * heapFloor / 2} {
		if f.blocks.Load() == nil {
			t.Fatalf("let go before %d bytes lived", live)
		}
		for told := false; !told; {
			runtime.GC() // one that comes before the next is waited for tells nobody
			select {
			case found <- live:
				told = true
			case <-time.After(time.Millisecond):
			}
		}
	}
	for f.blocks.Load() != nil {
		runtime.Gosched()
	}
}

func TestFloorIsMadeWithoutCollecting(t *testing.T) { //nolint:paralleltest // others' garbage would be collected, too
	const share = 10
	defer debug.SetGCPercent(debug.SetGCPercent(share))
	var before, after debug.GCStats
	runtime.GC()
	debug.ReadGCStats(&before)
	defer keepFloor(func() uint64 { return 0 }).release()
	debug.ReadGCStats(&after)
	if n := after.NumGC - before.NumGC; n > 2 {
		t.Errorf("collected %d times, want once when it is made", n)
	}
	if got := debug.SetGCPercent(share); got != share {
		t.Errorf("the collector waits for %d %% of garbage now, want %d", got, share)
	}
}
