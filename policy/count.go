package policy

import (
	"strings"
	"sync"
	"time"
)

// Counters count messages for rules. They outlive a Set, so that a reload forgets
// no flood. Methods are safe for concurrent use.
type Counters struct {
	mu      sync.Mutex
	windows map[counted]*window
	sweepAt time.Time
}

// counted is who is counted by which rule. Keys come from enrolled stations and
// configured back ends only, so there are as many as the fleet has.
type counted struct {
	rule   string
	within time.Duration
	scope  string
}

// window counts in the present span and the one before it; the latter's share
// shrinks as the present one goes on. That is a sliding window in two numbers.
type window struct {
	from      time.Time
	now, past int64
}

// NewCounters begin at 0.
func NewCounters() *Counters { return &Counters{windows: map[counted]*window{}} }

// disorder is by how much messages that are judged at once may come out of order.
const disorder = time.Second

// sweepEvery is how often windows nobody needs any more are looked for.
const sweepEvery = 10 * time.Minute

// add counts one message and returns how many there were within the span, this
// one included.
func (c *Counters) add(key counted, at time.Time) int64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.After(c.sweepAt) {
		for k, w := range c.windows {
			if at.Sub(w.from) > 2*k.within {
				delete(c.windows, k)
			}
		}
		c.sweepAt = at.Add(sweepEvery)
	}
	w := c.windows[key]
	if w == nil {
		w = &window{from: at}
		c.windows[key] = w
	}
	switch gone := at.Sub(w.from); {
	case gone < -disorder: // the clock was set back: what came before it was is just past
		*w = window{from: at, past: w.now}
	case gone >= 2*key.within:
		*w = window{from: at}
	case gone >= key.within:
		*w = window{from: w.from.Add(key.within), past: w.now}
	}
	w.now++
	left := min(key.within-at.Sub(w.from), key.within)
	return w.now + int64(float64(w.past)*float64(left)/float64(key.within))
}

// scope is whose messages a rule counts together.
func (f *fileCount) scope(in *Input, action string) string {
	parts := make([]string, 0, 3)
	for _, per := range f.Per {
		switch per {
		case "station":
			parts = append(parts, "s"+fold(in.Station.Identity))
		case "group":
			group := ""
			if in.Group != nil {
				group = in.Group()
			}
			parts = append(parts, "g"+group)
		case "backend":
			parts = append(parts, "b"+in.Backend)
		case "action":
			parts = append(parts, "a"+action)
		}
	}
	return strings.Join(parts, "\x00")
}
