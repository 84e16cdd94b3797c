package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Each round of traffic, and of handshakes, is so many turns of the servers, of
// about a second for each measure. All servers are up meanwhile: the machine changes
// its speed from one second to the next, and only what is side by side can be compared.
const (
	turnsPerRound = 8
	turn          = 1.0 // seconds
)

// firstSeconds is for what a server does when a station has come and some time
// after it: no part of what a message costs, and a row of its own.
const firstSeconds = 15

const (
	afterComing = "CPU µs a station in the %d s after it came"
	p50AtRate   = "p50 µs at %d msg/s"
	p99AtRate   = "p99 µs at %d msg/s"
	cpuAtRate   = "CPU µs per round trip at %d msg/s"
)

// contender is a server that is up, with stations of its own.
type contender struct {
	run
	up  *running
	gen *child
}

// contest has all servers up at once and measures them turn by turn: each step for
// one after the other.
func (b *bench) contest(ctx context.Context, f fullPlan, servers []proxy, open func(*contender) error, steps []func(*contender) error) error {
	known := filepath.Join(b.dir, "known.json")
	_, err := b.gen.order(order{Do: "save", File: known})
	if err != nil {
		return err
	}
	var all []*contender
	for _, p := range servers {
		c := &contender{run: run{b, f, p, 1}}
		c.up, err = start(ctx, p, b.address)
		if err != nil {
			return err
		}
		defer c.up.stop()
		c.gen, err = spawn(ctx, "generate")
		if err != nil {
			return err
		}
		defer c.gen.end()
		_, _, err = c.orders(order{Do: "load", File: known, Roots: b.files.roots})
		if err == nil {
			err = open(c)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
		all = append(all, c)
	}
	for round := range b.plan.Rounds * turnsPerRound {
		for _, step := range steps {
			for i := range all {
				c := all[(i+round)%len(all)]
				c.round = round + 1
				err := step(c)
				if ctx.Err() != nil {
					return errors.Join(err, context.Cause(ctx))
				}
				if err != nil {
					return fmt.Errorf("%s: %w", c.p.name(), err)
				}
			}
		}
	}
	return nil
}

func (c *contender) orders(list ...order) (outcome, time.Duration, error) {
	return c.b.orders(c.gen, c.up, list...)
}

// messages: latencies and CPU at fixed rates, then as much as goes.
func (b *bench) messages(ctx context.Context, f fullPlan) error {
	var steps []func(*contender) error
	for _, rate := range f.Rates {
		steps = append(steps, func(c *contender) error {
			res, cpu, err := c.orders(order{Do: "rate", Rate: rate, Seconds: turn})
			if err != nil {
				return err
			}
			c.add(res, res.P50, p50AtRate, rate)
			c.add(res, res.P99, p99AtRate, rate)
			c.add(res, microseconds(cpu, res.Count), cpuAtRate, rate)
			return nil
		})
	}
	steps = append(steps, func(c *contender) error {
		res, cpu, err := c.orders(order{Do: "flood", Seconds: turn})
		if err != nil {
			return err
		}
		c.add(res, float64(res.Count)/cpu.Seconds(), "%s", roundTrips)
		return nil
	})
	// Stations connect, and nothing is left to do for that when the first turn begins.
	open := func(c *contender) error {
		res, cpu, err := c.orders(order{Do: "connect", Count: f.Stations}, order{Do: "check"}, order{Do: "idle", Seconds: firstSeconds})
		if err == nil {
			c.add(res, microseconds(cpu, f.Stations), afterComing, firstSeconds)
		}
		return err
	}
	return b.contest(ctx, f, b.proxies, open, steps)
}

// handshakes: each station's TLS handshake alone, full and resumed, and then with
// all that makes a session of it: upgrade, identity, back end. Every station was
// there before: what a first visit writes down is no part of it.
func (b *bench) handshakes(ctx context.Context, f fullPlan) error {
	gone := order{Do: "close"}
	var visits []order
	var steps []func(*contender) error
	for _, version := range f.Versions {
		visit := order{Do: "connect", Count: f.Full, manner: manner{TLS: version}}
		visits = append(visits, visit, gone)
		for _, one := range []struct {
			do, name string
			resume   bool
			before   []order
		}{
			{"shake", fullHandshakes, false, nil},
			{"shake", resumed, true, nil},
			{"connect", opened, false, nil},
			// A round trip lets TLS 1.3 tickets arrive.
			{"connect", reopened, true, []order{{Do: "check"}, gone}},
		} {
			o := visit
			o.Do, o.Resume = one.do, one.resume
			steps = append(steps, func(c *contender) error {
				_, _, err := c.orders(one.before...)
				if err != nil {
					return err
				}
				res, cpu, err := c.orders(o)
				if err == nil {
					c.add(res, float64(res.Count)/cpu.Seconds(), one.name, version)
				}
				return err
			})
		}
		steps = append(steps, func(c *contender) error {
			_, _, err := c.orders(gone)
			return err
		})
	}
	open := func(c *contender) error {
		_, _, err := c.orders(visits...)
		return err
	}
	return b.contest(ctx, f, b.proxies, open, steps)
}

func microseconds(d time.Duration, n int) float64 { return d.Seconds() * 1e6 / float64(n) }
