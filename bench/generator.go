package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// order is one line of the generator's input.
type order struct {
	Do       string  `json:"do"` // load, enrol, shake, connect, rate, flood, check, idle, soak, close, save
	File     string  `json:"file,omitempty"`
	Roots    string  `json:"roots,omitempty"`
	Address  string  `json:"address,omitempty"`
	From     int     `json:"from,omitempty"`
	Count    int     `json:"count,omitempty"`
	Parallel int     `json:"parallel,omitempty"`
	Rate     int     `json:"rate,omitempty"`
	Seconds  float64 `json:"seconds,omitempty"`
	manner
	mix
}

// outcome is one line of its output.
type outcome struct {
	Error string `json:"error,omitempty"`
	// Count of stations connected or enrolled, or of round trips.
	Count   int     `json:"count"`
	Seconds float64 `json:"seconds"`
	// CPU is the generator's own CPU time as a share of one core.
	CPU   float64 `json:"cpu"`
	P50   float64 `json:"p50_us,omitempty"`
	P99   float64 `json:"p99_us,omitempty"`
	Late  int     `json:"late,omitempty"`  // messages sent over 20 ms after their time
	Extra int     `json:"extra,omitempty"` // CALLs the proxy sent of its own

	Broken int `json:"broken,omitempty"` // lines that broke in a soak
}

// maxStations bounds what one generator holds.
const maxStations = 10_000

// generator is the fleet of stations, driven by orders.
type generator struct {
	known []credentials
	roots *x509.CertPool
	live  []*station

	reached []int // next message of each station in a soak
}

