package gate_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"bollard/firmware/catalogue"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ledger"
	"bollard/ocpp"
)

// An exception lets pass what it is of, for its station and release, and nothing else;
// what stands against the release meanwhile counts.
func TestExceptions(t *testing.T) { // promise 10
	t.Parallel()
	const one = " 1.0.0 cs-1"
	below := func(b *bench) { b.shelf.floors["firmware"] = job.Floor{Sequence: 5, SecurityEpoch: 2} }
	state := func(s catalogue.State) func(b *bench) { return func(b *bench) { b.papers.list[0].State = s } }
	expired := func(s catalogue.State) func(b *bench) {
		return func(b *bench) {
			b.papers.list[0].State = s
			b.papers.list[0].Release.Expires = b.papers.list[0].Release.NotBefore
		}
	}
	turn := func(block gate.Block) func(b *bench) {
		return func(b *bench) {
			b.restart(func(c *gate.Config) { c.Turn = func(string, string) gate.Block { return block } })
		}
	}
	for name, tt := range map[string]struct {
		change  func(b *bench)
		granted []string
		want    string
	}{
		"older":                      {below, []string{"firmware.downgrade" + one}, "Accepted"},
		"older, nobody agreed":       {below, nil, "GwEpoch"},
		"older, for another station": {below, []string{"firmware.downgrade 1.0.0 cs-2"}, "GwEpoch"},
		"older, of another release":  {below, []string{"firmware.downgrade 2.0.0 cs-1"}, "GwEpoch"},
		"older, another exception":   {below, []string{"firmware.force" + one, "firmware.unsigned" + one}, "GwEpoch"},
		"before its ring":            {turn(gate.Ring), []string{"firmware.force" + one}, "Accepted"},
		"its ring, a downgrade":      {turn(gate.Ring), []string{"firmware.downgrade" + one}, "GwRing"},
		"halted":                     {state(catalogue.Halted), []string{"firmware.force" + one}, "Accepted"},
		"superseded":                 {state(catalogue.Superseded), []string{"firmware.downgrade" + one}, "Accepted"},
		"not over what it runs":      {func(b *bench) { b.papers.list[0].Release.MinFrom = 1 }, []string{"firmware.force" + one}, "Accepted"},
		"not without another": {func(b *bench) {
			b.papers.list[0].Release.Requires = []release.Requirement{{Component: "modem", Sequence: 3}}
		}, []string{"firmware.force" + one}, "Accepted"},
		"two at once":            {func(b *bench) { below(b); turn(gate.Ring)(b) }, []string{"firmware.downgrade" + one, "firmware.force" + one}, "Accepted"},
		"one of two":             {func(b *bench) { below(b); turn(gate.Ring)(b) }, []string{"firmware.downgrade" + one}, "GwRing"},
		"revoked":                {func(b *bench) { b.revoke(0) }, []string{"firmware.downgrade" + one, "firmware.force" + one, "firmware.unsigned" + one}, "GwRevoked"},
		"another model":          {func(b *bench) { b.papers.list[0].Release.Models[0].Model = "X" }, []string{"firmware.downgrade" + one, "firmware.force" + one}, "GwWrongModel"},
		"expired":                {expired(catalogue.Published), []string{"firmware.downgrade" + one, "firmware.force" + one}, "GwFrozen"},
		"expired and superseded": {expired(catalogue.Superseded), []string{"firmware.downgrade" + one, "firmware.force" + one}, "GwFrozen"},
		"expired and halted":     {expired(catalogue.Halted), []string{"firmware.force" + one}, "GwFrozen"},
		"not valid yet, and superseded": {func(b *bench) {
			b.papers.list[0].State = catalogue.Superseded
			b.papers.list[0].Release.NotBefore = b.papers.list[0].Release.Expires
		}, []string{"firmware.downgrade" + one}, "GwFrozen"},
		"revoked once it is kept": {func(b *bench) {
			below(b)
			b.added = func() { b.revoke(0) }
		}, []string{"firmware.downgrade" + one}, "GwRevoked"},
		"halted once it is kept": {func(b *bench) {
			below(b)
			b.added = func() { b.papers.list[0].State = catalogue.Halted }
		}, []string{"firmware.downgrade" + one}, "GwUnapproved"},
		"condemned once it is kept": {func(b *bench) {
			block := gate.Ring
			b.restart(func(c *gate.Config) { c.Turn = func(string, string) gate.Block { return block } })
			b.added = func() { block = gate.OnHold }
		}, []string{"firmware.force" + one}, "GwHalted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.papers.granted = map[string]bool{}
			for _, what := range tt.granted {
				b.papers.granted[what] = true
			}
			tt.change(b)
			told := 0
			b.restart(func(c *gate.Config) { c.Excepted = func(context.Context, string) error { told++; return nil } })
			got := b.ask("1.0.0")
			if !strings.Contains(got, tt.want) || (tt.want == "Accepted") != (b.sent == 1) {
				t.Fatalf("%s, %d sent; want %s", got, b.sent, tt.want)
			}
			if tt.want == "Accepted" && (told != 1 || len(b.shelf.jobs[0].Exceptions) == 0) {
				t.Errorf("told %d times; %v", told, b.shelf.jobs[0].Exceptions)
			}
		})
	}
}

