package store_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bollard/firmware/catalogue"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/fleet"
	"bollard/ledger"
)

func TestReleasesAreKept(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	entry := func(id string) catalogue.Entry {
		return catalogue.Entry{Release: &release.Release{ID: id, Sequence: 1 << 52, NotBefore: at(1)}, Digest: "d", Envelope: []byte("e"), Certificate: []byte{0, 1}, State: catalogue.Added, AddedAt: at(2)}
	}
	first, second := entry("1"), entry("2")
	must(t, s.AddRelease(ctx, first, event("firmware.added")))
	must(t, s.AddRelease(ctx, second))
	if err := s.AddRelease(ctx, first); !errors.Is(err, catalogue.ErrExists) {
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
	must(t, s.RemoveStation(ctx, "cs-1"))
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1")}))
	if !in() {
		t.Error("a station that was removed and added again is out of quarantine")
	}
	must(t, s.EndQuarantine(ctx, "cs-1", event("firmware.cleared")))
	if in() {
		t.Error("still in quarantine")
	}
}
