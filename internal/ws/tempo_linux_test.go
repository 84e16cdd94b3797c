package ws

import (
	"testing"
	"time"
)

// A loop asks its set again, and lets messages gather, by what comes in: here so
// many streams are ready per question, one question each so often.
func TestTempoFollowsTheLoad(t *testing.T) {
	t.Parallel()
	const some = 4000 // questions
	for _, tt := range []struct {
		name        string
		every       time.Duration // between turns after which the loop waited
		again       time.Duration // between turns after which it asked again
		woken, more int           // streams ready after a wait, and after a question
		asks        bool          // most turns are questions
		gathers     bool
	}{
		{"idle", time.Second, 10 * time.Microsecond, 1, 0, false, false},
		{"some", 100 * time.Microsecond, 10 * time.Microsecond, 1, 0, false, false},
		{"one message after the other", 30 * time.Microsecond, 30 * time.Microsecond, 1, 1, true, true},
		{"busy, but not without a pause", 60 * time.Microsecond, 60 * time.Microsecond, 1, 1, true, false},
		{"more than enough", 200 * time.Microsecond, 200 * time.Microsecond, 100, 100, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var p tempo
			asked, gathered, row, now, again := 0, 0, 0, int64(1), false
			for range some {
				n, step := tt.woken, tt.every
				if again {
					n, step = tt.more, tt.again
				}
				now += int64(step)
				again = p.again(n, now)
				row++
				if !again {
					row = 0
					if p.gathers {
						t.Fatal("it gathers, and waits as well")
					}
					continue
				}
				asked++
				if p.gathers {
					gathered++
				}
				if row >= fairness {
					t.Fatalf("%d turns without a wait: nobody else's connections go on", row)
				}
			}
			if (asked > some/2) != tt.asks {
				t.Errorf("%d of %d turns were followed by a question", asked, some)
			}
			if (gathered > some/2) != tt.gathers || !tt.gathers && gathered > 0 {
				t.Errorf("%d of %d turns let others gather", gathered, some)
			}
		})
	}
}

// What was a flood until now is none any more: the first questions that were in
// vain, and a window, are all it costs.
func TestTempoSeesAFloodEnd(t *testing.T) {
	t.Parallel()
	var p tempo
	now := int64(1)
	for range 1000 {
		now += int64(20 * time.Microsecond)
		p.again(1, now)
	}
	if !p.gathers && p.luck == 0 {
		t.Fatal("a flood wasn't seen")
	}
	asked := 0
	for range 200 {
		now += int64(200 * time.Microsecond)
		for n := 1; p.again(n, now); n = 0 {
			asked++
			now += int64(5 * time.Microsecond)
		}
	}
	if p.gathers || asked > mostLuck+4 {
		t.Errorf("after it, %d questions in vain; still gathers: %t", asked, p.gathers)
	}
}

// A clock that is set back doesn't stop it from seeing what comes.
func TestTempoSurvivesTheClock(t *testing.T) {
	t.Parallel()
	var p tempo
	now := int64(time.Hour)
	for _, every := range []time.Duration{20 * time.Microsecond, 60 * time.Microsecond} {
		for range 1000 {
			now += int64(every)
			p.again(1, now)
		}
		if want := every < gatherGap; p.dense != want {
			t.Errorf("%s between messages: dense is %t", every, p.dense)
		}
		now -= int64(time.Minute)
	}
}
