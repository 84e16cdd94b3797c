package gate_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bollard/approval"
	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ledger"
	"bollard/ocpp"
)

// shelf is a store in memory: what it has returned is what a kill leaves.
type shelf struct {
	mu     sync.Mutex
	jobs   []job.Job
	floors map[string]job.Floor // by updates
	ran    map[string]job.Floor // by boots
	told   []string
	events int // recorded with changes
	jailed bool
	fell   bool
	two    bool
}

func (s *shelf) AddJob(_ context.Context, j job.Job, _ ...ledger.Event) (job.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.jobs {
		if o.Station == j.Station && o.State.Open() {
			return j, gate.ErrBusy
		}
	}
	j.Number = int64(len(s.jobs) + 1)
	s.jobs = append(s.jobs, j)
	return j, nil
}

func (s *shelf) UpdateJob(_ context.Context, id string, change func(*job.Job) ([]ledger.Event, error)) (job.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.jobs, func(j job.Job) bool { return j.ID == id })
	if i < 0 {
		return job.Job{}, gate.ErrUnknown
	}
	j := s.jobs[i]
	j.Steps = slices.Clone(j.Steps)
	if j.Visit != nil {
		j.Visit = new(*j.Visit)
	}
	events, err := change(&j)
	if err != nil {
		return job.Job{}, err
	}
	s.events += len(events)
	if j.State == job.Done && s.jobs[i].State != job.Done {
		before := s.floors[j.Component]
		s.floors[j.Component] = before.Raised(job.Floor{Sequence: j.Sequence, SecurityEpoch: j.SecurityEpoch})
		s.fell = s.fell || j.Sequence <= before.Sequence
	}
	s.jailed = s.jailed || j.State == job.Quarantined && s.jobs[i].State != job.Quarantined
	s.jobs[i] = j
	open := 0
	for _, o := range s.jobs {
		if o.State.Open() {
			open++
		}
	}
	s.two = s.two || open > 1
	return j, nil
}

// ReportJob keeps what the back end is told beside the update.
func (s *shelf) ReportJob(ctx context.Context, id string, c gate.Copy, change func(*job.Job) ([]ledger.Event, error)) (job.Job, error) {
	j, err := s.UpdateJob(ctx, id, change)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.told = append(s.told, string(c.Payload))
	}
	return j, err
}

func (s *shelf) list(keep func(*job.Job) bool) []job.Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []job.Job
	for i := len(s.jobs) - 1; i >= 0; i-- {
		if keep(&s.jobs[i]) {
			out = append(out, s.jobs[i])
		}
	}
	return out
}

func (s *shelf) OpenJobs(_ context.Context, station string) ([]job.Job, error) {
	return s.list(func(j *job.Job) bool { return j.State.Open() && (station == "" || j.Station == station) }), nil
}

func (s *shelf) Deadlines(context.Context) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	for _, j := range s.list(func(j *job.Job) bool { return j.State.Open() }) {
		out[j.ID] = j.Deadline
	}
	return out, nil
}

func (s *shelf) Jobs(context.Context, string, int) ([]job.Job, error) {
	return s.list(func(*job.Job) bool { return true }), nil
}

func (s *shelf) Unverified(context.Context) ([]job.Job, error) {
	return s.list(func(j *job.Job) bool { return j.Unsigned && j.SentSHA256 != "" }), nil
}

func (s *shelf) Visits(context.Context) ([]job.Job, error) {
	return s.list(func(j *job.Job) bool { return j.Visit != nil }), nil
}

func (s *shelf) Publications(context.Context) ([]job.Job, error) {
	return s.list(func(j *job.Job) bool { return j.State == job.Published }), nil
}

func (s *shelf) InQuarantine(context.Context, string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jailed, nil
}

func (s *shelf) Quarantined(context.Context) ([]string, error) { return nil, nil }

func (s *shelf) EndQuarantine(_ context.Context, _ string, at time.Time, _ ...ledger.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jailed = false
	for i := range s.jobs {
		if s.jobs[i].State == job.Quarantined {
			s.jobs[i].ClearedAt = at
		}
	}
	return nil
}

func (s *shelf) Floor(_ context.Context, _, component string) (job.Floor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.floors[component].Raised(s.ran[component]), nil
}

func (s *shelf) RaiseFloor(_ context.Context, _, component string, by job.Floor, _ ...ledger.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ran == nil {
		s.ran = map[string]job.Floor{}
	}
	s.ran[component] = s.ran[component].Raised(by)
	return nil
}

