package ws

import (
	"testing"
	"time"
)

// A loop stays, and lets messages gather, by what comes in: here so many streams
// are ready in each turn, so long after the one before.
func TestTempoFollowsTheLoad(t *testing.T) {
	t.Parallel()
	const some = 4000 // turns
	for _, tt := range []struct {
		name           string
		every          time.Duration // between turns
		ready          int
		stays, gathers bool
	}{
		{"idle", time.Second, 1, false, false},
		{"few", 200 * time.Microsecond, 1, false, false},
		{"some", 100 * time.Microsecond, 1, true, false},
		{"one message after the other", 30 * time.Microsecond, 1, true, true},
		{"busy, but not without a pause", 60 * time.Microsecond, 1, true, false},
		{"more than enough", 200 * time.Microsecond, 100, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var p tempo
			now, last := int64(time.Hour), int64(time.Hour)
			stayed, gathered := 0, 0
			for range some {
				now += int64(tt.every)
				if !p.again(tt.ready, now) {
					last = now
					if p.gathers {
						t.Fatal("it gathers, and goes away as well")
					}
					continue
				}
				stayed++
				if p.gathers {
					gathered++
				}
				if now-last > atMost+int64(tt.every) {
					t.Fatalf("it stayed for %s: nobody else's connections go on", time.Duration(now-last))
				}
			}
			if (stayed > some*3/5) != tt.stays || !tt.stays && stayed > 0 {
				t.Errorf("it stayed after %d of %d turns", stayed, some)
			}
			if (gathered > some/2) != tt.gathers || !tt.gathers && gathered > 0 {
				t.Errorf("%d of %d turns let others gather", gathered, some)
			}
		})
	}
}

// What was a flood until now is none any more: one question in vain, and a window,
// are all it costs.
func TestTempoSeesAFloodEnd(t *testing.T) {
	t.Parallel()
	var p tempo
	now := int64(time.Hour)
	for range 1000 {
		now += int64(20 * time.Microsecond)
		p.again(1, now)
	}
	if !p.lively || !p.dense {
		t.Fatal("a flood wasn't seen")
	}
	for !p.again(1, now) {
		now += int64(20 * time.Microsecond)
	}
	if p.again(0, now+int64(20*time.Microsecond)) {
		t.Error("nobody came, and it stays")
	}
	stayed := 0
	for range 200 {
		now += int64(400 * time.Microsecond)
		if p.again(1, now) {
			stayed++
		}
	}
	if p.gathers || stayed > 4 {
		t.Errorf("after it, it stayed %d times; still gathers: %t", stayed, p.gathers)
	}
}

// Where others have something to do between its turns, a loop neither stays nor sleeps:
// it asks once more and goes.
func TestTempoMakesRoom(t *testing.T) {
	t.Parallel()
	var p tempo
	now := int64(time.Hour)
	next := func() bool {
		now += int64(20 * time.Microsecond)
		return p.again(1, now)
	}
	for range 1000 {
		next()
	}
	for !next() {
	}
	p.crowded()
	if p.stays || p.gathers {
		t.Error("it stays, though others need the processor")
	}
	if next() {
		t.Error("it asks again and again, though others need the processor")
	}
	if !next() || !p.stays {
		t.Error("it never stays again")
	}
}

// Who waited in vain is wary for a while: messages that come in bursts have it wait so
// in one of ten of them, not in each.
func TestTempoIsWary(t *testing.T) {
	t.Parallel()
	var p tempo
	now, vain := int64(time.Hour), 0
	const bursts = 100
	for range bursts {
		for range 100 {
			now += int64(20 * time.Microsecond)
			p.again(1, now)
			p.waited = p.stays
		}
		now += int64(patience)
		if p.waited {
			vain++
		}
		p.again(0, now)
		p.waited = false
		now += int64(5 * time.Millisecond)
	}
	if vain == 0 || vain > bursts/5 {
		t.Errorf("of %d bursts %d ended in a wait in vain", bursts, vain)
	}
}
