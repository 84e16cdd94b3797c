package campaign_test

import (
	"container/heap"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/approval"
	"bollard/firmware/campaign"
	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/fleet"
	"bollard/internal/rollout"
	"bollard/internal/window"
	"bollard/ledger"
	"bollard/ocpp"
	"bollard/store"
)

var start = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// world is a fleet in memory on a clock of its own, before the real gate, catalogue,
// depot and database: frames are encoded and decoded as on a socket, only what carries
// them isn't one.
type world struct {
	t       testing.TB
	store   *kept
	depot   *depot.Depot
	stock   *catalogue.Catalogue
	gate    *gate.Gate
	rollout *campaign.Service
	windows map[string]window.Windows        // by site
	granted func(action, scope string) error // what approvals say; nil: all is approved
	halted  []string
	alarmed []string
	changes int  // how often it was told that messages are, or aren't, read
	behind  bool // its clock
	root    *ecdsa.PrivateKey
	signer  *x509.Certificate

	mu       sync.Mutex
	now      time.Time
	queue    events
	order    int
	stations map[string]*mobile
	list     []campaign.Station
	served   map[int64]bool // jobs that were given the whole image
	sent     map[string][]sentRequest
	atWork   map[string]int // of each site
	most     map[string]int // at work at once, of each site
	crowded  string         // a site with two at work
	diary    func(key string, r *ocpp.UpdateFirmwareRequest)
}

// kept is the database, which is asked for no approvals: they are the world's.
type kept struct {
	*store.Store
	added   func()                 // an update is there, and isn't sent yet
	refuses func(j *job.Job) error // to write an update
	full    func() error           // no step of a rollout can be written
	used    int                    // approvals
}

func (k *kept) AddJob(ctx context.Context, j job.Job, events ...ledger.Event) (job.Job, error) {
	j, err := k.Store.AddJob(ctx, j, events...)
	if k.added != nil {
		k.added()
	}
	return j, err
}

func (k *kept) UpdateJob(ctx context.Context, id string, change func(*job.Job) ([]ledger.Event, error)) (job.Job, error) {
	return k.Store.UpdateJob(ctx, id, func(j *job.Job) ([]ledger.Event, error) {
		events, err := change(j)
		if err == nil && k.refuses != nil {
			err = k.refuses(j)
		}
		return events, err
	})
}

func (k *kept) PutReleaseRollouts(ctx context.Context, steps []rollout.Step, id string, move func(*catalogue.Entry) ([]ledger.Event, error), events ...ledger.Event) error {
	var real []ledger.Event
	for _, e := range events {
		if e.Kind != approval.KindUsed {
			real = append(real, e)
		}
	}
	if k.full != nil {
		if err := k.full(); err != nil {
			return err
		}
	}
	err := k.Store.PutReleaseRollouts(ctx, steps, id, move, real...)
	if err == nil {
		k.used += len(events) - len(real)
	}
	return err
}

// events by time, then as they were queued.
type events []queued

type queued struct {
	at      time.Time
	order   int
	station string
	do      func()
}

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(queued)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}

func (w *world) after(m *mobile, at time.Time, do func()) {
	w.order++
	heap.Push(&w.queue, queued{at, w.order, m.st.Key, do})
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// at sets the clock.
func (w *world) at(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = now
}

// run lets time pass until something is so, at most for a while; what ends an update
// is looked at at once, as by a server.
func (w *world) run(what string, most time.Duration, until func() bool) {
	w.t.Helper()
	for end := w.clock().Add(most); !until(); {
		if w.clock().After(end) {
			p := w.progress("2.0.0")
			w.t.Fatalf("%s: not within %s: %+v, %v", what, most, p.Header, p.Count)
		}
		w.step(w.stride())
	}
}

// stride is as long as nothing happens, within limits.
func (w *world) stride() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return 5 * time.Minute
	}
	return min(max(w.queue[0].at.Sub(w.now), 5*time.Second), 5*time.Minute)
}

