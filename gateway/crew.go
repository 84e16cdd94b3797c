package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A handshake needs a deep stack, which a new goroutine has to grow step by step,
// copying it each time. After a busy moment a few goroutines wait for the next.
const (
	crewMost     = 64
	crewPatience = 2 * time.Second
)

// crew does tasks at once, each on a goroutine of its own.
type crew struct {
	tasks chan func() // taken only by those who wait
	spare atomic.Int32
	all   sync.WaitGroup
}

func newCrew() *crew { return &crew{tasks: make(chan func())} }

// do doesn't wait for the task. ctx must end before wait is called.
func (c *crew) do(ctx context.Context, task func()) {
	select {
	case c.tasks <- task:
	default:
		c.all.Go(func() { c.serve(ctx, task) })
	}
}

func (c *crew) wait() { c.all.Wait() }

func (c *crew) serve(ctx context.Context, task func()) {
	patience := time.NewTimer(crewPatience)
	defer patience.Stop()
	for {
		task()
		if c.spare.Add(1) > crewMost {
			c.spare.Add(-1)
			return
		}
		patience.Reset(crewPatience)
		ok := false
		select {
		case task = <-c.tasks:
			ok = true
		case <-patience.C:
		case <-ctx.Done():
		}
		c.spare.Add(-1)
		if !ok {
			return
		}
	}
}
