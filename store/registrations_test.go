package store_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bollard/fleet"
	"bollard/ledger"
)

func TestRegistrations(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{
		{Identity: "a", Serial: "SN-A", Aliases: []string{"BOARD-A"}, FactoryHash: "aa"}, {Identity: "b", Serial: "SN-B"},
	}))
	if _, ok, err := s.Registration(ctx, "a"); ok || err != nil {
		t.Errorf("before there is one: %t, %v", ok, err)
	}
	full := filledIn[fleet.Registration]()
	if err := s.PutRegistration(ctx, full); !errors.Is(err, fleet.ErrUnknownStation) {
		t.Errorf("for an unknown station: %v", err)
	}
	full.Station = "a"
	for _, want := range []fleet.Registration{full, {Station: "a", Salt: []byte{1}, Hash: []byte{2}}} {
		must(t, s.PutRegistration(ctx, want))
		got, ok, err := s.Registration(ctx, "a")
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Error(ok, diff)
		}
	}

	// Bound to one key, once, and only if it is still the one that was proven.
	used := ledger.Event{Kind: "test.used", Subject: "a", Actor: "test"}
	for _, tt := range []struct {
		name, station, key string
		hash               byte
		refused            bool
	}{
		{"another secret", "a", "k1", 9, true},
		{"another station", "b", "k1", 2, true},
		{"the first key", "a", "k1", 2, false},
		{"the same key", "a", "k1", 2, false},
		{"another key", "a", "k2", 2, true},
		{"no key", "a", "", 2, true},
	} {
		if err := s.UseRegistration(ctx, tt.station, []byte{tt.hash}, tt.key, used); errors.Is(err, fleet.ErrRegistrationUsed) != tt.refused || !tt.refused && err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	n := 0
	for e, err := range s.Entries(ctx, 1) {
		must(t, err)
		if e.Kind == "test.used" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d uses are in the ledger", n)
	}
	must(t, s.RemoveStation(ctx, "a", told("station.removed")))
	if _, ok, err := s.Registration(ctx, "a"); ok || err != nil {
		t.Errorf("after its station went: %t, %v", ok, err)
	}
}

func TestStationByWhatItShows(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{
		{Identity: "A", Serial: "SN-A", Aliases: []string{"BOARD-A"}, FactoryHash: "aa"}, {Identity: "B", Serial: "SN-B"},
	}))
	for serial, want := range map[string]string{"SN-A": "A", "BOARD-A": "A", "SN-B": "B", "sn-a": "", "": "", "A": ""} {
		st, err := s.StationBySerial(ctx, serial)
		if st.Identity != want || (want == "") != errors.Is(err, fleet.ErrUnknownStation) {
			t.Errorf("serial %q: %q, %v", serial, st.Identity, err)
		}
	}
	for hash, want := range map[string]string{"aa": "A", "bb": "", "": ""} {
		st, err := s.StationByFactory(ctx, hash)
		if st.Identity != want || (want == "") != errors.Is(err, fleet.ErrUnknownStation) {
			t.Errorf("hash %q: %q, %v", hash, st.Identity, err)
		}
	}
}
