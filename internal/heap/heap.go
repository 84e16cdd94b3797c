// Package heap spends memory on fewer garbage collections while a process with a
// small heap is busy, and gives it back afterwards.
//
// A proxy that holds few bytes and makes many short-lived ones, as in a storm of
// handshakes, collects dozens of times a second, and each collection looks at
// everything. It promises that a heap larger than the room is collected exactly
// as Go does by itself, and that an idle process soon is, too.
package heap

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// DefaultRoom is how large a busy heap may get before it is collected. An
	// eighth of a memory limit is the most that is taken.
	DefaultRoom = 64 << 20

	every = 500 * time.Millisecond
	busy  = 2 // collections within that time
	calm  = 8 // times without, until the memory is given back

	goDefault = 100 // GOGC
)

// Tune adapts the collector until ctx ends, and then leaves it as it was. It
// does nothing where GOGC is set: the operator has decided.
func Tune(ctx context.Context, room uint64) {
	if _, set := os.LookupEnv("GOGC"); set {
		return
	}
	if limit := debug.SetMemoryLimit(-1); uint64(limit)/8 < room {
		room = uint64(limit) / 8
	}
	t := tuner{room: room, percent: goDefault}
	defer debug.SetGCPercent(goDefault)
	tick := time.NewTicker(every)
	defer tick.Stop()
	seen := []metrics.Sample{{Name: "/gc/cycles/automatic:gc-cycles"}, {Name: "/gc/heap/live:bytes"}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(seen)
		if percent, changed := t.look(seen[0].Value.Uint64(), seen[1].Value.Uint64()); changed {
			debug.SetGCPercent(percent)
		}
	}
}

// tuner decides; it knows no clock but being asked.
type tuner struct {
	room    uint64
	percent int
	cycles  uint64
	quiet   int // times in a row that it wasn't busy
}

// look takes the number of collections so far and what the last one left, and
// returns by how much the heap may grow over that.
func (t *tuner) look(cycles, live uint64) (percent int, changed bool) {
	since := cycles - t.cycles
	t.cycles = cycles
	if t.quiet++; since >= busy {
		t.quiet = 0
	}
	want := t.percent
	switch {
	case t.quiet >= calm:
		want = goDefault
	case since >= busy || t.percent > goDefault && since > 0:
		want = goDefault
		if live > 0 && live < t.room/2 {
			want = int((t.room - live) * 100 / live)
		}
	}
	changed = want != t.percent
	t.percent = want
	return want, changed
}
