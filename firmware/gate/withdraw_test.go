package gate_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ledger"
	"bollard/ocpp"
)

// bench is a gate with two published releases and one station, whose catalogue and
// store do something of the test's in the middle.
type bench struct {
	t   *testing.T
	g   *gate.Gate
	cfg gate.Config
	shelf
	papers
	door
	verified, added func()
	updating        func() // an update is about to be written
	full            error  // no update can be written; shelf.mu guards it
	rule            gate.Rule
	ours            string // digest behind every location; "": it isn't this door's
	sent            int
	forgotten       []int64
}

func (b *bench) Verify(context.Context, *catalogue.Entry) error {
	if b.verified != nil {
		b.verified()
	}
	return b.papers.verify
}

func (b *bench) AddJob(ctx context.Context, j job.Job, events ...ledger.Event) (job.Job, error) {
	j, err := b.shelf.AddJob(ctx, j, events...)
	if b.added != nil {
		b.added()
	}
	return j, err
}

func (b *bench) UpdateJob(ctx context.Context, id string, change func(*job.Job) ([]ledger.Event, error)) (job.Job, error) {
	if f := b.updating; f != nil {
		b.updating = nil
		f()
	}
	b.shelf.mu.Lock()
	full := b.full
	b.shelf.mu.Unlock()
	if full != nil {
		return job.Job{}, full
	}
	return b.shelf.UpdateJob(ctx, id, change)
}

