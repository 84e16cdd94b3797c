package heap_test

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"bollard/internal/heap"
)

func TestRoom(t *testing.T) {
	t.Parallel()
	const room = 64 << 20
	for _, tt := range []struct {
		name string
		seen [][2]uint64 // collections so far, bytes they left
		want int
	}{
		{"idle", [][2]uint64{{1, 8 << 20}, {2, 8 << 20}}, 100},
		{"busy", [][2]uint64{{1, 8 << 20}, {21, 8 << 20}}, 700},
		{"busy and grown", [][2]uint64{{20, 8 << 20}, {22, 16 << 20}}, 300},
		{"grown out of the room", [][2]uint64{{20, 8 << 20}, {22, 33 << 20}}, 100},
		{"the room is what keeps it calm", [][2]uint64{{20, 8 << 20}, {21, 8 << 20}, {22, 8 << 20}}, 700},
		{"grown since, collected once", [][2]uint64{{20, 8 << 20}, {21, 40 << 20}}, 100},
		{"calm again", [][2]uint64{{20, 8 << 20}, {20, 0}, {20, 0}, {20, 0}, {20, 0}, {20, 0}, {20, 0}, {20, 0}, {20, 0}}, 100},
		{"nearly calm", [][2]uint64{{20, 8 << 20}, {20, 0}, {20, 0}, {20, 0}, {20, 0}, {20, 0}, {20, 0}, {20, 0}}, 700},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			look := heap.NewTuner(room)
			var got int
			for _, s := range tt.seen {
				got = look(s[0], s[1])
			}
			if got != tt.want {
				t.Errorf("the heap may grow by %d %%, want %d", got, tt.want)
			}
		})
	}
}

// A busy process collects seldom, and the collector is left as it was found.
func TestTune(t *testing.T) { // not parallel: the collector is the process's
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); heap.Tune(ctx, heap.DefaultRoom) }()
	raised := func() bool {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p > 100
	}
	for end := time.Now().Add(30 * time.Second); !raised(); {
		if time.Now().After(end) {
			t.Fatal("the collector wasn't given room")
		}
		runtime.KeepAlive(make([]byte, 1<<20))
	}
	cancel()
	<-done
	if raised() {
		t.Error("the collector kept its room")
	}
}
