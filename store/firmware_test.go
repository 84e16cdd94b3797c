package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/firmware/tuf"
	"bollard/fleet"
	"bollard/ledger"
	"bollard/ocpp"
)

func TestReleasesAreKept(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	entry := func(id string) catalogue.Entry {
		return catalogue.Entry{Release: &release.Release{ID: id, Sequence: 1 << 52, NotBefore: at(1)}, Digest: "d", Envelope: []byte("e"), Certificate: []byte{0, 1}, State: catalogue.Added, AddedAt: at(2)}
	}
	first, second := entry("1"), entry("2")
	must(t, s.AddRelease(ctx, first, map[string][]byte{"sbom.cdx.json": {1, 0, 255}}, event("firmware.added")))
	must(t, s.AddRelease(ctx, second, nil))
	if err := s.AddRelease(ctx, first, nil); !errors.Is(err, catalogue.ErrExists) {
		t.Errorf("twice: %v", err)
	}
	must(t, s.UpdateReleases(ctx, func(list []*catalogue.Entry) ([]ledger.Event, error) {
		list[1].State, list[1].RevokedAt = catalogue.Revoked, at(3)
		return []ledger.Event{event("firmware.revoked")}, nil
	}))
	if err := s.UpdateReleases(ctx, func(list []*catalogue.Entry) ([]ledger.Event, error) {
		list[0].State = catalogue.Revoked
		return nil, errors.New("no")
	}); err == nil {
		t.Error("an error of change was lost")
	}
	text, err := s.Paper(ctx, "1", "sbom.cdx.json")
	must(t, err)
	if !bytes.Equal(text, []byte{1, 0, 255}) {
		t.Errorf("its paper is %x", text)
	}
	for _, of := range [][2]string{{"1", "image.tlog-proof"}, {"2", "sbom.cdx.json"}} {
		if _, err := s.Paper(ctx, of[0], of[1]); !errors.Is(err, catalogue.ErrUnknown) {
			t.Errorf("%v: %v", of, err)
		}
	}
	first.State, first.RevokedAt = catalogue.Revoked, at(3)
	list, err := s.Releases(ctx)
	must(t, err)
	if diff := cmp.Diff([]catalogue.Entry{second, first}, list); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"firmware.added", "firmware.revoked"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
}

