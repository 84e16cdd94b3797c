package store_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ledger"
)

// What is remembered of a row ends with every write that touches it.
func TestReadersSeeEveryWriteThatReturned(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1")}))
	must(t, s.PutIntent(ctx, intent("01")))
	must(t, s.PutIssued(ctx, "01", []byte("der"), at(1)))
	model := func(want string) {
		t.Helper()
		st, err := s.Station(ctx, "cs-1")
		if err != nil || st.Model != want {
			t.Fatalf("model %q, %v; want %q", st.Model, err, want)
		}
	}
	state := func(want ca.State) {
		t.Helper()
		record, err := s.Certificate(ctx, "01")
		if err != nil || record.State != want {
			t.Fatalf("state %q, %v; want %q", record.State, err, want)
		}
	}
	model("")
	state(ca.StateIssued)
	for _, name := range []string{"A", "B"} {
		_, err := s.UpdateStation(ctx, "cs-1", func(st *fleet.Station) ([]ledger.Event, error) { st.Model = name; return nil, nil })
		must(t, err)
		model(name)
	}
	must(t, s.SetRevoked(ctx, "01", "keyCompromise", at(2)))
	state(ca.StateRevoked)
	must(t, s.RemoveStation(ctx, "cs-1", told("station.removed")))
	if _, err := s.Station(ctx, "cs-1"); !errors.Is(err, fleet.ErrUnknownStation) {
		t.Errorf("a removed station: %v", err)
	}
}

// A reader that was overtaken by a write must not leave the old row behind.
func TestReadersBesideAWriter(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1")}))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := s.Station(ctx, "cs-1"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for n := range 50 {
		_, err := s.UpdateStation(ctx, "cs-1", func(st *fleet.Station) ([]ledger.Event, error) { st.SeenProfile = n; return nil, nil })
		must(t, err)
		st, err := s.Station(ctx, "cs-1")
		if err != nil || st.SeenProfile != n {
			t.Fatalf("after write %d a reader saw %d, %v", n, st.SeenProfile, err)
		}
	}
	close(stop)
	readers.Wait()
}

// What a caller does to a row is its own affair.
func TestRowsAreTheCallers(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	st := station("CS-1", "SN-1")
	st.Aliases, st.Password = []string{"SN-2"}, &fleet.Credential{Kind: "generated", Salt: []byte("s"), Hash: []byte("h")}
	must(t, s.AddStations(ctx, []fleet.Station{st}))
	for range 2 {
		got, err := s.Station(ctx, "cs-1")
		must(t, err)
		if got.Aliases[0] != "SN-2" || got.Password.Kind != "generated" {
			t.Fatalf("got %+v", got)
		}
		got.Aliases[0], got.Password.Kind = "other", "other"
	}
}

func TestSighted(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1"), station("CS-2", "SN-2")}))
	before, err := s.Station(ctx, "cs-1")
	must(t, err)
	must(t, s.Sighted(ctx, map[string]fleet.Sighting{"cs-1": {At: at(5), Admissions: 2}, "gone": {At: at(5), Admissions: 1}}))
	must(t, s.Sighted(ctx, map[string]fleet.Sighting{"cs-1": {At: at(3), Admissions: 3}})) // never back
	must(t, s.Sighted(ctx, map[string]fleet.Sighting{"cs-2": {Admissions: 1}}))            // that it was is known, not when
	for key, want := range map[string]struct {
		at    time.Time
		count int
	}{"cs-1": {at(5), before.Admissions + 5}, "cs-2": {time.Time{}, before.Admissions + 1}} {
		st, err := s.Station(ctx, key)
		if err != nil || !st.SeenAt.Equal(want.at) || st.SeenAt.IsZero() != want.at.IsZero() || st.Admissions != want.count {
			t.Errorf("%s was seen at %v, let in %d times, %v; want %+v", key, st.SeenAt, st.Admissions, err, want)
		}
	}
}

func TestUpdateStations(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1"), station("CS-2", "SN-2")}))
	change := func(st *fleet.Station) ([]ledger.Event, error) {
		st.PlanNote = "changed"
		return []ledger.Event{event("station.changed")}, nil
	}
	must(t, s.UpdateStations(ctx, []string{"cs-1", "gone", "cs-2"}, change))
	fails := errors.New("not this one")
	if err := s.UpdateStations(ctx, []string{"cs-1", "cs-2"}, func(st *fleet.Station) ([]ledger.Event, error) {
		st.PlanNote = "again"
		if st.Identity == "CS-2" {
			return nil, fails
		}
		return []ledger.Event{event("station.changed")}, nil
	}); !errors.Is(err, fails) {
		t.Errorf("got %v", err)
	}
	for _, key := range []string{"cs-1", "cs-2"} {
		if st, err := s.Station(ctx, key); err != nil || st.PlanNote != "changed" {
			t.Errorf("%s: %q, %v", key, st.PlanNote, err)
		}
	}
	if got := kinds(t, s); !slices.Equal(got, []string{"station.changed", "station.changed"}) {
		t.Errorf("entries: %v", got)
	}
}