func (b *bench) Forget(number int64)      { b.forgotten = append(b.forgotten, number) }
func (b *bench) Version() ocpp.Version    { return ocpp.V201 }
func (b *bench) Backend() string          { return "backend" }
func (b *bench) Go(func(context.Context)) {}
func (b *bench) Call(context.Context, string, any) (json.RawMessage, error) {
	b.sent++
	return json.RawMessage(`{"status":"Accepted"}`), nil
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, shelf: shelf{floors: map[string]job.Floor{}}, rule: gate.Rule{Level: gate.Enforce}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	d, err := depot.Open(depot.Config{Dir: t.TempDir() + "/depot"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	now, began := time.Unix(1780315200, 0).UTC(), time.Now()
	for i, version := range []string{"1.0.0", "2.0.0"} {
		image, err := d.Add(t.Context(), depot.Image{}, func(w io.Writer) error { _, err := io.WriteString(w, version); return err })
		if err != nil {
			t.Fatal(err)
		}
		b.papers.list = append(b.papers.list, catalogue.Entry{State: catalogue.Published, Certificate: der, Release: &release.Release{
			ID: version, Models: []release.Model{{Vendor: "V", Model: "M"}}, Component: "firmware", Version: version, Sequence: uint64(i + 1), File: "x.bin", SHA256: image.SHA256,
			Signatures: []release.Signature{{Dialect: release.ECDSAP256, Value: version}}, NotBefore: now.Add(-time.Hour), Expires: now.Add(time.Hour),
		}})
	}
	b.cfg = gate.Config{Store: b, Catalogue: b, Depot: d, Door: b,
		Rule:   func(gate.Station) gate.Rule { return b.rule },
		Record: func(context.Context, ledger.Event) error { return nil }, Clock: func() time.Time { return now.Add(time.Since(began)) }}
	b.restart(func(*gate.Config) {})
	return b
}

// restart has another gate, with the same store.
func (b *bench) restart(change func(*gate.Config)) {
	b.t.Helper()
	change(&b.cfg)
	var err error
	if b.g, err = gate.New(b.t.Context(), b.cfg); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) Digest(location string) (string, bool) {
	return b.ours, b.ours != "" && strings.HasPrefix(location, "https://fw.example/")
}

// List gives a copy, as a store does.
func (b *bench) List(context.Context) ([]catalogue.Entry, error) {
	return slices.Clone(b.papers.list), nil
}

func (b *bench) revoke(i int) {
	b.papers.list[i].State, b.papers.list[i].Reason = catalogue.Revoked, "it bricks stations"
}

// ask has the back end ask for a version, and returns the answer's status and reason.
func (b *bench) ask(version string) string {
	b.t.Helper()
	return b.askSigned("https://x/y", "c", version)
}

// askSigned asks for what is behind a location, by a certificate and signature of the back end's.
func (b *bench) askSigned(location, certificate, signature string) string {
	b.t.Helper()
	payload, err := json.Marshal(map[string]any{"requestId": 7, "firmware": map[string]any{"location": location, "retrieveDateTime": "2026-06-02T12:00:00Z", "signingCertificate": certificate, "signature": signature}})
	if err != nil {
		b.t.Fatal(err)
	}
	v := b.g.Request(b.t.Context(), b, gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}, "UpdateFirmware", payload, false)
	if v.Later == nil {
		b.t.Fatalf("%+v", v)
	}
	text, err := json.Marshal(v.Later(b.t.Context()).Answer)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// A release that is revoked reaches no station: neither by an update that was sent
// before, nor by one that is judged while it is revoked.
func TestRevokedUnderWay(t *testing.T) { // promise 10
	t.Parallel()
	t.Run("after it was sent", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		if got := b.ask("1.0.0"); !strings.Contains(got, "Accepted") {
			t.Fatal(got)
		}
		grant := depot.Grant{Station: "cs-1", Job: 1, SHA256: b.papers.list[0].Release.SHA256}
		if !b.g.Wants(t.Context(), grant) {
			t.Error("a good update may not be downloaded")
		}
		b.revoke(0)
		if b.g.Wants(t.Context(), grant) {
			t.Error("a revoked release may be downloaded")
		}
		if err := b.g.Withdraw(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		if j := b.shelf.jobs[0]; j.State != job.Cancelled || !strings.Contains(j.Reason, "it bricks stations") || !slices.Equal(b.forgotten, []int64{1}) {
			t.Errorf("%s: %s; forgotten by the door: %v", j.State, j.Reason, b.forgotten)
		}
		if got := b.ask("2.0.0"); !strings.Contains(got, "Accepted") {
			t.Errorf("the one that is good: %s", got)
		}
		if err := b.g.Withdraw(t.Context(), "alice"); err != nil || b.shelf.jobs[1].State != job.Accepted {
			t.Errorf("%v: the good one is %s", err, b.shelf.jobs[1].State)
		}
	})
	for name, when := range map[string]func(b *bench){
		"while it is judged": func(b *bench) { b.verified = func() { b.revoke(0) } },
		"once it is kept": func(b *bench) {
			b.added = func() {
				b.revoke(0)
				b.added = nil
				if err := b.g.Withdraw(t.Context(), "alice"); err != nil {
					t.Error(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			when(b)
			if got := b.ask("1.0.0"); !strings.Contains(got, "GwRevoked") || b.sent != 0 {
				t.Errorf("%s; sent %d", got, b.sent)
			}
			if j := b.shelf.jobs[0]; j.State != job.Cancelled {
				t.Errorf("it is %s", j.State)
			}
			if _, err := b.g.Cancel(t.Context(), "alice", "cs-1", "x"); !errors.Is(err, gate.ErrUnknown) {
				t.Errorf("it still holds the station: %v", err)
			}
			b.verified = nil
			if got := b.ask("2.0.0"); !strings.Contains(got, "Accepted") {
				t.Errorf("the next one: %s", got)
			}
		})
	}
	t.Run("unnoticed", func(t *testing.T) { // such as by a command while the server was down
		t.Parallel()
		b := newBench(t)
		b.ask("1.0.0")
		b.revoke(0)
		if err := b.g.Look(t.Context()); err != nil || b.shelf.jobs[0].State != job.Cancelled {
			t.Errorf("%v: it is %s", err, b.shelf.jobs[0].State)
		}
	})
}

// A station that is removed in the middle of an update, and added again, isn't
// held up by it.
func TestRemovedUnderWay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if got := b.ask("1.0.0"); !strings.Contains(got, "Accepted") {
		t.Fatal(got)
	}
	b.shelf.jobs = nil
	st := gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}
	if v := b.g.Boot(t.Context(), b, st, []byte(`{"reason":"PowerUp","chargingStation":{"vendorName":"V","model":"M","firmwareVersion":"1.0.0"}}`)); v.Code != "" {
		t.Errorf("its boot: %+v", v)
	}
	if err := b.g.Look(t.Context()); err != nil {
		t.Error(err)
	}
	if got := b.ask("2.0.0"); !strings.Contains(got, "Accepted") {
		t.Errorf("the next update: %s", got)
	}
}

// Of a release that is halted nothing goes out that wasn't sent before: neither what the
// halt finds in the store, nor what is past its last look at the release. What was sent
// goes on.
func TestHaltedBeforeItIsSent(t *testing.T) { // promise 10
	t.Parallel()
	b := newBench(t)
	halt := func() {
		b.papers.list[0].State, b.papers.list[0].Reason = catalogue.Halted, "stations smell"
		if err := b.g.Withdraw(t.Context(), "alice"); err != nil {
			t.Error(err)
		}
	}
	b.updating = halt
	if got := b.ask("1.0.0"); strings.Contains(got, "Accepted") || b.sent != 0 {
		t.Errorf("%s; sent %d", got, b.sent)
	}
	if j := b.shelf.jobs[0]; j.State != job.Cancelled || !strings.Contains(j.Reason, "stations smell") {
		t.Errorf("it is %s: %s", j.State, j.Reason)
	}
	b.papers.list[0].State = catalogue.Rolling
	if got := b.ask("1.0.0"); !strings.Contains(got, "Accepted") {
		t.Fatal(got)
	}
	halt()
	if j := b.shelf.jobs[1]; j.State != job.Accepted {
		t.Errorf("what was sent is %s: %s", j.State, j.Reason)
	}
}

// A station may call the signature invalid when its update is over: that is as good.
func TestCondemnedWhenItIsOver(t *testing.T) { // promise 10
	t.Parallel()
	b := newBench(t)
	var over []job.Job
	b.restart(func(cfg *gate.Config) { cfg.Over = func(j job.Job) { over = append(over, j) } })
	if got := b.ask("1.0.0"); !strings.Contains(got, "Accepted") {
		t.Fatal(got)
	}
	if _, err := b.g.Cancel(t.Context(), "alice", "cs-1", "x"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second says nothing new
		if v := b.g.Report(t.Context(), b, gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}, "FirmwareStatusNotification", []byte(`{"status":"InvalidSignature"}`)); v.Code != "" {
			t.Errorf("%+v", v)
		}
	}
	if len(over) != 2 || !over[0].CondemnedAt.IsZero() || over[1].CondemnedAt.IsZero() || over[1].State != job.Cancelled {
		t.Errorf("%+v", over)
	}
}
