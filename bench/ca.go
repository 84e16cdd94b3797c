package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Names of the measures of the CA set.
const (
	estIssuance     = "issuances over HTTPS per CPU-s"
	estIssuanceWall = "issuances over HTTPS per second"
	ocspGet         = "pre-signed OCSP GETs per CPU-s"
	ocspGetWall     = "pre-signed OCSP GETs per second"
)

// manyOnRecord is how many certificates are on record, at least, when OCSP is measured once more:
// those of a fleet of thousands, with their predecessors.
const manyOnRecord = 12_000

// whenMany is what a measure of OCSP is called then.
func whenMany(measure string) string {
	return fmt.Sprintf("%s, ≥ %d certificates on record", measure, manyOnRecord)
}

// caPlan is the size of everything in the CA set.
type caPlan struct {
	Rounds      int      `json:"rounds"`
	Bollard     string   `json:"-"`
	Tools       string   `json:"-"`
	Issue       int      `json:"issue"`        // certificates a turn and program
	Warm        int      `json:"warm"`         // before all turns, unmeasured
	Clients     int      `json:"clients"`      // that ask at once
	Answers     int      `json:"answers"`      // different OCSP answers
	Many        int      `json:"many"`         // certificates on record, at least, when OCSP is measured once more; 0: it isn't
	ManyAnswers int      `json:"many_answers"` // different OCSP answers then
	Connections int      `json:"connections"`  // for OCSP
	Seconds     float64  `json:"seconds"`      // of OCSP a turn and program
	Sizes       []int    `json:"sizes"`        // of the database
	Parts       []string `json:"parts"`
}

// caParts are what the CA set is made of; OCSP needs certificates issued.
var caParts = []string{"issuance", "ocsp", "database"}

func newCAPlan(full bool) caPlan {
	p := caPlan{
		Parts: caParts, Rounds: 3, Tools: ".tools", Issue: 500, Warm: 256, Clients: 32, Answers: 256, ManyAnswers: 4_000, Connections: 64, Seconds: turn,
		Sizes: []int{1_000, 10_000},
	}
	if full {
		p.Many, p.Sizes = manyOnRecord, append(p.Sizes, 100_000, 1_000_000)
	}
	return p
}

// caBench is one run of the CA set.
type caBench struct {
	plan       caPlan
	dir        string // private
	public     string // what nginx's worker may read
	own        *authority
	bollard    *bollardCA
	issuers    []issuer
	applicants []applicant
	onRecord   []*x509.Certificate // issued by Bollard
	web        *nginxOCSP
	samples    []sample
	out        io.Writer
}