func (w *world) step(d time.Duration) {
	w.t.Helper()
	w.mu.Lock()
	w.now = w.now.Add(d)
	due := map[string][]func(){} // a station does one after the other
	for len(w.queue) > 0 && !w.queue[0].at.After(w.now) {
		next := heap.Pop(&w.queue).(queued)
		due[next.station] = append(due[next.station], next.do)
	}
	w.mu.Unlock()
	var done sync.WaitGroup
	slots := make(chan struct{}, 64)
	for _, list := range due {
		slots <- struct{}{}
		done.Go(func() {
			defer func() { <-slots }()
			for _, do := range list {
				do()
			}
		})
	}
	done.Wait()
	if err := w.gate.Look(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if err := w.rollout.Look(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// Stations, Station and Session make it a campaign.Fleet.
func (w *world) Stations(context.Context) ([]campaign.Station, error) {
	var list []campaign.Station
	for _, st := range w.list {
		list = append(list, w.stations[st.Key].st)
	}
	return list, nil
}

func (w *world) Station(_ context.Context, key string) (campaign.Station, bool, error) {
	m := w.stations[key]
	if m == nil {
		return campaign.Station{}, false, nil
	}
	return m.st, true, nil
}

func (w *world) Session(key string) (gate.Session, bool) {
	m := w.stations[key]
	return m, m != nil && !m.away
}

// URL, Digest, Served and Forget make it a gate.Door.
func (w *world) URL(g depot.Grant, name string) (string, error) {
	return fmt.Sprintf("https://fw.example/d/%s/%d/%s", g.SHA256, g.Job, name), nil
}

func (w *world) Digest(location string) (string, bool) {
	rest, ok := strings.CutPrefix(location, "https://fw.example/d/")
	digest, _, _ := strings.Cut(rest, "/")
	return digest, ok
}

func (w *world) Served(number int64) depot.Served {
	w.mu.Lock()
	defer w.mu.Unlock()
	return depot.Served{Whole: w.served[number]}
}

func (w *world) Forget(int64) {}

// newWorld has n stations, five of a site, of two models.
func newWorld(t testing.TB, n int, change func(i int, m *mobile)) *world {
	t.Helper()
	return newWorldIn(t, t.TempDir(), n, change)
}

// newWorldIn is the same in a directory that may have one already.
func newWorldIn(t testing.TB, dir string, n int, change func(i int, m *mobile)) *world {
	t.Helper()
	w := &world{t: t, now: start, stations: map[string]*mobile{}, windows: map[string]window.Windows{}, served: map[int64]bool{}, sent: map[string][]sentRequest{}, atWork: map[string]int{}, most: map[string]int{}}
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "bollard.db"), Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w.store = &kept{Store: db}
	if w.depot, err = depot.Open(depot.Config{Dir: filepath.Join(dir, "firmware")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.depot.Close() })
	if w.stock, err = catalogue.New(catalogue.Config{Store: db, Depot: w.depot, Clock: w.clock,
		Trust: func(context.Context, *x509.Certificate, []*x509.Certificate) (catalogue.Anchor, error) {
			return catalogue.Anchor{Own: true}, nil
		},
		Approved: func(_ context.Context, action, scope, _ string) (approval.Grant, error) {
			if w.granted != nil {
				return approval.Grant{}, w.granted(action, scope)
			}
			return approval.Grant{}, nil
		}}); err != nil {
		t.Fatal(err)
	}
	var records []fleet.Station
	for i := range n {
		m := &mobile{w: w, version: []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21}[i%3], st: campaign.Station{
			Station: gate.Station{Key: fmt.Sprintf("cs-%05d", i), Vendor: "ACME", Model: []string{"Volt", "Watt"}[i%2], Firmware: "1.0.0"}, Site: fmt.Sprintf("site%d", i/5)}}
		if change != nil {
			change(i, m)
		}
		w.stations[m.st.Key] = m
		w.list = append(w.list, m.st)
		records = append(records, fleet.Station{Identity: m.st.Key, Serial: m.st.Key, WantedProfile: 2, FloorProfile: 2, CreatedAt: start})
	}
	known, err := db.Stations(t.Context())
	if err == nil && len(known) == 0 {
		err = db.AddStations(t.Context(), records)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.open()
	return w
}

// open starts what a server starts; what was there before is as if it had been killed.
func (w *world) open() {
	w.t.Helper()
	var err error
	if w.gate, err = gate.New(w.t.Context(), gate.Config{
		Store: w.store, Catalogue: w.stock, Depot: w.depot, Door: w, Rule: func(gate.Station) gate.Rule { return gate.Rule{Level: gate.Enforce} },
		Turn: func(release, station string) gate.Block { return w.rollout.Turn(release, station) },
		Over: func(j job.Job) { w.rollout.Over(j) },
		Alarm: func(_ context.Context, station string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.alarmed = append(w.alarmed, station)
			return nil
		},
		Record: func(ctx context.Context, e ledger.Event) error { return w.store.Record(ctx, e) }, Clock: w.clock,
	}); err != nil {
		w.t.Fatal(err)
	}
	if w.rollout, err = campaign.New(w.t.Context(), campaign.Config{
		Store: w.store, Releases: w.stock, Gate: w.gate, Fleet: w, Windows: func(st campaign.Station) window.Windows { return w.windows[st.Site] },
		Halted: func(_ context.Context, station string) error { w.halted = append(w.halted, station); return nil }, Clock: w.clock,
		Changed: func() { w.changes++ },
		CheckClock: func(context.Context) error {
			if w.behind {
				return errors.New("behind")
			}
			return nil
		},
	}); err != nil {
		w.t.Fatal(err)
	}
}

// publish puts a published release into the catalogue.
func (w *world) publish(version string, sequence uint64) *release.Release {
	w.t.Helper()
	if w.root == nil {
		var err error
		if w.root, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			w.t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"ACME"}, CommonName: "ACME 1"}, NotBefore: start.Add(-time.Hour), NotAfter: start.AddDate(3, 0, 0),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &w.root.PublicKey, w.root)
		if err != nil {
			w.t.Fatal(err)
		}
		if w.signer, err = x509.ParseCertificate(der); err != nil {
			w.t.Fatal(err)
		}
	}
	text := "firmware " + version
	sum := sha256.Sum256([]byte(text))
	signature, err := ecdsa.SignASN1(rand.Reader, w.root, sum[:])
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.depot.Add(w.t.Context(), depot.Image{}, func(to io.Writer) error { _, err := io.WriteString(to, text); return err }); err != nil {
		w.t.Fatal(err)
	}
	r := &release.Release{ID: release.NewID(start, [10]byte{byte(sequence)}), Vendor: "ACME", Models: []release.Model{{Vendor: "ACME", Model: "Volt"}, {Vendor: "ACME", Model: "Watt"}},
		Component: "firmware", Version: version, Sequence: sequence, SecurityEpoch: 1, File: "x.bin", Size: uint64(len(text)), SHA256: hex.EncodeToString(sum[:]),
		Signatures: []release.Signature{{Dialect: release.ECDSAP256, Cert: release.Fingerprint(w.signer), Value: base64.StdEncoding.EncodeToString(signature)}},
		NotBefore:  start.Add(-time.Hour), Expires: start.AddDate(1, 0, 0), Log: release.NoLog}
	canonical, err := r.Canonical()
	if err != nil {
		w.t.Fatal(err)
	}
	envelope, err := release.Seal(w.t.Context(), release.PayloadType, canonical, w.signer, w.root, rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	digest, err := r.Digest()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.store.AddRelease(w.t.Context(), catalogue.Entry{Release: r, Digest: digest, Envelope: envelope, Certificate: w.signer.Raw, State: catalogue.Published, AddedAt: start, PublishedAt: start}, nil); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) progress(version string) campaign.Progress {
	w.t.Helper()
	p, err := w.rollout.Rollout(w.t.Context(), version)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// plan is a rollout without waiting, but for what a test changes.
func plan(change func(p *campaign.Plan)) campaign.Plan {
	p := campaign.Plan{Release: "2.0.0", Rings: campaign.Rings(), Lab: "lab", Rules: rollout.Rules{Patience: 24 * time.Hour, PerMinute: 6000, PerSite: 1, FailLimit: 0.1, Soak: time.Hour}}
	if change != nil {
		change(&p)
	}
	return p
}

func (w *world) begin(p campaign.Plan) campaign.Progress {
	w.t.Helper()
	out, err := w.rollout.Start(w.t.Context(), "operator", p)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) over() bool { return w.progress("2.0.0").Header.Phase.Over() }