// What an exception lets pass is used up in the write that puts the update on disk, and
// stays unused where nothing came of it.
func TestExceptionIsUsedUp(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.shelf.floors["firmware"] = job.Floor{Sequence: 5}
	b.papers.granted = map[string]bool{"firmware.downgrade 1.0.0 cs-1": true}
	store := &counting{shelf: &b.shelf}
	b.restart(func(c *gate.Config) { c.Store = store })
	if got := b.ask("1.0.0"); !strings.Contains(got, "Accepted") || len(store.used) != 1 || store.used[0] != "firmware.downgrade 1.0.0 cs-1" {
		t.Errorf("%s, used %v", got, store.used)
	}
	if got := b.ask("1.0.0"); !strings.Contains(got, "GwBusy") || len(store.used) != 1 {
		t.Errorf("%s, used %v", got, store.used)
	}
}

// counting is a store that knows what was used up with which job.
type counting struct {
	*shelf
	used []string
}

func (c *counting) AddJob(ctx context.Context, j job.Job, events ...ledger.Event) (job.Job, error) {
	kept, err := c.shelf.AddJob(ctx, j, events...)
	for _, e := range events {
		if e.Kind == "approval.used" && err == nil {
			c.used = append(c.used, e.Subject)
		}
	}
	return kept, err
}

// Without a signature nothing goes but by exception, from the depot alone, and what the
// station says then is taken for what stations say that verify nothing.
func TestPlainUpdate(t *testing.T) { // L02, promise 10
	t.Parallel()
	for name, tt := range map[string]struct {
		rule    gate.Rule
		granted string
		want    string
	}{
		"nobody agreed": {gate.Rule{Level: gate.Enforce}, "", "GwUnsigned"},
		"three did":     {gate.Rule{Level: gate.Enforce}, "firmware.unsigned 1.0.0 cs-1", "Accepted"},
		"of another":    {gate.Rule{Level: gate.Enforce}, "firmware.unsigned 2.0.0 cs-1", "GwUnsigned"},
		"elsewhere":     {gate.Rule{Level: gate.Enforce, Place: gate.Origin}, "firmware.unsigned 1.0.0 cs-1", "GwUnsigned"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			digest := h.papers.list[0].Release.SHA256
			h.at["https://x/y"] = digest
			h.papers.granted = map[string]bool{tt.granted: true}
			h.restart(func(c *gate.Config) { c.Rule = func(gate.Station) gate.Rule { return tt.rule } })
			st := gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}
			got := h.update(st, "https://x/y")
			if !strings.Contains(got, tt.want) || (tt.want == "Accepted") != (len(h.wire) == 1) {
				t.Fatalf("%s, sent %v; want %s", got, h.wire, tt.want)
			}
			if fetched := h.looks.Load() > 0; fetched != (tt.granted != "") {
				t.Errorf("what it leads to was fetched: %v", fetched)
			}
			if tt.want != "Accepted" {
				return
			}
			if strings.Contains(h.wire[0], "sign") || !strings.Contains(h.wire[0], "https://fw.example/d/"+digest) {
				t.Errorf("sent %s", h.wire[0])
			}
			h.whole = true
			for _, status := range []string{"Downloading", "Downloaded", "Installing", "Installed"} {
				text, err := json.Marshal(map[string]any{"status": status})
				if err != nil {
					t.Fatal(err)
				}
				h.g.Report(t.Context(), h, st, "FirmwareStatusNotification", text)
			}
			h.g.Boot(t.Context(), h, st, []byte(`{"reason":"FirmwareUpdate","chargingStation":{"vendorName":"V","model":"M","firmwareVersion":"1.0.0"}}`))
			if j := h.shelf.jobs[0]; j.State != job.Done || !j.Unsigned {
				t.Errorf("%s (%s)", j.State, j.Reason)
			}
		})
	}
}

// An UpdateFirmware of 1.6 is told of as it went: signed, or by exception without a
// signature.
func TestPlainUpgradeIsToldOf(t *testing.T) { // L01, L02
	t.Parallel()
	for name, tt := range map[string]struct {
		upgrade bool
		want    string
	}{
		"signed": {true, "sent signed, as release 1.0.0"},
		"plain":  {false, "sent without a signature, as release 1.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.rule = gate.Rule{Level: gate.Enforce, Upgrade: tt.upgrade}
			b.ours = b.papers.list[0].Release.SHA256
			b.papers.granted = map[string]bool{"firmware.unsigned 1.0.0 cs-1": true}
			v := b.g.Request(t.Context(), plain16{b}, gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}, ocpp.ActionUpdateFirmware,
				[]byte(`{"location":"https://fw.example/d/x","retrieveDate":"2026-06-02T12:00:00Z"}`), false)
			if v = v.Later(t.Context()); v.Answer == nil || b.sent != 1 || v.Reason != tt.want {
				t.Errorf("%d sent, %+v; want %q", b.sent, v, tt.want)
			}
		})
	}
}