func measureCA(ctx context.Context, p caPlan, results string, stdout io.Writer) error {
	for _, part := range p.Parts {
		if !slices.Contains(caParts, part) {
			return fmt.Errorf("no such part: %q; there are %s", part, strings.Join(caParts, ", "))
		}
	}
	dir, err := os.MkdirTemp("", "bollard-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	err = onDisk(dir)
	if err != nil {
		return err
	}
	b := &caBench{plan: p, dir: dir, out: stdout}
	b.public, err = os.MkdirTemp("", "bollard-ocsp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.public)
	err = os.Chmod(b.public, 0o755)
	if err != nil {
		return err
	}
	if b.does("issuance") || b.does("ocsp") {
		err = b.prepare(ctx)
		if err != nil {
			return err
		}
		err = b.contest(ctx)
		if err != nil {
			return err
		}
	}
	var sizes []size
	if b.does("database") {
		sizes, err = growth(ctx, dir, p.Sizes, stdout)
	}
	if ctx.Err() != nil {
		return errors.Join(err, context.Cause(ctx)) // half a report would be taken for one
	}
	return errors.Join(b.report(ctx, results, sizes), err)
}

func (b *caBench) does(part string) bool { return slices.Contains(b.plan.Parts, part) }

// onDisk refuses a directory in memory: durable is what survives power loss.
func onDisk(dir string) error {
	var fs unix.Statfs_t
	err := unix.Statfs(dir, &fs)
	if err != nil {
		return fmt.Errorf("couldn't look at the file system of %s: %w", dir, err)
	}
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return fmt.Errorf("%s is in memory, where nothing is durable: set TMPDIR to a directory on a disk", dir)
	}
	return nil
}

func (b *caBench) prepare(ctx context.Context) error {
	step, err := installStepCA(ctx, b.plan.Tools)
	if err != nil {
		return err
	}
	b.own, err = newAuthority()
	if err != nil {
		return err
	}
	b.applicants, err = newApplicants(b.plan.needed())
	if err != nil {
		return err
	}
	b.bollard, err = newBollardCA(ctx, b.plan.Bollard, b.dir)
	if err != nil {
		return err
	}
	err = b.bollard.enrolAll(ctx, b.applicants)
	if err != nil {
		return err
	}
	b.issuers = []issuer{b.bollard}
	for _, database := range []bool{true, false} {
		s, err := newStepCA(step, filepath.Join(b.dir, fmt.Sprintf("step-ca-%t", database)), database, b.own)
		if err != nil {
			return err
		}
		b.issuers = append(b.issuers, s)
	}
	return nil
}

// turns of each program, half as many as of messages, for the quick set's time. The
// machine changes its speed from one second to the next: all programs are up
// meanwhile, and what is side by side is compared.
func (p caPlan) turns() int { return p.Rounds * turnsPerRound / 2 }

// asked is how many certificates are asked for in warming up and in turns.
func (p caPlan) asked() int {
	if !slices.Contains(p.Parts, "issuance") {
		return p.Warm // only certificates to ask about are wanted
	}
	return p.Warm + p.turns()*p.Issue
}

// needed is how many applicants there are: none comes twice.
func (p caPlan) needed() int {
	if !slices.Contains(p.Parts, "ocsp") {
		return p.asked()
	}
	return max(p.asked(), p.Many)
}

// contest has all programs up at once. OCSP comes first, while few certificates are
// on record, and last, when many are.
func (b *caBench) contest(ctx context.Context) error {
	var all []*caller
	for _, by := range b.issuers {
		if !b.does("issuance") && by != issuer(b.bollard) {
			continue
		}
		c, err := call(ctx, by, b.plan.Clients)
		if err != nil {
			return err
		}
		defer c.end()
		all = append(all, c)
		err = b.warm(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", by.name(), err)
		}
	}
	if b.does("ocsp") {
		asIs := func(measure string) string { return measure }
		err := b.tried(ctx, asIs, b.ocsp(ctx, all[0].up, "few", b.plan.Answers, asIs))
		if err != nil {
			return err
		}
	}
	if b.does("issuance") {
		err := b.issuance(ctx, all)
		if err != nil {
			return err
		}
	}
	if b.does("ocsp") && b.plan.Many > 0 {
		return b.tried(ctx, whenMany, b.many(ctx, all[0]))
	}
	return nil
}

// tried reports what went wrong with OCSP: the rest can be measured all the same.
func (b *caBench) tried(ctx context.Context, name func(measure string) string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		b.add(sample{Round: 1, Proxy: b.bollard.name(), Measure: name(ocspGet), Invalid: err.Error()})
	}
	return nil
}

// many measures OCSP once more, with as many certificates on record as a fleet has. It is
// restarted before, as after an upgrade, and signs ahead for all of them.
func (b *caBench) many(ctx context.Context, c *caller) error {
	if rest := b.applicants[b.plan.asked():]; len(rest) > 0 {
		res, err := c.issue(ctx, rest)
		if err != nil {
			return err
		}
		b.onRecord = append(b.onRecord, res.certificates...)
	}
	c.up.stop()
	up, err := start(ctx, b.bollard, "")
	if err != nil {
		return err
	}
	c.up = up // whose end is the caller's
	return b.ocsp(ctx, up, "many", b.plan.ManyAnswers, whenMany)
}

// issuance measures the programs in turns, another one first each time. A turn in
// which something went wrong is reported and doesn't count.
func (b *caBench) issuance(ctx context.Context, all []*caller) error {
	for t := range b.plan.turns() {
		from := b.plan.Warm + t*b.plan.Issue
		list := b.applicants[from : from+b.plan.Issue]
		for i := range all {
			b.turn(ctx, all[(i+t)%len(all)], t+1, list)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		cpu, err := createOnly(b.own, list)
		if err != nil {
			return err
		}
		b.add(sample{Round: t + 1, Proxy: "CreateCertificate", Measure: estIssuance, Value: float64(len(list)) / cpu.Seconds()})
	}
	return nil
}

// warm opens the clients' connections.
func (b *caBench) warm(ctx context.Context, c *caller) error {
	if c.by == issuer(b.bollard) {
		err := b.bollard.learn(ctx, c.up)
		if err != nil {
			return err
		}
	}
	res, err := c.issue(ctx, b.applicants[:b.plan.Warm])
	if err == nil && c.by == issuer(b.bollard) {
		b.onRecord = res.certificates
	}
	return err
}

func (b *caBench) turn(ctx context.Context, c *caller, round int, list []applicant) {
	res, err := c.issue(ctx, list)
	if err != nil {
		b.add(sample{Round: round, Proxy: c.by.name(), Measure: estIssuance, Invalid: err.Error()})
		return
	}
	if c.by == issuer(b.bollard) {
		b.onRecord = append(b.onRecord, res.certificates...)
	}
	n := float64(len(list))
	b.add(sample{Round: round, Proxy: c.by.name(), Measure: estIssuance, Value: n / res.cpu.Seconds(), GeneratorCPU: res.share})
	b.add(sample{Round: round, Proxy: c.by.name(), Measure: estIssuanceWall, Value: n / res.took.Seconds(), GeneratorCPU: res.share})
}

// ocsp lets Bollard and nginx serve the same answers in turns, nginx as files
// below a directory of that name. They are about certificates from all over the record.
func (b *caBench) ocsp(ctx context.Context, own *running, directory string, answers int, name func(measure string) string) error {
	answers = min(answers, len(b.onRecord))
	about := make([]*x509.Certificate, answers)
	for i := range about {
		about[i] = b.onRecord[i*len(b.onRecord)/answers]
	}
	list, err := queries(ctx, b.bollard.status, about, b.bollard.issuing[0])
	if err != nil {
		return fmt.Errorf("%w\n%s", err, own.stderr)
	}
	err = settled(ctx, startSettle) // signing ahead begins some seconds after the start
	if err == nil {
		err = settle(ctx, own) // and is done
	}
	if err != nil {
		return err
	}
	b.web, err = newNginxOCSP(filepath.Join(b.public, directory), list)
	if err != nil {
		return err
	}
	web, err := start(ctx, b.web, "")
	if err != nil {
		return err
	}
	defer web.stop()
	servers := []struct {
		name, address string
		up            *running
	}{{b.bollard.name(), b.bollard.status, own}, {b.web.name(), web.listen, web}}
	for t := range b.plan.turns() {
		for i := range servers {
			s := servers[(i+t)%len(servers)]
			err := b.flood(ctx, s.name, t+1, s.up, s.address, list, name)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				b.add(sample{Round: t + 1, Proxy: s.name, Measure: name(ocspGet), Invalid: err.Error()})
			}
		}
	}
	return nil
}

