package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// plan is the size of everything.
type plan struct {
	Rounds     int      `json:"rounds"`
	Proxies    []string `json:"proxies"`
	Bollard    string   `json:"-"`
	Stations   int      `json:"stations"`   // of the latency, throughput and handshake measures
	Idle       []int    `json:"idle"`       // stations of the memory measure, rising
	Enrol      int      `json:"enrol"`      // certificates issued a round
	Rates      []int    `json:"rates"`      // messages per second
	Seconds    float64  `json:"seconds"`    // of each rate and of the flood
	Flooding   int      `json:"flooding"`   // stations that send at once
	Settle     float64  `json:"settle"`     // seconds before memory is read
	Parallel   int      `json:"parallel"`   // handshakes at once
	EnrolAhead int      `json:"enrolAhead"` // certificates asked for at once
}

func quickPlan() plan {
	return plan{
		Rounds: 3, Stations: 500, Idle: []int{1000, 3000}, Enrol: 1000, Rates: []int{500, 5000},
		Seconds: 4, Flooding: 200, Settle: 5, Parallel: 16, EnrolAhead: 32,
	}
}

// sample is one measured value of one round.
type sample struct {
	Round   int     `json:"round"`
	Proxy   string  `json:"proxy"`
	Measure string  `json:"measure"`
	Value   float64 `json:"value"`
	// GeneratorCPU is the generator's share of one core meanwhile: near 1 or
	// more it, not the proxy, may have been the limit of latencies.
	GeneratorCPU float64 `json:"generator_cpu"`
	Late         int     `json:"late,omitempty"`
	Extra        int     `json:"extra,omitempty"`
	Invalid      string  `json:"invalid,omitempty"` // why this one doesn't count
}

// bench is one run.
type bench struct {
	plan    plan
	dir     string
	files   *files
	proxies []proxy
	bollard *bollardProxy // nil if it isn't measured
	backend *child
	address string // of the back end
	gen     *child
	samples []sample
	stats   backendStats // of the whole run
	silent  bool         // no issuance is measured on the way
	out     io.Writer
}

func measure(ctx context.Context, p plan, out string, stdout io.Writer) error {
	dir, err := os.MkdirTemp("", "bollard-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{plan: p, dir: dir, out: stdout}
	defer b.end()
	err = b.prepare(ctx)
	if err == nil {
		err = b.rounds(ctx)
	}
	if err == nil {
		err = b.backend.ask("", &b.stats)
	}
	if err != nil {
		return err
	}
	return b.report(ctx, out)
}

// end ends the helpers.
func (b *bench) end() {
	for _, c := range []*child{b.gen, b.backend} {
		if c != nil {
			c.end()
		}
	}
}

// prepare starts the helpers, makes the proxies and gives every station its
// own certificate.
func (b *bench) prepare(ctx context.Context) error {
	own, err := newAuthority()
	if err != nil {
		return err
	}
	b.files, err = own.writeFiles(b.dir)
	if err != nil {
		return err
	}
	for _, name := range b.plan.Proxies {
		switch name {
		case "nginx":
			b.proxies = append(b.proxies, nginx(b.files))
		case "haproxy":
			b.proxies = append(b.proxies, haproxy(b.files))
		case "bollard":
			b.bollard, err = newBollard(ctx, b.plan.Bollard, b.dir)
			if err != nil {
				return err
			}
			err = b.files.trust(b.bollard.roots)
			if err != nil {
				return err
			}
			b.proxies = append(b.proxies, b.bollard)
		default:
			return fmt.Errorf("no such proxy: %q", name)
		}
	}
	b.backend, err = spawn(ctx, "backend")
	if err != nil {
		return err
	}
	var stats backendStats
	err = b.backend.read(&stats)
	if err != nil {
		return err
	}
	b.address = stats.Address
	b.gen, err = spawn(ctx, "generate")
	if err != nil {
		return err
	}
	if b.bollard == nil {
		return b.issueOwn(own)
	}
	return b.enlist(ctx)
}

func (b *bench) most() int { return max(slices.Max(b.plan.Idle), b.plan.Stations) }

// issued is how many certificates are issued to be counted.
func (b *bench) issued() int {
	if b.silent {
		return 0
	}
	return b.plan.Rounds * b.plan.Enrol
}

// load hands the stations' credentials to the generator.
func (b *bench) load(list []credentials) error {
	raw, err := json.Marshal(list)
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, "stations.json")
	err = os.WriteFile(file, raw, 0o600)
	if err != nil {
		return err
	}
	_, err = b.gen.order(order{Do: "load", File: file, Roots: b.files.roots})
	return err
}

