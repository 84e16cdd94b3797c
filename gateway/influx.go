package gateway

import (
	"time"

	"golang.org/x/time/rate"
)

// An influx is more connections than usualRate in a second, until influxOver seconds later;
// and so is the start, since the fleet comes back then.
const (
	usualRate  = 10
	influxOver = 5
)

// influx meters connections as they are accepted. It is safe for concurrent use.
type influx struct {
	clock func() time.Time
	left  *rate.Limiter // what may come still for it to be calm
}

func newInflux(clock func() time.Time) *influx {
	r := &influx{clock: clock, left: rate.NewLimiter(usualRate, usualRate*influxOver)}
	r.left.AllowN(clock(), usualRate*influxOver)
	return r
}

// came counts one; those beyond what the meter holds count no more.
func (r *influx) came() { r.left.AllowN(r.clock(), 1) }

// Calm says whether there is time for what can wait: few connections came in the last
// seconds.
func (g *Gateway) Calm() bool { return g.influx.calm() }

func (r *influx) calm() bool { return r.left.TokensAt(r.clock()) >= usualRate*(influxOver-1) }
