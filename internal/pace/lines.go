package pace

import (
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Lines bounds the log lines about what anybody can bring about, and counts those left
// out. Its methods are safe for concurrent use.
type Lines struct {
	clock func() time.Time
	limit *rate.Limiter
	muted atomic.Int64
}

// NewLines returns one of 50 lines at once, and ten a second.
func NewLines(clock func() time.Time) *Lines {
	return &Lines{clock: clock, limit: rate.NewLimiter(10, 50)}
}

// Allow says whether a line may be logged, and how many were left out before it.
func (l *Lines) Allow() (ok bool, unlogged int64) {
	if !l.limit.AllowN(l.clock(), 1) {
		l.muted.Add(1)
		return false, 0
	}
	return true, l.muted.Swap(0)
}