func (b *bench) issueOwn(own *authority) error {
	list := make([]credentials, b.most())
	for i := range list {
		list[i] = credentials{Identity: fmt.Sprintf("CS-%05d", i), Serial: fmt.Sprintf("SN-%05d", i)}
		cert, key, err := own.issue(stationName(list[i].Serial))
		if err != nil {
			return err
		}
		list[i].Cert, list[i].Key = string(cert), string(key)
	}
	return b.load(list)
}

// enlist lets every station get its certificate from Bollard over the wire,
// in as many rounds of issuance as there are rounds, and the rest unmeasured.
func (b *bench) enlist(ctx context.Context) error {
	list, err := b.bollard.enlist(ctx, max(b.most(), b.issued()), b.dir)
	if err != nil {
		return err
	}
	err = b.load(list)
	if err != nil {
		return err
	}
	r, err := start(ctx, b.bollard, b.address)
	if err != nil {
		return err
	}
	defer r.stop()
	for from, round := 0, 1; from < len(list); from, round = from+b.plan.Enrol, round+1 {
		part := order{From: from, Count: min(b.plan.Enrol, len(list)-from), Address: r.listen, Parallel: b.plan.Parallel}
		part.Do = "connect"
		_, err = b.gen.order(part)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, r.stderr)
		}
		part.Do, part.Parallel = "enrol", b.plan.EnrolAhead
		before, err := cpuTime(r.pid())
		if err != nil {
			return err
		}
		res, err := b.gen.order(part)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, r.stderr)
		}
		after, err := cpuTime(r.pid())
		if err != nil {
			return err
		}
		if !b.silent && round <= b.plan.Rounds && part.Count == b.plan.Enrol {
			b.add(sample{Round: round, Proxy: "bollard", Measure: issuance, Value: float64(res.Count) / (after - before).Seconds(), GeneratorCPU: res.CPU})
			b.add(sample{Round: round, Proxy: "bollard", Measure: issuanceWall, Value: float64(res.Count) / res.Seconds, GeneratorCPU: res.CPU})
		}
		_, err = b.gen.order(order{Do: "close"})
		if err != nil {
			return err
		}
	}
	// The first visit with a certificate changes what is recorded of a station, and
	// its plan follows ten seconds later: no part of what is measured.
	for _, o := range []order{{Do: "connect", Address: r.listen, Count: len(list), Parallel: b.plan.Parallel}, {Do: "idle", Seconds: 15}, {Do: "close"}} {
		_, err = b.gen.order(o)
		if err != nil {
			return fmt.Errorf("first visits: %w\n%s", err, r.stderr)
		}
	}
	return nil
}

func (b *bench) add(s sample) {
	b.samples = append(b.samples, s)
	printSample(b.out, s)
}

func printSample(out io.Writer, s sample) {
	note := ""
	if s.Invalid != "" {
		note = "  INVALID: " + s.Invalid
	}
	fmt.Fprintf(out, "  round %d  %-17s %-38s %12.1f%s\n", s.Round, s.Proxy, s.Measure, s.Value, note)
}

