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
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"path/filepath"
	"strconv"
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
	crowded  string         // a site with two at work
	diary    func(key string, r *ocpp.UpdateFirmwareRequest)
}

// kept is the database, which is asked for no approvals: they are the world's.
type kept struct {
	*store.Store
	added   func()                 // an update is there, and isn't sent yet
	refuses func(j *job.Job) error // to write an update
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

func (k *kept) PutReleaseRollout(ctx context.Context, r rollout.Record, changed []rollout.Member, id string, move func(*catalogue.Entry) ([]ledger.Event, error), events ...ledger.Event) error {
	var real []ledger.Event
	for _, e := range events {
		if e.Kind != approval.KindUsed {
			real = append(real, e)
		}
	}
	return k.Store.PutReleaseRollout(ctx, r, changed, id, move, real...)
}

// sentRequest is what a station was sent.
type sentRequest struct {
	at      time.Time
	request ocpp.UpdateFirmwareRequest
}

// temper is what a station does with an update.
type temper string

const (
	good     temper = ""
	forged   temper = "finds the signature wrong"
	cheats   temper = "installs without verifying"
	pretends temper = "says downloaded and isn't"
	broken   temper = "can't install"
	refuses  temper = "says no"
	silent   temper = "is never heard of again"
)

// mobile is a station.
type mobile struct {
	w       *world
	st      campaign.Station
	version ocpp.Version
	temper  temper
	heard   string // its last word before the server was killed
	away    bool
}

func (m *mobile) Version() ocpp.Version      { return m.version }
func (m *mobile) Backend() string            { return "backend" }
func (m *mobile) Go(f func(context.Context)) { f(context.Background()) }

// Call takes a CALL of Bollard's as the station reads it.
func (m *mobile) Call(_ context.Context, action string, payload any) (json.RawMessage, error) {
	frame, err := ocpp.AppendCall(nil, "bollard-1", action, payload)
	if err != nil {
		return nil, err
	}
	head, err := ocpp.ParseHead(frame)
	if err != nil {
		return nil, err
	}
	var request ocpp.UpdateFirmwareRequest
	if err := ocpp.DecodeStrict(head.Payload, &request); err != nil {
		return nil, err
	}
	w := m.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent[m.st.Key] = append(w.sent[m.st.Key], sentRequest{w.now, request})
	if w.diary != nil {
		w.diary(m.st.Key, &request)
	}
	if open, _ := w.store.OpenJobs(context.Background(), m.st.Key); len(open) != 1 || open[0].State != job.Sent {
		w.t.Errorf("%s is sent an update, and the database has %v", m.st.Key, open)
	}
	if m.temper == refuses {
		return json.RawMessage(`{"status":"Rejected"}`), nil
	}
	if w.atWork[m.st.Site]++; w.atWork[m.st.Site] > 1 && m.st.Site != "" {
		w.crowded = m.st.Site
	}
	begin, err := time.Parse(time.RFC3339, request.Firmware.RetrieveDateTime)
	if err != nil {
		return nil, err
	}
	w.play(m, &request, later(begin, w.now))
	return json.RawMessage(`{"status":"Accepted"}`), nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// play queues what the station will do.
func (w *world) play(m *mobile, request *ocpp.UpdateFirmwareRequest, at time.Time) {
	number, err := strconv.ParseInt(strings.Split(request.Firmware.Location, "/")[5], 10, 64)
	if err != nil {
		w.t.Errorf("location %q: %v", request.Firmware.Location, err)
	}
	heard := m.heard
	say := func(after time.Duration, status string) {
		at = at.Add(after)
		if heard != "" { // before the server was killed
			if status == heard {
				heard = ""
			}
			return
		}
		w.after(m, at, func() { w.says(m, *request.RequestID, status) })
	}
	say(time.Second, "Downloading")
	if m.temper != pretends {
		w.after(m, at.Add(30*time.Second), func() {
			w.mu.Lock()
			w.served[number] = true
			w.mu.Unlock()
		})
	}
	end := func(after time.Duration) {
		w.after(m, at.Add(after), func() {
			w.mu.Lock()
			w.atWork[m.st.Site]--
			w.mu.Unlock()
		})
	}
	if m.temper == silent {
		end(0)
		return
	}
	say(time.Minute, "Downloaded")
	if m.temper == pretends { // its update is over as soon as that is seen
		end(0)
		end = func(time.Duration) {}
	}
	if m.temper == forged {
		say(time.Second, "InvalidSignature")
		end(0)
		return
	}
	if m.temper != cheats {
		say(time.Second, "SignatureVerified")
	}
	if install, err := time.Parse(time.RFC3339, request.Firmware.InstallDateTime); err == nil {
		at = later(at, install)
	}
	say(time.Second, "Installing")
	if m.temper == cheats {
		end(0)
		end = func(time.Duration) {}
	}
	if m.temper == broken {
		say(time.Minute, "InstallationFailed")
		end(0)
		return
	}
	say(2*time.Minute, "InstallRebooting")
	at = at.Add(time.Minute)
	w.after(m, at, func() { w.boots(m, number) })
	end(0) // its boot is the end of its update
	say(time.Second, "Installed")
}

// says has a station send a status, as a frame.
func (w *world) says(m *mobile, request int, status string) {
	action := ocpp.ActionFirmwareStatus
	if m.version == ocpp.V16 {
		action = ocpp.ActionSignedFirmwareStatus
	}
	frame, err := ocpp.AppendCall(nil, "station-1", action, ocpp.FirmwareStatusRequest{Status: status, RequestID: &request})
	if err != nil {
		w.t.Error(err)
		return
	}
	head, err := ocpp.ParseHead(frame)
	if err != nil {
		w.t.Error(err)
		return
	}
	// What a back end asked for is answered by it.
	if v := w.gate.Report(context.Background(), m, m.st.Station, head.Action, head.Payload); (v.Answer != nil) != (request != asked) || v.Code != "" {
		w.t.Errorf("%s says %s, and is answered %+v", m.st.Key, status, v)
	}
}

// boots has a station start with the version of its update.
func (w *world) boots(m *mobile, number int64) {
	list, err := w.store.Jobs(context.Background(), m.st.Key, 100)
	if err != nil {
		w.t.Error(err)
		return
	}
	version := ""
	for _, j := range list {
		if j.Number == number {
			version = j.Version
		}
	}
	payload := fmt.Sprintf(`{"reason":"FirmwareUpdate","chargingStation":{"vendorName":%q,"model":%q,"firmwareVersion":%q}}`, m.st.Vendor, m.st.Model, version)
	if m.version == ocpp.V16 {
		payload = fmt.Sprintf(`{"chargePointVendor":%q,"chargePointModel":%q,"firmwareVersion":%q}`, m.st.Vendor, m.st.Model, version)
	}
	if v := w.gate.Boot(context.Background(), m, m.st.Station, []byte(payload)); v.Code != "" {
		w.t.Errorf("%s boots: %+v", m.st.Key, v)
	}
	m.st.Firmware = version
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
			w.t.Fatalf("%s: not within %s: %+v", what, most, w.progress("2.0.0"))
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
	w := &world{t: t, now: start, stations: map[string]*mobile{}, windows: map[string]window.Windows{}, served: map[int64]bool{}, sent: map[string][]sentRequest{}, atWork: map[string]int{}}
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

// asked is the requestId of back ends.
const asked = 7

// asks has a station's back end ask for a release, and returns the answer.
func (w *world) asks(key string, r *release.Release) string {
	w.t.Helper()
	m := w.stations[key]
	payload, err := json.Marshal(ocpp.UpdateFirmwareRequest{RequestID: new(asked), Firmware: &ocpp.Firmware{
		Location: "https://fw.example/d/" + r.SHA256 + "/x", RetrieveDateTime: "2026-01-01T00:00:00Z", SigningCertificate: "c", Signature: r.Signatures[0].Value}})
	if err != nil {
		w.t.Fatal(err)
	}
	action := ocpp.ActionUpdateFirmware
	if m.version == ocpp.V16 {
		action = ocpp.ActionSignedUpdateFirmware
	}
	v := w.gate.Request(w.t.Context(), m, m.st.Station, action, payload, false)
	if v.Later != nil {
		v = v.Later(w.t.Context())
	}
	text, err := json.Marshal(v.Answer)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text) + string(v.Code)
}
