package acme

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How often one account, and one address for what needs no account, may ask for
// what costs something: a burst, then one in a while.
var (
	perAccount = allowance{burst: 60, every: 10 * time.Second} // signed messages that write or connect
	perSource  = allowance{burst: 30, every: 20 * time.Second} // new accounts, good and bad
	// What accounts ask that neither have a token nor ever got a certificate: there may be
	// any number of them. A hundred stations behind one address enrol at once.
	perStranger = allowance{burst: 300, every: 10 * time.Second}
	perFailure  = allowance{burst: 10, every: 5 * time.Minute} // failed challenges of one account and identifier
)

type allowance struct {
	burst int
	every time.Duration
}

// maxRemembered bounds who is remembered. When it is full everybody begins anew:
// the cost of one request stays bounded by the connections.
const maxRemembered = 8192

// limiter counts by key.
type limiter struct {
	mu    sync.Mutex
	clock func() time.Time
	by    map[string]*rate.Limiter
	is    allowance
}

func newLimiter(is allowance, clock func() time.Time) *limiter {
	return &limiter{clock: clock, by: map[string]*rate.Limiter{}, is: is}
}

// allow takes one, if there is one left.
func (l *limiter) allow(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.by[key]
	if one == nil {
		if len(l.by) >= maxRemembered {
			clear(l.by)
		}
		one = rate.NewLimiter(rate.Every(l.is.every), l.is.burst)
		l.by[key] = one
	}
	return one.AllowN(l.clock(), 1)
}
