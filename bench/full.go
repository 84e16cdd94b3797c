package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Names of the measures of the full set, beside those of the quick one.
const (
	fullHandshakes = "full mTLS handshakes per CPU-s, TLS %s"
	resumed        = "resumed handshakes per CPU-s, TLS %s"
	opened         = "sessions opened per CPU-s, full handshake, TLS %s"
	reopened       = "sessions opened per CPU-s, resumed, TLS %s"
	idleStation    = "KB per idle station, %d stations, TLS %s"
	afterRecord    = "KB per idle station after one 12 KB record, %d stations, TLS %s"
	stormWall      = "reconnect storm of %d: s until all were answered"
	stormCPU       = "reconnect storm of %d: CPU s"

	stormResumedWall = "reconnect storm of %d that resume TLS: s until all were answered"
	stormResumedCPU  = "reconnect storm of %d that resume TLS: CPU s"
)

// fullParts are what the full set is made of. Each can run alone, so that a
// shared machine is never taken for long.
var fullParts = []string{"traffic", "handshakes", "idle", "record", "storm", "cost"}

// fullPlan is the size of the full set.
type fullPlan struct {
	Stations int       `json:"stations"`
	Rates    []int     `json:"rates"`
	Seconds  float64   `json:"seconds"`
	Full     int       `json:"handshakes"`
	Idle     []int     `json:"idle"`
	Versions []string  `json:"versions"` // of TLS
	Record   int       `json:"record"`   // stations that send one large record
	Settle   float64   `json:"settle"`
	Storm    int       `json:"storm"`
	Cost     costSizes `json:"cost"`
}

// largeRecord is the message after which memory is looked at again.
const largeRecord = 12_000

func newFullPlan() fullPlan {
	return fullPlan{
		Stations: 500, Rates: []int{500, 5000}, Seconds: 4, Full: 500, Idle: []int{5000, 9000}, Versions: []string{"1.2", "1.3"},
		Record: 5000, Settle: 60, Storm: 6000, Cost: newCostSizes(),
	}
}

// with measures these versions of TLS.
func (f fullPlan) with(versions []string) fullPlan {
	f.Versions = versions
	return f
}

// bounded leaves out fleets larger than this, for a small machine.
func (f fullPlan) bounded(stations int) fullPlan {
	smaller := func(list []int) []int {
		return slices.DeleteFunc(slices.Clone(list), func(n int) bool { return n > stations })
	}
	f.Stations, f.Full, f.Record, f.Storm = min(f.Stations, stations), min(f.Full, stations), min(f.Record, stations), min(f.Storm, stations)
	f.Idle, f.Cost.Stations = append(smaller(f.Idle), stations), append(smaller(f.Cost.Stations), stations)
	for _, list := range []*[]int{&f.Idle, &f.Cost.Stations} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return f
}

// most is how many stations the parts need.
func (f fullPlan) most(parts []string) int {
	need := map[string]int{
		"traffic": f.Stations, "handshakes": f.Full, "idle": slices.Max(f.Idle), "record": f.Record, "storm": f.Storm, "cost": slices.Max(f.Cost.Stations),
	}
	n := 0
	for _, part := range parts {
		n = max(n, need[part])
	}
	return n
}