// rounds measures every proxy once a round, in turning order.
func (b *bench) rounds(ctx context.Context) error {
	for round := 1; round <= b.plan.Rounds; round++ {
		for i := range b.proxies {
			p := b.proxies[(i+round-1)%len(b.proxies)]
			for _, part := range []func(context.Context, proxy, int) error{b.traffic, b.memory} {
				err := part(ctx, p, round)
				if ctx.Err() != nil {
					return errors.Join(err, context.Cause(ctx))
				}
				if err != nil {
					b.add(sample{Round: round, Proxy: p.name(), Measure: "whole part", Invalid: err.Error()})
					_, err = b.gen.order(order{Do: "close"})
					if err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// watched carries out an order and returns the proxy's CPU time meanwhile.
func (b *bench) watched(r *running, o order) (outcome, time.Duration, error) {
	return watch(b.gen, r, o)
}

// watch is watched with a generator of its own.
func watch(gen *child, r *running, o order) (outcome, time.Duration, error) {
	before, err := cpuTime(r.pid())
	if err != nil {
		return outcome{}, 0, err
	}
	res, err := gen.order(o)
	if err != nil {
		return res, 0, fmt.Errorf("%w\n%s", err, r.stderr)
	}
	after, err := cpuTime(r.pid())
	return res, after - before, err
}

// traffic measures handshakes, latency at fixed rates, and throughput.
func (b *bench) traffic(ctx context.Context, p proxy, round int) error {
	r, err := start(ctx, p, b.address)
	if err != nil {
		return err
	}
	defer r.stop()
	add := func(name string, value float64, res outcome) {
		b.add(sample{Round: round, Proxy: p.name(), Measure: name, Value: value, GeneratorCPU: res.CPU, Late: res.Late, Extra: res.Extra})
	}
	res, cpu, err := b.watched(r, order{Do: "connect", Address: r.listen, Count: b.plan.Stations, Parallel: b.plan.Parallel})
	if err != nil {
		return err
	}
	add(handshakes, float64(b.plan.Stations)/cpu.Seconds(), res)
	res, _, err = b.watched(r, order{Do: "check", Parallel: b.plan.Parallel}) // warm
	if err != nil {
		return err
	}
	for _, rate := range b.plan.Rates {
		res, cpu, err = b.watched(r, order{Do: "rate", Rate: rate, Seconds: b.plan.Seconds})
		if err != nil {
			return err
		}
		add(fmt.Sprintf(p50AtRate, rate), res.P50, res)
		add(fmt.Sprintf(p99AtRate, rate), res.P99, res)
		add(fmt.Sprintf(cpuAtRate, rate), microseconds(cpu, res.Count), res)
	}
	_, err = b.gen.order(order{Do: "close"})
	if err != nil {
		return err
	}
	res, _, err = b.watched(r, order{Do: "connect", Address: r.listen, Count: b.plan.Flooding, Parallel: b.plan.Parallel})
	if err != nil {
		return err
	}
	res, cpu, err = b.watched(r, order{Do: "flood", Seconds: b.plan.Seconds})
	if err != nil {
		return err
	}
	add(roundTrips, float64(res.Count)/cpu.Seconds(), res)
	_, err = b.gen.order(order{Do: "close"})
	return err
}

// memory measures what an idle station costs: growth of resident memory since
// before the first one, after a pause, each station having sent one message.
func (b *bench) memory(ctx context.Context, p proxy, round int) error {
	r, err := start(ctx, p, b.address)
	if err != nil {
		return err
	}
	defer r.stop()
	err = settled(ctx, startSettle)
	if err != nil {
		return err
	}
	empty, err := residentKB(r.pid())
	if err != nil {
		return err
	}
	connected := 0
	for _, n := range b.plan.Idle {
		res, err := b.gen.order(order{Do: "connect", Address: r.listen, From: connected, Count: n - connected, Parallel: b.plan.Parallel})
		if err != nil {
			return fmt.Errorf("%w\n%s", err, r.stderr)
		}
		connected = n
		_, err = b.gen.order(order{Do: "check", Parallel: b.plan.Parallel})
		if err != nil {
			return fmt.Errorf("%w\n%s", err, r.stderr)
		}
		_, err = b.gen.order(order{Do: "idle", Seconds: b.plan.Settle})
		if err != nil {
			return fmt.Errorf("idle stations: %w\n%s", err, r.stderr)
		}
		full, err := residentKB(r.pid())
		if err != nil {
			return err
		}
		// Idle stations must be alive, or their memory says nothing.
		_, err = b.gen.order(order{Do: "check", Parallel: b.plan.Parallel})
		if err != nil {
			return fmt.Errorf("idle stations: %w\n%s", err, r.stderr)
		}
		b.add(sample{Round: round, Proxy: p.name(), Measure: fmt.Sprintf("KB per idle station, %d", n), Value: float64(full-empty) / float64(n), GeneratorCPU: res.CPU})
	}
	_, err = b.gen.order(order{Do: "close"})
	return err
}

// machine says where the figures come from.
func machine() map[string]any {
	return map[string]any{"go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "cpus": runtime.NumCPU(), "cpu": cpuModel(), "load": loadAverage()}
}
