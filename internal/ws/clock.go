package ws

import (
	"container/heap"
	"sync"
	"time"
)

// clock tells a loop the time and rings its streams: all share one timer, which for
// each of its own the runtime would keep beside an idle station.
type clock struct {
	began time.Time
	mu    sync.Mutex
	order alarms
	timer *time.Timer // nil until the first
	next  int64       // when it fires; 0: it isn't set
}

// now is how many nanoseconds passed since the loop began: who sets the computer's
// clock moves nothing here, and to ask for it is half as dear.
func (c *clock) now() int64 { return int64(time.Since(c.began)) }

// alarm is a stream's place in its loop's clock, which guards it.
type alarm struct {
	at    int64 // by the clock; 0: none
	place int   // in the order
}

// set rings s at this time, and at no other it was set to.
func (c *clock) set(s *Stream, at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.alarm.at == 0 {
		s.alarm.at = at
		heap.Push(&c.order, s)
	} else {
		s.alarm.at = at
		heap.Fix(&c.order, s.alarm.place)
	}
	c.wind()
}

// drop forgets s. It may be ringing for it just now.
func (c *clock) drop(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.alarm.at != 0 {
		heap.Remove(&c.order, s.alarm.place)
		s.alarm = alarm{}
	}
}

// wind sets the timer to the first alarm, if that is sooner. The caller holds mu.
func (c *clock) wind() {
	if len(c.order) == 0 {
		return
	}
	at := c.order[0].alarm.at
	if c.next != 0 && c.next <= at {
		return
	}
	c.next = at
	d := time.Duration(at - c.now())
	if c.timer == nil {
		c.timer = time.AfterFunc(d, c.ring)
		return
	}
	c.timer.Reset(d)
}

// ring serves whoever is due, one after the other: none of them waits for a peer.
func (c *clock) ring() {
	for _, s := range c.due(c.now()) {
		s.tick()
	}
}

func (c *clock) due(now int64) (list []*Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.order) > 0 && c.order[0].alarm.at <= now {
		s, _ := heap.Pop(&c.order).(*Stream)
		s.alarm = alarm{}
		list = append(list, s)
	}
	c.next = 0
	c.wind()
	return list
}

// alarms is a heap (container/heap), the soonest first.
type alarms []*Stream

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].alarm.at < a[j].alarm.at }

func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].alarm.place, a[j].alarm.place = i, j
}

// Push and Pop are container/heap's.
func (a *alarms) Push(x any) {
	if s, ok := x.(*Stream); ok {
		s.alarm.place = len(*a)
		*a = append(*a, s)
	}
}

func (a *alarms) Pop() any {
	last := len(*a) - 1
	s := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	return s
}