func measureFull(ctx context.Context, p plan, f fullPlan, parts []string, out string, stdout io.Writer) error {
	for _, part := range parts {
		if !slices.Contains(fullParts, part) {
			return fmt.Errorf("no such part: %q; there are %s", part, strings.Join(fullParts, ", "))
		}
	}
	dir, err := os.MkdirTemp("", "bollard-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p.Stations, p.Idle, p.Enrol, p.Parallel, p.EnrolAhead = f.most(parts), []int{1}, 1000, 16, 32
	b := &bench{plan: p, dir: dir, out: stdout, silent: true}
	defer b.end()
	err = b.prepare(ctx)
	if err != nil {
		return err
	}
	if slices.Contains(parts, "traffic") || slices.Contains(parts, "handshakes") {
		b.proxies = append(b.proxies, direct{b.files}) // what is added is what it hasn't, and how much crypto/tls takes by itself
	}
	for _, part := range parts {
		switch part {
		case "traffic":
			err = b.messages(ctx, f)
		case "handshakes":
			err = b.handshakes(ctx, f)
		default:
			err = b.part(ctx, f, part)
		}
		if err != nil {
			return err
		}
	}
	err = b.backend.ask("", &b.stats)
	if err == nil && b.stats.Wrong != "" {
		err = fmt.Errorf("the back end got wrong bytes: %s", b.stats.Wrong)
	}
	versions, e := b.versions(ctx)
	return errors.Join(err, e, writeReport(stdout, out, "full-"+strings.Join(parts, "-"), map[string]any{
		"plan": f, "versions": versions, "samples": b.samples, "backend": b.stats,
	}))
}

func (b *bench) versions(ctx context.Context) (map[string]string, error) {
	versions := map[string]string{}
	var errs error
	for _, p := range b.proxies {
		v, err := p.version(ctx)
		errs = errors.Join(errs, err)
		versions[p.name()] = v
	}
	return versions, errs
}

// part measures one part for every proxy, in turning order.
func (b *bench) part(ctx context.Context, f fullPlan, name string) error {
	for round := 1; round <= b.plan.Rounds; round++ {
		for i := range b.proxies {
			p := b.proxies[(i+round-1)%len(b.proxies)]
			if p.name() == directName || p.name() != "bollard" && name == "cost" {
				continue
			}
			run := run{b, f, p, round}
			err := map[string]func(context.Context) error{
				"idle": run.idle, "record": run.record, "storm": run.storm, "cost": run.cost,
			}[name](ctx)
			_, closing := b.gen.order(order{Do: "close"})
			if ctx.Err() != nil || closing != nil {
				return errors.Join(err, closing, context.Cause(ctx))
			}
			if err != nil {
				b.add(sample{Round: round, Proxy: p.name(), Measure: name, Invalid: err.Error()})
			}
		}
	}
	return nil
}

// run is one proxy in one round.
type run struct {
	b     *bench
	f     fullPlan
	p     proxy
	round int
}

// fullest is the share of a core above which the generator, and not a server,
// may be what is measured.
const fullest = 0.8

func tooFull(share float64) string {
	return fmt.Sprintf("the generator took %.0f %% of its core", 100*share)
}

func (r run) add(res outcome, value float64, name string, args ...any) {
	s := sample{Round: r.round, Proxy: r.p.name(), Measure: fmt.Sprintf(name, args...), Value: value, GeneratorCPU: res.CPU, Late: res.Late, Extra: res.Extra}
	if res.P99 > 0 && res.CPU > fullest {
		s.Invalid = tooFull(res.CPU)
	}
	r.b.add(s)
}

func (r run) started(ctx context.Context, do func(*running) error) error {
	up, err := start(ctx, r.p, r.b.address)
	if err != nil {
		return err
	}
	defer up.stop()
	return do(up)
}

// orders carries out one after the other and returns the last outcome with the
// proxy's CPU time of that one.
func (r run) orders(up *running, list ...order) (outcome, time.Duration, error) {
	return r.b.orders(r.b.gen, up, list...)
}

// orders is run's, by any generator.
func (b *bench) orders(gen *child, up *running, list ...order) (res outcome, cpu time.Duration, err error) {
	for _, o := range list {
		if o.Do == "connect" || o.Do == "shake" {
			o.Address = up.listen
		}
		o.Parallel = max(o.Parallel, b.plan.Parallel)
		res, cpu, err = watch(gen, up, o)
		if err != nil {
			return res, cpu, err
		}
	}
	return res, cpu, nil
}

// idle: growth since before the first station, each woken once, after a pause.
func (r run) idle(ctx context.Context) error {
	return r.memory(ctx, r.f.Idle, order{Do: "check"}, idleStation)
}

func (r run) record(ctx context.Context) error {
	return r.memory(ctx, []int{r.f.Record}, order{Do: "check", mix: mix{Bytes: largeRecord}}, afterRecord)
}

func (r run) memory(ctx context.Context, counts []int, wake order, name string) error {
	for _, version := range r.f.Versions {
		err := r.started(ctx, func(up *running) error {
			err := settled(ctx, startSettle)
			if err != nil {
				return err
			}
			empty, err := resident(up.pid())
			if err != nil {
				return err
			}
			connected := 0
			for _, n := range counts {
				res, _, err := r.orders(up, order{Do: "connect", From: connected, Count: n - connected, manner: manner{TLS: version}}, wake)
				if err != nil {
					return err
				}
				connected = n
				_, _, err = r.orders(up, order{Do: "idle", Seconds: r.f.Settle})
				if err != nil {
					return err
				}
				full, err := resident(up.pid())
				if err != nil {
					return err
				}
				// Idle stations must be alive, or their memory says nothing.
				_, _, err = r.orders(up, order{Do: "check"})
				if err != nil {
					return fmt.Errorf("idle stations: %w", err)
				}
				r.add(res, float64(full-empty)/float64(n), name, n, version)
			}
			return nil
		})
		_, closing := r.b.gen.order(order{Do: "close"})
		if err != nil || closing != nil {
			return errors.Join(err, closing)
		}
	}
	return nil
}

// startSettle is how long a server has after its start to give back what that
// took, which would be taken off the stations' memory otherwise.
const startSettle = 10 * time.Second

func settled(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// resident is resident memory and, of the whole machine, what the kernel keeps in
// TCP buffers, in KB.
func resident(pid int) (int, error) {
	resident, err := residentKB(pid)
	if err != nil {
		return 0, err
	}
	raw, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		var use, orphan, waiting, alloc, pages int
		_, err = fmt.Sscanf(line, "TCP: inuse %d orphan %d tw %d alloc %d mem %d", &use, &orphan, &waiting, &alloc, &pages)
		if err == nil {
			return resident + pages*os.Getpagesize()/1024, nil
		}
	}
	return 0, errors.New("no TCP line in /proc/net/sockstat")
}

// storm: the proxy dies, and every station wants back in; then once more, with the
// TLS sessions of the last visit.
func (r run) storm(ctx context.Context) error {
	_, err := r.comeBack(ctx, manner{})
	if err != nil {
		return err
	}
	for _, one := range []struct {
		manner
		wall, cpu string
	}{
		{manner{}, stormWall, stormCPU},
		{manner{Resume: true}, stormResumedWall, stormResumedCPU},
	} {
		b, err := r.comeBack(ctx, one.manner)
		if err != nil {
			return err
		}
		r.add(b.res, b.wall.Seconds(), one.wall, r.f.Storm)
		r.add(b.res, b.cpu.Seconds(), one.cpu, r.f.Storm)
	}
	return nil
}

// back is what it took from a proxy's start until all stations were answered.
type back struct {
	res       outcome
	wall, cpu time.Duration
}

// comeBack starts the proxy, waits until all stations are back, and kills it.
func (r run) comeBack(ctx context.Context, m manner) (back, error) {
	var b back
	began := time.Now()
	err := r.started(ctx, func(up *running) error {
		var err error
		b.res, _, err = r.orders(up, order{Do: "connect", Count: r.f.Storm, Parallel: 64, manner: m}, order{Do: "check", Parallel: 64})
		if err != nil {
			return err
		}
		b.wall = time.Since(began)
		b.cpu, err = cpuTime(up.pid())
		return errors.Join(err, up.cmd.Process.Kill())
	})
	_, closing := r.b.gen.order(order{Do: "close"}) // the dead stations' close isn't the next start's time
	return b, errors.Join(err, closing)
}

// directName is the back end with TLS and no proxy in front.
const directName = "no proxy"

// resultFiles are the reports of a directory, oldest first.
func resultFiles(dir string) ([]string, error) {
	list, err := filepath.Glob(filepath.Join(dir, "*.json"))
	slices.Sort(list)
	return list, err
}