func generate(stdin io.Reader, stdout io.Writer) error {
	g := &generator{}
	enc := json.NewEncoder(stdout)
	lines := bufio.NewScanner(stdin)
	for lines.Scan() {
		var o order
		err := json.Unmarshal(lines.Bytes(), &o)
		if err != nil {
			return fmt.Errorf("couldn't read an order: %w", err)
		}
		for _, s := range g.live {
			s.mix = o.mix
		}
		start, cpu := time.Now(), ownCPU()
		res, err := g.carryOut(o)
		took := time.Since(start)
		if err != nil {
			res.Error = err.Error()
		}
		res.Seconds = took.Seconds()
		res.CPU = (ownCPU() - cpu).Seconds() / took.Seconds()
		for _, s := range g.live {
			res.Extra += s.extra
		}
		err = enc.Encode(res)
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *generator) carryOut(o order) (outcome, error) {
	switch o.Do {
	case "load":
		return outcome{}, g.load(o)
	case "save":
		raw, err := json.Marshal(g.known)
		if err != nil {
			return outcome{}, err
		}
		return outcome{Count: len(g.known)}, os.WriteFile(o.File, raw, 0o600)
	case "enrol":
		return g.enrol(o)
	case "shake":
		return g.shake(o)
	case "connect":
		return g.connect(o)
	case "rate":
		return g.rate(o)
	case "flood":
		return g.flood(o)
	case "check":
		return g.check(o)
	case "idle":
		return g.idle(o)
	case "soak":
		return g.soak(o)
	case "close":
		for _, s := range g.live {
			s.close()
		}
		g.live = nil
		return outcome{}, nil
	}
	return outcome{}, fmt.Errorf("unknown order %q", o.Do)
}

func (g *generator) load(o order) error {
	raw, err := os.ReadFile(o.File)
	if err != nil {
		return fmt.Errorf("couldn't read the stations: %w", err)
	}
	err = json.Unmarshal(raw, &g.known)
	if err != nil {
		return fmt.Errorf("couldn't read the stations: %w", err)
	}
	if len(g.known) > maxStations {
		return fmt.Errorf("%d stations, more than %d", len(g.known), maxStations)
	}
	raw, err = os.ReadFile(o.Roots)
	if err != nil {
		return fmt.Errorf("couldn't read the roots: %w", err)
	}
	g.roots = x509.NewCertPool()
	if !g.roots.AppendCertsFromPEM(raw) {
		return errors.New("no certificate among the roots")
	}
	return nil
}

// each runs f for the numbers from..from+count-1, so many at once, and stops
// at the first error.
func each(from, count, parallel int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var next atomic.Int64
	next.Store(int64(from))
	var workers sync.WaitGroup
	for range max(parallel, 1) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= from+count {
					return
				}
				err := f(ctx, i)
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

func (g *generator) inRange(o order) error {
	if o.From < 0 || o.Count < 1 || o.From+o.Count > len(g.known) {
		return fmt.Errorf("stations %d to %d are not among the %d loaded", o.From, o.From+o.Count-1, len(g.known))
	}
	return nil
}

func (g *generator) connect(o order) (outcome, error) {
	err := g.inRange(o)
	if err != nil {
		return outcome{}, err
	}
	opened := make([]*station, o.Count)
	err = each(o.From, o.Count, o.Parallel, func(ctx context.Context, i int) error {
		s, err := dial(ctx, i, &g.known[i], o.manner, o.Address, g.roots)
		if err != nil {
			return err
		}
		opened[i-o.From] = s
		return nil
	})
	for _, s := range opened {
		if s != nil {
			g.live = append(g.live, s)
		}
	}
	return outcome{Count: len(g.live)}, err
}

// shake lets stations make a TLS handshake and no more.
func (g *generator) shake(o order) (outcome, error) {
	err := g.inRange(o)
	if err != nil {
		return outcome{}, err
	}
	return outcome{Count: o.Count}, each(o.From, o.Count, o.Parallel, func(ctx context.Context, i int) error {
		return shake(ctx, i, &g.known[i], o.manner, o.Address, g.roots)
	})
}

// enrol gets a certificate for each station. Only the time between CSR and
// certificate is measured by the caller: connect first, then enrol.
func (g *generator) enrol(o order) (outcome, error) {
	live := map[int]*station{}
	for _, s := range g.live {
		live[s.number] = s
	}
	var done atomic.Int64
	err := each(o.From, o.Count, o.Parallel, func(_ context.Context, i int) error {
		s, ok := live[i]
		if !ok {
			return fmt.Errorf("station %d is not connected", i)
		}
		err := s.enrol(&g.known[i])
		if err != nil {
			return fmt.Errorf("station %s: %w", g.known[i].Identity, err)
		}
		done.Add(1)
		return nil
	})
	return outcome{Count: int(done.Load())}, err
}

// check lets every live station make one round trip.
func (g *generator) check(o order) (outcome, error) {
	err := each(0, len(g.live), o.Parallel, func(_ context.Context, i int) error {
		_, err := g.live[i].roundTrip()
		return err
	})
	return outcome{Count: len(g.live)}, err
}

// idle lets all live stations listen for a time, as stations do: what nobody
// reads, a ping for one, would lie in the kernel's buffers.
func (g *generator) idle(o order) (outcome, error) {
	end := time.Now().Add(time.Duration(o.Seconds * float64(time.Second)))
	err := each(0, len(g.live), len(g.live), func(_ context.Context, i int) error { return g.live[i].listen(end) })
	return outcome{Count: len(g.live)}, err
}

// flood lets all live stations send as fast as their answers come.
func (g *generator) flood(o order) (outcome, error) {
	end := time.Now().Add(time.Duration(o.Seconds * float64(time.Second)))
	var total atomic.Int64
	err := each(0, len(g.live), len(g.live), func(ctx context.Context, i int) error {
		for time.Now().Before(end) && ctx.Err() == nil {
			_, err := g.live[i].roundTrip()
			if err != nil {
				return err
			}
			total.Add(1)
		}
		return nil
	})
	return outcome{Count: int(total.Load())}, err
}

// rate lets the live stations send at a fixed rate in all, evenly spread. The
// latency of a message starts when it is written; messages written late are
// counted, since many of them mean that the machine is overloaded.
func (g *generator) rate(o order) (outcome, error) {
	n := len(g.live)
	if n == 0 || o.Rate < 1 {
		return outcome{}, errors.New("no stations or no rate")
	}
	period := time.Duration(n) * time.Second / time.Duration(o.Rate)
	start := time.Now().Add(50 * time.Millisecond)
	end := start.Add(time.Duration(o.Seconds * float64(time.Second)))
	took := make([][]time.Duration, n)
	var late atomic.Int64
	err := each(0, n, n, func(ctx context.Context, i int) error {
		at := start.Add(period * time.Duration(i) / time.Duration(n))
		for ; at.Before(end) && ctx.Err() == nil; at = at.Add(period) {
			time.Sleep(time.Until(at))
			if time.Since(at) > 20*time.Millisecond {
				late.Add(1)
			}
			d, err := g.live[i].roundTrip()
			if err != nil {
				return err
			}
			took[i] = append(took[i], d)
		}
		return nil
	})
	all := slices.Concat(took...)
	if len(all) == 0 {
		return outcome{}, errors.Join(err, errors.New("no message was sent"))
	}
	slices.Sort(all)
	us := func(q float64) float64 { return float64(all[int(q*float64(len(all)-1))].Nanoseconds()) / 1000 }
	return outcome{Count: len(all), P50: us(0.50), P99: us(0.99), Late: int(late.Load())}, err
}