// What was seen of a manufacturer is there when it is asked for again; an error keeps
// what was.
func TestMetadataIsKept(t *testing.T) {
	t.Parallel()
	s := open(t)
	full := filledIn[tuf.Seen]()
	update := func(want *tuf.Seen, next *tuf.Seen, failure error) {
		t.Helper()
		err := s.UpdateMaker(t.Context(), "acme", func(seen *tuf.Seen) (*tuf.Seen, []ledger.Event, error) {
			if diff := cmp.Diff(want, seen); diff != "" {
				t.Error(diff)
			}
			return next, []ledger.Event{event("firmware.metadata")}, failure
		})
		if !errors.Is(err, failure) {
			t.Errorf("%v, want %v", err, failure)
		}
	}
	update(nil, &tuf.Seen{Root: []byte("root")}, nil)
	update(&tuf.Seen{Root: []byte("root")}, &full, nil)
	update(&full, nil, errors.New("no"))
	update(&full, &full, nil)
	if diff := cmp.Diff([]string{"firmware.metadata", "firmware.metadata", "firmware.metadata"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
}

// A station has one open update, whoever asks; one that is done raises the floor
// in the same write, and nothing lowers it.
func TestOneUpdateAndTheFloor(t *testing.T) { // promise 10
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1"), station("CS-2", "SN-2")}))
	full := filledIn[job.Job]()
	full.ID, full.Station, full.State = "a", "cs-1", job.Approved
	added, err := s.AddJob(ctx, full, event("firmware.approved"))
	must(t, err)
	full.Number = added.Number
	list, err := s.Jobs(ctx, "cs-1", 10)
	must(t, err)
	if diff := cmp.Diff([]job.Job{full}, list); diff != "" {
		t.Error(diff)
	}
	if _, err := s.AddJob(ctx, job.Job{ID: "b", Station: "cs-1", State: job.Approved}); !errors.Is(err, gate.ErrBusy) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := s.AddJob(ctx, job.Job{ID: "c", Station: "cs-3", State: job.Approved}); !errors.Is(err, fleet.ErrUnknownStation) {
		t.Errorf("of nobody: %v", err)
	}
	if _, err := s.UpdateJob(ctx, "x", func(*job.Job) ([]ledger.Event, error) { return nil, nil }); !errors.Is(err, gate.ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
	other, err := s.AddJob(ctx, job.Job{ID: "d", Station: "cs-2", State: job.Approved})
	must(t, err)
	if other.Number <= added.Number {
		t.Errorf("numbers %d, %d", added.Number, other.Number)
	}
	done := func(j *job.Job) ([]ledger.Event, error) {
		j.State, j.Component, j.Sequence, j.SecurityEpoch = job.Done, "firmware", 20, 2
		return []ledger.Event{event("firmware.done")}, nil
	}
	if _, err := s.UpdateJob(ctx, "a", func(j *job.Job) ([]ledger.Event, error) {
		_, _ = done(j)
		return nil, errors.New("no")
	}); err == nil {
		t.Error("an error of change was lost")
	}
	floor := func() job.Floor {
		f, err := s.Floor(ctx, "cs-1", "firmware")
		must(t, err)
		return f
	}
	if got := floor(); got != (job.Floor{}) {
		t.Errorf("the floor rose to %v by what wasn't written", got)
	}
	_, err = s.UpdateJob(ctx, "a", done)
	must(t, err)
	if got := floor(); got != (job.Floor{Sequence: 20, SecurityEpoch: 2}) {
		t.Errorf("floor %v", got)
	}
	open, err := s.OpenJobs(ctx, "")
	must(t, err)
	if len(open) != 1 || open[0].ID != "d" {
		t.Errorf("open: %+v", open)
	}
	_, err = s.AddJob(ctx, job.Job{ID: "e", Station: "cs-1", State: job.Approved})
	must(t, err)
	rapid.Check(t, func(t *rapid.T) {
		before := floor()
		by := job.Floor{Sequence: rapid.Uint64Max(1<<53).Draw(t, "sequence"), SecurityEpoch: rapid.Uint64Max(5).Draw(t, "epoch")}
		if err := s.RaiseFloor(ctx, "cs-1", "firmware", by); err != nil {
			t.Fatal(err)
		}
		if got := floor(); got != before.Raised(by) {
			t.Fatalf("%v with %v became %v", before, by, got)
		}
	})
}

// What a station was sent without a signature it may run unverified, however its update
// ended: unless it ran that before, or got it signed since.
func TestUnverified(t *testing.T) { // L02
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1"), station("CS-2", "SN-2")}))
	for _, j := range []job.Job{
		{ID: "done", Version: "1", Before: "1", State: job.Done, Unsigned: true},
		{ID: "mismatch", Version: "2", State: job.Mismatch, Unsigned: true},
		{ID: "timed out", Version: "3", Before: "2", State: job.TimedOut, Unsigned: true},
		{ID: "ran it before", Version: "4", Before: "4", State: job.Failed, Unsigned: true},
		{ID: "failed", Version: "5", Before: "4", State: job.Failed, Unsigned: true},
		{ID: "signed since", Version: "5", Before: "4", State: job.Done},
		{ID: "refused", Version: "6", Before: "5", State: job.Refused, Unsigned: true},
		{ID: "signed, and failed", Version: "6", Before: "5", State: job.Failed},
		{ID: "signed elsewhere", Station: "cs-2", Version: "6", Before: "5", State: job.Done},
	} {
		if j.SentSHA256 = "x"; j.Station == "" {
			j.Station = "cs-1"
		}
		_, err := s.AddJob(ctx, j)
		must(t, err)
	}
	_, err := s.AddJob(ctx, job.Job{ID: "never sent", Station: "cs-1", Version: "7", State: job.Cancelled, Unsigned: true})
	must(t, err)
	list, err := s.Unverified(ctx)
	must(t, err)
	var got []string
	for _, j := range list {
		got = append(got, j.ID)
	}
	if diff := cmp.Diff([]string{"done", "mismatch", "timed out", "refused"}, got); diff != "" {
		t.Error(diff)
	}
}

// What waits is told with its deadline, without reading what else is known of it.
func TestDeadlinesOfUpdates(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1"), station("CS-2", "SN-2"), station("CS-3", "SN-3")}))
	for id, j := range map[string]job.Job{"a": {State: job.Sent, Deadline: at(5)}, "b": {State: job.Approved}, "c": {State: job.Failed, Deadline: at(5)}} {
		j.ID, j.Station = id, "cs-"+string('1'+id[0]-'a')
		_, err := s.AddJob(ctx, j)
		must(t, err)
	}
	wait := func(want map[string]time.Time) {
		t.Helper()
		got, err := s.Deadlines(ctx)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	wait(map[string]time.Time{"a": at(5), "b": {}})
	_, err := s.UpdateJob(ctx, "a", func(j *job.Job) ([]ledger.Event, error) { j.Deadline = at(9); return nil, nil })
	must(t, err)
	wait(map[string]time.Time{"a": at(9), "b": {}})
	must(t, s.RemoveStation(ctx, "cs-1", told("station.removed")))
	wait(map[string]time.Time{"b": {}})
}

// Where a station downloads elsewhere is known until it was looked at, however its update
// ended.
func TestVisitsOfUpdates(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1")}))
	_, err := s.AddJob(ctx, job.Job{ID: "a", Station: "cs-1", State: job.Failed, Visit: &job.Visit{Location: "https://x/y", Since: at(5)}})
	must(t, err)
	_, err = s.AddJob(ctx, job.Job{ID: "b", Station: "cs-1", State: job.Sent})
	must(t, err)
	if list, err := s.Visits(ctx); err != nil || len(list) != 1 || list[0].ID != "a" || !list[0].Visit.Since.Equal(at(5)) {
		t.Errorf("%+v, %v", list, err)
	}
	_, err = s.UpdateJob(ctx, "a", func(j *job.Job) ([]ledger.Event, error) { j.Visit = nil; return nil, nil })
	must(t, err)
	if list, err := s.Visits(ctx); err != nil || len(list) > 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// A station stays in quarantine until it is let out: removed and added again, too.
func TestQuarantineOutlivesTheStation(t *testing.T) { // promise 10
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	in := func() bool {
		in, err := s.InQuarantine(ctx, "cs-1")
		must(t, err)
		return in
	}
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1")}))
	_, err := s.AddJob(ctx, job.Job{ID: "a", Station: "cs-1", State: job.Sent})
	must(t, err)
	if in() {
		t.Error("in quarantine for nothing")
	}
	_, err = s.UpdateJob(ctx, "a", func(j *job.Job) ([]ledger.Event, error) { j.State = job.Quarantined; return nil, nil })
	must(t, err)
	must(t, s.RemoveStation(ctx, "cs-1", told("station.removed")))
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1")}))
	if !in() {
		t.Error("a station that was removed and added again is out of quarantine")
	}
	// Another one later: it is let out in one write, with what put it there.
	_, err = s.AddJob(ctx, job.Job{ID: "b", Station: "cs-1", State: job.Quarantined})
	must(t, err)
	if err := s.EndQuarantine(ctx, "cs-1", at(9), ledger.Event{Kind: "no"}); err == nil || !in() {
		t.Errorf("an invalid ledger event was stored: %v", err)
	}
	cleared := func() time.Time {
		list, err := s.Jobs(ctx, "cs-1", 1)
		must(t, err)
		return list[0].ClearedAt
	}
	list, err := s.Quarantined(ctx)
	if must(t, err); len(list) != 1 || list[0] != "cs-1" || !cleared().IsZero() {
		t.Errorf("in quarantine: %v, cleared at %s", list, cleared())
	}
	must(t, s.EndQuarantine(ctx, "cs-1", at(9), event("firmware.cleared")))
	if in() || !cleared().Equal(at(9)) {
		t.Errorf("still in quarantine, cleared at %s", cleared())
	}
}

// What a back end is told of a step and the step itself are kept together or not at
// all.
func TestReportWithItsCopy(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1")}))
	_, err := s.AddJob(ctx, job.Job{ID: "a", Station: "cs-1", State: job.Sent})
	must(t, err)
	told := gate.Copy{Action: "FirmwareStatusNotification", Payload: []byte(`{"status":"Downloading"}`), At: at(5)}
	report := func(events ...ledger.Event) error {
		_, err := s.ReportJob(ctx, "a", told, func(j *job.Job) ([]ledger.Event, error) { j.State = job.Downloading; return events, nil })
		return err
	}
	waiting := func() []fleet.Parcel {
		list, err := s.Parcels(ctx, "cs-1", 10)
		must(t, err)
		return list
	}
	if err := report(ledger.Event{Kind: "no"}); err == nil || len(waiting()) != 0 {
		t.Errorf("an invalid ledger event was stored: %v", err)
	}
	must(t, report(event("firmware.progress")))
	if list := waiting(); len(list) != 1 || list[0].Action != told.Action || string(list[0].Payload) != string(told.Payload) || !list[0].QueuedAt.Equal(at(5)) {
		t.Errorf("%+v", list)
	}
	if j, err := s.OpenJobs(ctx, "cs-1"); err != nil || j[0].State != job.Downloading {
		t.Errorf("%+v, %v", j, err)
	}
}

// shelf is a catalogue of releases.
type shelf struct {
	gate.Catalogue
	entries []catalogue.Entry
}

func (s *shelf) List(context.Context) ([]catalogue.Entry, error) { return s.entries, nil }

// line is a session of which only the version counts.
type line struct{ gate.Session }

func (line) Version() ocpp.Version { return ocpp.V201 }

// What a station was once seen to run is the least it gets ever after, whatever
// its boots say later.
func TestBootsRaiseTheFloor(t *testing.T) { // promise 10
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1")}))
	on := func(model, version string, sequence, epoch uint64) catalogue.Entry {
		return catalogue.Entry{Release: &release.Release{ID: version, Component: "firmware", Version: version, Sequence: sequence, SecurityEpoch: epoch, Models: []release.Model{{Vendor: "ACME", Model: model}}}}
	}
	known := &shelf{entries: []catalogue.Entry{on("Volt", "1.0.0", 10, 1), on("Volt", "2.0.0", 20, 3), on("Volt", "3.0.0", 30, 2), on("Watt", "9.0.0", 90, 9)}}
	images, err := depot.Open(depot.Config{Dir: t.TempDir(), MaxBytes: 1, MaxTotal: 1})
	must(t, err)
	g, err := gate.New(ctx, gate.Config{
		Store: s, Catalogue: known, Depot: images, Rule: func(gate.Station) gate.Rule { return gate.Rule{} },
		Record: func(context.Context, ledger.Event) error { return nil },
	})
	must(t, err)
	before := job.Floor{}
	for _, boot := range []struct {
		version, was string
		want         job.Floor
	}{
		{"0.9.0", "", job.Floor{}},
		{"1.0.0", "", job.Floor{Sequence: 10, SecurityEpoch: 1}},
		{" 2.0.0 ", "1.0.0", job.Floor{Sequence: 20, SecurityEpoch: 3}},
		{"1.0.0", "2.0.0", job.Floor{Sequence: 20, SecurityEpoch: 3}},
		{"9.0.0", "1.0.0", job.Floor{Sequence: 20, SecurityEpoch: 3}},
		{"0.9.0", "3.0.0", job.Floor{Sequence: 30, SecurityEpoch: 3}}, // which was no release when it booted
		{"1.0.0", "0.9.0", job.Floor{Sequence: 30, SecurityEpoch: 3}},
	} {
		// The first one is of a station whose model nobody wrote down.
		v := g.Boot(ctx, line{}, gate.Station{Key: "cs-1", Firmware: boot.was}, fmt.Appendf(nil, `{"reason":"PowerUp","chargingStation":{"vendorName":"ACME","model":"Volt","firmwareVersion":%q}}`, boot.version))
		got, err := s.Floor(ctx, "cs-1", "firmware")
		must(t, err)
		if v.Code != "" || got != boot.want || got != got.Raised(before) {
			t.Errorf("a boot of %q after %q: %v, floor %v, want %v", boot.version, boot.was, v, got, boot.want)
		}
		before = got
	}
	if diff := cmp.Diff([]string{"firmware.floor", "firmware.floor", "firmware.floor"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}

	// An update that was given up, of firmware which then runs unverified.
	now := at(1)
	j := job.Job{ID: "a", Station: "cs-1", Version: "4.0.0", Before: "3.0.0", SentSHA256: "x", State: job.Cancelled, CreatedAt: now, ChangedAt: now}
	_, err = s.AddJob(ctx, j)
	must(t, err)
	g.Boot(ctx, line{}, gate.Station{Key: "cs-1"}, []byte(`{"reason":"PowerUp","chargingStation":{"vendorName":"ACME","model":"Volt","firmwareVersion":"4.0.0"}}`))
	list, err := s.Jobs(ctx, "cs-1", 1)
	must(t, err)
	if list[0].State != job.Quarantined {
		t.Errorf("%s (%s)", list[0].State, list[0].Reason)
	}
}
