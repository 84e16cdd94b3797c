package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Each round of traffic is so many turns of the servers, of a second for each
// measure. All servers are up meanwhile: the machine changes its speed from one
// second to the next, and only what is side by side can be compared.
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

// turns measures traffic: latencies and CPU at fixed rates, then as much as goes.
func (b *bench) turns(ctx context.Context, f fullPlan) (err error) {
	known := filepath.Join(b.dir, "known.json")
	_, err = b.gen.order(order{Do: "save", File: known})
	if err != nil {
		return err
	}
	var all []*contender
	for _, p := range b.proxies {
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
		err = c.open(known)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
		all = append(all, c)
	}
	orders := []order{}
	for _, rate := range f.Rates {
		orders = append(orders, order{Do: "rate", Rate: rate, Seconds: turn})
	}
	orders = append(orders, order{Do: "flood", Seconds: turn})
	for round := range b.plan.Rounds * turnsPerRound {
		for _, o := range orders {
			for i := range all {
				c := all[(i+round)%len(all)]
				c.round = round + 1
				err := c.measure(o)
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

// open connects the stations and waits until nothing is left to do for that.
func (c *contender) open(known string) error {
	stations := order{Do: "connect", Address: c.up.listen, Count: c.f.Stations, Parallel: c.b.plan.Parallel}
	for _, o := range []order{{Do: "load", File: known, Roots: c.b.files.roots}, stations, {Do: "check", Parallel: c.b.plan.Parallel}} {
		_, err := c.gen.order(o)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, c.up.stderr)
		}
	}
	res, cpu, err := watch(c.gen, c.up, order{Do: "idle", Seconds: firstSeconds})
	if err == nil {
		c.add(res, microseconds(cpu, c.f.Stations), afterComing, firstSeconds)
	}
	return err
}

func (c *contender) measure(o order) error {
	res, cpu, err := watch(c.gen, c.up, o)
	if err != nil {
		return err
	}
	if o.Do == "flood" {
		c.add(res, float64(res.Count)/cpu.Seconds(), "%s", roundTrips)
		return nil
	}
	c.add(res, res.P50, p50AtRate, o.Rate)
	c.add(res, res.P99, p99AtRate, o.Rate)
	c.add(res, microseconds(cpu, res.Count), cpuAtRate, o.Rate)
	return nil
}

func microseconds(d time.Duration, n int) float64 { return d.Seconds() * 1e6 / float64(n) }