func (b *caBench) flood(ctx context.Context, by string, round int, r *running, address string, list []query, name func(measure string) string) error {
	l, err := newLoad(ctx, address, list, b.plan.Connections)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, r.stderr)
	}
	defer l.close()
	var count int
	var cpu, took, spent time.Duration
	err = aside(func() error {
		_, err := l.run(ctx, 300*time.Millisecond) // warm
		if err != nil {
			return err
		}
		before, err := cpuTime(r.pid())
		if err != nil {
			return err
		}
		began, own := time.Now(), ownCPU()
		count, err = l.run(ctx, time.Duration(b.plan.Seconds*float64(time.Second)))
		if err != nil {
			return err
		}
		took, spent = time.Since(began), ownCPU()-own
		after, err := cpuTime(r.pid())
		cpu = after - before
		return err
	})
	if err != nil {
		return err
	}
	share := spent.Seconds() / took.Seconds()
	b.add(sample{Round: round, Proxy: by, Measure: name(ocspGet), Value: float64(count) / cpu.Seconds(), GeneratorCPU: share})
	b.add(sample{Round: round, Proxy: by, Measure: name(ocspGetWall), Value: float64(count) / took.Seconds(), GeneratorCPU: share})
	return nil
}

func (b *caBench) add(s sample) {
	if s.GeneratorCPU > fullest {
		s.Invalid = tooFull(s.GeneratorCPU)
	}
	b.samples = append(b.samples, s)
	printSample(b.out, s)
}

// report writes the tables and the JSON.
func (b *caBench) report(ctx context.Context, dir string, sizes []size) error {
	summaries, err := summarise(b.samples)
	versions := map[string]string{}
	var named []proxy
	for _, i := range b.issuers {
		named = append(named, i)
	}
	if b.web != nil {
		named = append(named, b.web)
	}
	fmt.Fprintln(b.out)
	for _, p := range named {
		v, e := p.version(ctx)
		err = errors.Join(err, e)
		versions[p.name()] = v
		fmt.Fprintf(b.out, "%-13s %s\n", p.name(), v)
	}
	fmt.Fprintf(b.out, "%s, %s; medians of %d turns, ratios of bollard to the peer\n\n", cpuModel(), loadAverage(), b.plan.turns())
	if len(summaries) > 0 {
		caTable(b.out, summaries)
		fmt.Fprintln(b.out)
	}
	growthTable(b.out, sizes)
	return errors.Join(err, writeReport(b.out, dir, "ca", map[string]any{
		"plan": b.plan, "versions": versions, "summary": summaries, "samples": b.samples, "sizes": sizes,
	}))
}

// caTable writes a line for each measure and program.
func caTable(out io.Writer, summaries []summary) {
	fmt.Fprintf(out, "%-62s%-20s%12s%12s\n", "", "", "median", "bollard /")
	for _, s := range summaries {
		for _, name := range []string{"bollard", "step-ca bbolt", "step-ca no DB", "CreateCertificate", "nginx"} {
			v, ok := s.Median[name]
			if !ok {
				continue
			}
			ratio := ""
			if r, ok := s.Ratio[name]; ok {
				ratio = fmt.Sprintf("%12.2f", r)
			}
			fmt.Fprintf(out, "%-62s%-20s%12.0f%s\n", s.Measure, name, v, ratio)
		}
	}
}
