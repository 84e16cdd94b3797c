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

// caPlan is the size of everything in the CA set.
type caPlan struct {
	Rounds      int      `json:"rounds"`
	Bollard     string   `json:"-"`
	Tools       string   `json:"-"`
	Issue       int      `json:"issue"`       // certificates a round and program
	Warm        int      `json:"warm"`        // before them, unmeasured
	Clients     int      `json:"clients"`     // that ask at once
	Answers     int      `json:"answers"`     // different OCSP answers
	Connections int      `json:"connections"` // for OCSP
	Seconds     float64  `json:"seconds"`     // of OCSP a round and program
	Sizes       []int    `json:"sizes"`       // of the database
	Parts       []string `json:"parts"`
}

// caParts are what the CA set is made of; OCSP needs certificates issued.
var caParts = []string{"issuance", "ocsp", "database"}

func newCAPlan(full bool) caPlan {
	p := caPlan{
		Parts: caParts, Rounds: 3, Tools: ".tools", Issue: 1000, Warm: 64, Clients: 32, Answers: 256, Connections: 64, Seconds: 3,
		Sizes: []int{1_000, 10_000, 100_000},
	}
	if full {
		p.Sizes = append(p.Sizes, 1_000_000)
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
		err = b.rounds(ctx)
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
	b.applicants, err = newApplicants(b.plan.Rounds * b.perRound())
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

func (b *caBench) perRound() int { return b.plan.Issue + b.plan.Warm }

// rounds measures each program once a round, in turning order. What went wrong
// in a round is reported and doesn't count.
func (b *caBench) rounds(ctx context.Context) error {
	for round := 1; round <= b.plan.Rounds; round++ {
		list := b.applicants[(round-1)*b.perRound() : round*b.perRound()]
		for i := range b.issuers {
			by := b.issuers[(i+round-1)%len(b.issuers)]
			if !b.does("issuance") && by != issuer(b.bollard) {
				continue // only certificates to ask about are wanted
			}
			err := b.issuance(ctx, by, round, list)
			if err != nil {
				b.add(sample{Round: round, Proxy: by.name(), Measure: estIssuance, Invalid: err.Error()})
			}
		}
		cpu, err := createOnly(b.own, list)
		if err != nil {
			return err
		}
		b.add(sample{Round: round, Proxy: "CreateCertificate", Measure: estIssuance, Value: float64(len(list)) / cpu.Seconds()})
		if b.does("ocsp") {
			err = b.ocsp(ctx, round)
			if err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

func (b *caBench) issuance(ctx context.Context, by issuer, round int, list []applicant) error {
	r, err := start(ctx, by, "")
	if err != nil {
		return err
	}
	defer r.stop()
	if by == issuer(b.bollard) && b.bollard.issuing == nil {
		err = b.bollard.learn(ctx, r)
		if err != nil {
			return err
		}
	}
	res, err := issue(ctx, by, r, list, b.plan.Warm, b.plan.Clients)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, r.stderr)
	}
	if by == issuer(b.bollard) {
		b.onRecord = res.certificates
	}
	n := float64(b.plan.Issue)
	b.add(sample{Round: round, Proxy: by.name(), Measure: estIssuance, Value: n / res.cpu.Seconds(), GeneratorCPU: res.share})
	b.add(sample{Round: round, Proxy: by.name(), Measure: estIssuanceWall, Value: n / res.took.Seconds(), GeneratorCPU: res.share})
	return nil
}

// ocsp lets Bollard and nginx serve the same answers. nginx gets those of the
// first round as files.
func (b *caBench) ocsp(ctx context.Context, round int) error {
	if len(b.onRecord) == 0 {
		return errors.New("no certificates to ask about: every issuance failed")
	}
	parts := []struct {
		name    string
		measure func(context.Context, int) error
	}{{"bollard", b.ocspBollard}, {"nginx", b.ocspNginx}}
	for i := range parts {
		part := parts[(i+round-1)%2]
		err := part.measure(ctx, round)
		if err != nil {
			b.add(sample{Round: round, Proxy: part.name, Measure: ocspGet, Invalid: err.Error()})
		}
	}
	return nil
}

func (b *caBench) ocspBollard(ctx context.Context, round int) error {
	r, err := start(ctx, b.bollard, "")
	if err != nil {
		return err
	}
	defer r.stop()
	list, err := queries(ctx, b.bollard.status, b.onRecord[:min(b.plan.Answers, len(b.onRecord))], b.bollard.issuing[0])
	if err != nil {
		return fmt.Errorf("%w\n%s", err, r.stderr)
	}
	err = settle(ctx, r) // signing ahead is done
	if err != nil {
		return err
	}
	if b.web == nil {
		b.web, err = newNginxOCSP(b.public, list)
		if err != nil {
			return err
		}
	}
	return b.flood(ctx, b.bollard.name(), round, r, b.bollard.status, list)
}

func (b *caBench) ocspNginx(ctx context.Context, round int) error {
	if b.web == nil {
		return errors.New("no answers to serve: Bollard gave none")
	}
	r, err := start(ctx, b.web, "")
	if err != nil {
		return err
	}
	defer r.stop()
	return b.flood(ctx, b.web.name(), round, r, r.listen, b.web.list)
}

func (b *caBench) flood(ctx context.Context, name string, round int, r *running, address string, list []query) error {
	l, err := newLoad(ctx, address, list, b.plan.Connections)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, r.stderr)
	}
	defer l.close()
	_, err = l.run(ctx, 300*time.Millisecond) // warm
	if err != nil {
		return err
	}
	before, err := cpuTime(r.pid())
	if err != nil {
		return err
	}
	began, own := time.Now(), ownCPU()
	count, err := l.run(ctx, time.Duration(b.plan.Seconds*float64(time.Second)))
	if err != nil {
		return err
	}
	took, spent := time.Since(began), ownCPU()-own
	after, err := cpuTime(r.pid())
	if err != nil {
		return err
	}
	share := spent.Seconds() / took.Seconds()
	b.add(sample{Round: round, Proxy: name, Measure: ocspGet, Value: float64(count) / (after - before).Seconds(), GeneratorCPU: share})
	b.add(sample{Round: round, Proxy: name, Measure: ocspGetWall, Value: float64(count) / took.Seconds(), GeneratorCPU: share})
	return nil
}

func (b *caBench) add(s sample) {
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
	fmt.Fprintf(b.out, "%s, %s; medians of %d rounds, ratios of bollard to the peer\n\n", cpuModel(), loadAverage(), b.plan.Rounds)
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
	fmt.Fprintf(out, "%-38s%-20s%12s%12s\n", "", "", "median", "bollard /")
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
			fmt.Fprintf(out, "%-38s%-20s%12.0f%s\n", s.Measure, name, v, ratio)
		}
	}
}