// papers are releases that verify.
type papers struct {
	list    []catalogue.Entry
	granted map[string]bool // exceptions, as action, release and station

	verify, proven, trusted error // what is against them
}

func (p *papers) Grant(_ context.Context, action catalogue.Action, e *catalogue.Entry, station string) (approval.Grant, error) {
	if what := string(action) + " " + e.Release.ID + " " + station; p.granted[what] {
		return approval.Grant{Request: approval.Request{Action: string(action), Nonce: what}, By: []string{"alice", "bob", "carol"}}, nil
	}
	return approval.Grant{}, errors.New("nobody agreed")
}

func (p *papers) List(context.Context) ([]catalogue.Entry, error)  { return p.list, nil }
func (p *papers) Verify(context.Context, *catalogue.Entry) error   { return p.verify }
func (p *papers) Proven(context.Context, *catalogue.Entry) error   { return p.proven }
func (p *papers) Trusted(context.Context, *x509.Certificate) error { return p.trusted }

// door serves whatever is asked for.
type door struct{ whole bool }

func (d *door) URL(g depot.Grant, name string) (string, error) {
	return "https://fw.example/d/" + g.SHA256 + "/x/" + name, nil
}
func (d *door) Digest(string) (string, bool) { return "", false }
func (d *door) Served(int64) depot.Served    { return depot.Served{Whole: d.whole} }
func (d *door) Forget(int64)                 {}

// errKilled ends whatever ran when the process was killed.
var errKilled = errors.New("killed")

// wire is a session whose station answers as the model says.
type wire struct {
	t      *rapid.T
	store  *shelf
	answer string // "": the connection is lost
	ran    uint64 // the newest sequence a boot showed
}

func (w *wire) Version() ocpp.Version    { return ocpp.V201 }
func (w *wire) Backend() string          { return "backend" }
func (w *wire) Go(func(context.Context)) {}

// Call is an outward message: what is on the shelf now is what a kill would leave.
func (w *wire) Call(_ context.Context, _ string, payload any) (json.RawMessage, error) {
	open, _ := w.store.OpenJobs(context.Background(), "")
	text, _ := json.Marshal(payload)
	var m ocpp.UpdateFirmwareRequest
	if err := json.Unmarshal(text, &m); err != nil || m.Firmware == nil || m.Firmware.Signature == "" {
		w.t.Fatalf("the station is sent %s", text)
	}
	if len(open) != 1 || open[0].State != job.Sent || !slices.ContainsFunc(open[0].Steps, func(s job.Step) bool { return s.State == job.Approved }) {
		w.t.Fatalf("sent, and the shelf has %+v", open)
	}
	if open[0].Sequence <= w.ran {
		w.t.Fatalf("sequence %d is sent to a station that ran %d", open[0].Sequence, w.ran)
	}
	if w.answer == "" {
		return nil, errKilled
	}
	return json.RawMessage(`{"status":"` + w.answer + `"}`), nil
}

