// Package pace bounds how often somebody may ask for something, a burst, then one in a
// while, and how many lines of a log refusals and failures take.
package pace

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Allowance is how often.
type Allowance struct {
	Burst int
	Every time.Duration
}

// maxRemembered bounds who is remembered. When it is full everybody begins anew:
// the cost of one request stays bounded by the connections.
const maxRemembered = 8192

// Limiter counts by key. Its methods are safe for concurrent use.
type Limiter struct {
	mu    sync.Mutex
	clock func() time.Time
	by    map[string]*rate.Limiter
	is    Allowance
}

// New returns a Limiter that has seen nobody yet.
func New(is Allowance, clock func() time.Time) *Limiter {
	return &Limiter{clock: clock, by: map[string]*rate.Limiter{}, is: is}
}

// Allow takes one, if there is one left.
func (l *Limiter) Allow(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.by[key]
	if one == nil {
		if len(l.by) >= maxRemembered {
			clear(l.by)
		}
		one = rate.NewLimiter(rate.Every(l.is.Every), l.is.Burst)
		l.by[key] = one
	}
	return one.AllowN(l.clock(), 1)
}

// Source is what a request's address is counted by: an IPv6 host has its whole /64.
func Source(r *http.Request) string {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
