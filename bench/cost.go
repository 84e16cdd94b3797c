package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// costSizes are the points of the curves of how cost grows.
type costSizes struct {
	Stations  []int `json:"stations"`
	Bytes     []int `json:"bytes"`
	Inspected []int `json:"inspected"` // of a hundred messages
	Rate      int   `json:"rate"`
	Fleet     int   `json:"fleet"` // stations where their number isn't what grows
}

func newCostSizes() costSizes {
	return costSizes{
		Stations: []int{100, 300, 1000, 3000, 9000}, Bytes: []int{40, 200, 1000, 4000, 16_000, 64_000}, Inspected: []int{0, 25, 50, 75, 100},
		Rate: 2000, Fleet: 300,
	}
}

// Measures of the curves; each ends with its point.
const (
	costByStations  = "CPU µs per round trip, stations: "
	costByBytes     = "CPU µs per round trip, bytes: "
	costByInspected = "CPU µs per round trip, % inspected: "
)

// inspectedBytes is the size of messages where their share is what grows.
const inspectedBytes = 400

// cost lets stations, message size and the share of inspected messages grow,
// each on its own, at one rate of messages.
func (r run) cost(ctx context.Context) error {
	c := r.f.Cost
	at := func(up *running, name string, value int, m mix) error {
		o := order{Do: "rate", Rate: c.Rate, Seconds: r.f.Seconds, mix: m}
		if m.Bytes > 10_000 {
			o.Rate /= 4 // the generator must keep up
		}
		res, cpu, err := r.orders(up, o)
		if err != nil {
			return err
		}
		res.P99 = 0 // CPU is what counts here
		r.add(res, cpu.Seconds()*1e6/float64(res.Count), "%s%d", name, value)
		return nil
	}
	grown := r.started(ctx, func(up *running) error {
		connected := 0
		for _, n := range c.Stations {
			_, _, err := r.orders(up, order{Do: "connect", From: connected, Count: n - connected}, order{Do: "check"})
			if err != nil {
				return err
			}
			connected = n
			time.Sleep(time.Second) // what handshakes leave to the collector
			err = at(up, costByStations, n, mix{})
			if err != nil {
				return err
			}
		}
		return nil
	})
	_, closing := r.b.gen.order(order{Do: "close"})
	if closing != nil {
		return errors.Join(grown, closing)
	}
	return errors.Join(grown, r.started(ctx, func(up *running) error {
		_, _, err := r.orders(up, order{Do: "connect", Count: min(c.Fleet, slices.Max(c.Stations))}, order{Do: "check"})
		if err != nil {
			return err
		}
		for _, n := range c.Bytes {
			err = at(up, costByBytes, n, mix{Bytes: n})
			if err != nil {
				return fmt.Errorf("%d bytes: %w", n, err)
			}
		}
		for _, n := range c.Inspected {
			err = at(up, costByInspected, n, mix{Bytes: inspectedBytes, Inspected: n})
			if err != nil {
				return fmt.Errorf("%d %% inspected: %w", n, err)
			}
		}
		return nil
	}))
}