// Whatever a back end asks, a station says, and whenever the server is killed:
// nothing is sent before it is on the shelf as approved and as sent, a station has
// one update at a time, none is sent below what it ever ran, only newer releases are done, and every open one ends.
func TestGateModel(t *testing.T) { // promise 10
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "maker"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	d, err := depot.Open(depot.Config{Dir: t.TempDir() + "/depot"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	stock := &papers{}
	now := time.Unix(1780315200, 0).UTC()
	for i, version := range []string{"1.0.0", "2.0.0", "3.0.0"} {
		image, err := d.Add(t.Context(), depot.Image{}, func(w io.Writer) error { _, err := io.WriteString(w, version); return err })
		if err != nil {
			t.Fatal(err)
		}
		stock.list = append(stock.list, catalogue.Entry{State: catalogue.Published, Certificate: der, Release: &release.Release{
			ID: version, Models: []release.Model{{Vendor: "V", Model: "M"}}, Component: "firmware", Version: version, Sequence: uint64(i + 1), SecurityEpoch: 1, File: "x.bin",
			SHA256: image.SHA256, Size: uint64(image.Size), Signatures: []release.Signature{{Dialect: release.ECDSAP256, Value: version}}, NotBefore: now.Add(-time.Hour), Expires: now.Add(1000 * time.Hour),
		}})
	}
	statuses := []string{"Idle", "DownloadScheduled", "Downloading", "Downloading", "Downloaded", "Downloaded", "DownloadFailed", "SignatureVerified", "SignatureVerified", "InvalidSignature", "Installing", "InstallRebooting", "Installed", "Installed"}
	rapid.Check(t, func(t *rapid.T) {
		store, at := &shelf{floors: map[string]job.Floor{}}, now
		ran := uint64(0)
		served := &door{whole: true}
		start := func() *gate.Gate {
			g, err := gate.New(context.Background(), gate.Config{Store: store, Catalogue: stock, Depot: d, Door: served,
				Rule:   func(gate.Station) gate.Rule { return gate.Rule{Level: gate.Enforce} },
				Record: func(context.Context, ledger.Event) error { return nil }, Clock: func() time.Time { return at }})
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		g := start()
		st := gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}
		ctx := context.Background()
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			at = at.Add(time.Duration(rapid.IntRange(0, 900).Draw(t, "seconds")) * time.Second)
			w := &wire{t: t, store: store, answer: rapid.SampledFrom([]string{"Accepted", "Accepted", "Rejected", ""}).Draw(t, "answer"), ran: ran}
			switch rapid.SampledFrom([]string{"ask", "ask", "report", "report", "boot", "finish", "finish", "lost", "kill", "look", "free"}).Draw(t, "what") {
			case "ask":
				version := rapid.SampledFrom([]string{"1.0.0", "2.0.0", "3.0.0"}).Draw(t, "version")
				payload, _ := json.Marshal(map[string]any{"requestId": 7, "firmware": map[string]any{"location": "https://x/y", "retrieveDateTime": "2026-01-01T00:00:00Z", "signingCertificate": "c", "signature": version}})
				if v := g.Request(ctx, w, st, "UpdateFirmware", payload, false); v.Later != nil {
					v = v.Later(ctx)
					if (v.Answer == nil) == (v.Code == "") {
						t.Fatalf("answered with %+v", v)
					}
				}
			case "report":
				status := rapid.SampledFrom(statuses).Draw(t, "status")
				served.whole = rapid.IntRange(0, 9).Draw(t, "whole") > 0
				if v := g.Report(ctx, w, st, "FirmwareStatusNotification", []byte(`{"status":"`+status+`"}`)); v.Code != "" || v.Answer != nil {
					t.Fatalf("a status was held back: %+v", v)
				}
			case "boot":
				sequence := rapid.Uint64Range(1, 3).Draw(t, "sequence")
				version := fmt.Sprint(sequence, ".0.0")
				g.Boot(ctx, w, st, []byte(`{"reason":"FirmwareUpdate","chargingStation":{"vendorName":"V","model":"M","firmwareVersion":"`+version+`"}}`))
				st.Firmware, ran = version, max(ran, sequence)
				if i := slices.IndexFunc(store.jobs, func(j job.Job) bool { return j.Betrayed(version) }); i == len(store.jobs)-1 && i >= 0 {
					t.Fatalf("it runs what it didn't verify: %+v", store.jobs[i])
				}
			case "finish":
				open, _ := store.OpenJobs(ctx, "")
				if len(open) == 0 || open[0].Status != "" || !open[0].State.Underway() {
					continue
				}
				served.whole = true
				for _, status := range []string{"Downloading", "Downloaded", "SignatureVerified", "Installing", "Installed"} {
					g.Report(ctx, w, st, "FirmwareStatusNotification", []byte(`{"status":"`+status+`"}`))
				}
				g.Boot(ctx, w, st, []byte(`{"reason":"FirmwareUpdate","chargingStation":{"vendorName":"V","model":"M","firmwareVersion":"`+open[0].Version+`"}}`))
				if done := store.jobs[len(store.jobs)-1]; done.State != job.Done {
					t.Fatalf("a good course ended %s (%s)", done.State, done.Reason)
				}
			case "free": // the operator; where there is nothing to free it says so
				_, _ = g.Cancel(ctx, "operator", st.Key, "by the model")
				_, _ = g.Clear(ctx, "operator", st.Key, "by the model")
			case "lost":
				g.Closed(ctx, st.Key)
			case "kill":
				g = start()
				if err := g.Resume(ctx); err != nil {
					t.Fatal(err)
				}
			case "look":
				if err := g.Look(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if store.two || store.fell {
				t.Fatalf("two at a time: %v, done with an older one: %v", store.two, store.fell)
			}
		}
		// Whoever says no more is given up.
		for range 3 {
			at = at.Add(30 * time.Hour)
			if err := g.Look(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if open, _ := store.OpenJobs(ctx, ""); len(open) > 0 {
			t.Fatalf("still open: %+v", open)
		}
	})
}
