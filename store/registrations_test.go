package store_test

import (
	"errors"
	"testing"
	"time"

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
	st, reg, err := s.Applicant(ctx, "a")
	if st.Serial != "SN-A" || reg != nil || err != nil {
		t.Errorf("before there is one: %+v, %v, %v", st, reg, err)
	}
	full := filledIn[fleet.Registration]()
	if err := s.PutRegistration(ctx, full); !errors.Is(err, fleet.ErrUnknownStation) {
		t.Errorf("for an unknown station: %v", err)
	}
	full.Station = "a"
	for _, want := range []fleet.Registration{full, {Station: "a", Salt: []byte{1}, Hash: []byte{2}}} {
		must(t, s.PutRegistration(ctx, want))
		st, got, err := s.Applicant(ctx, "a")
		must(t, err)
		if diff := cmp.Diff(&want, got); diff != "" || st.Serial != "SN-A" {
			t.Error(st.Serial, diff)
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
	if st, reg, err := s.Applicant(ctx, "a"); reg != nil || !errors.Is(err, fleet.ErrUnknownStation) {
		t.Errorf("after its station went: %+v, %+v, %v", st, reg, err)
	}
	must(t, s.AddStations(ctx, []fleet.Station{{Identity: "A", Serial: "SN-A"}}))
	if _, reg, err := s.Applicant(ctx, "a"); reg != nil || err != nil {
		t.Errorf("of another station in its place: %+v, %v", reg, err)
	}
}

// What an applicant's read remembers is what the reads of each find, whatever is written
// between.
func TestApplicantIsReadAhead(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	full := filledIn[fleet.Station]()
	full.Identity, full.Escaped = "a", "%61"
	must(t, s.AddStations(ctx, []fleet.Station{full}))
	agree := func(when string, version string, life time.Duration) {
		t.Helper()
		ahead, _, err := s.Applicant(ctx, "a")
		must(t, err)
		all, err := s.Stations(ctx)
		must(t, err)
		diff := cmp.Diff(all[0], ahead)
		ahead.Warn[0] = "the caller's" // and nobody else's
		plan, err := s.Plan(ctx, "a")
		must(t, err)
		remembered, err := s.Station(ctx, "a")
		must(t, err)
		if diff += cmp.Diff(all[0], remembered); diff != "" || ahead.Version != version || plan.CertificateLife != life {
			t.Errorf("%s: version %s, life %s; %s", when, ahead.Version, plan.CertificateLife, diff)
		}
	}
	agree("at first", full.Version, 0)
	_, err := s.UpdatePlan(ctx, "a", func(p *fleet.Plan) ([]ledger.Event, error) { p.CertificateLife = time.Hour; return nil, nil })
	must(t, err)
	if plan, err := s.Plan(ctx, "a"); plan.CertificateLife != time.Hour || err != nil {
		t.Errorf("a plan that changed is %s, %v", plan.CertificateLife, err)
	}
	agree("another plan", full.Version, time.Hour)
	_, err = s.UpdateStation(ctx, "a", func(st *fleet.Station) ([]ledger.Event, error) { st.Version = "2.1"; return nil, nil })
	must(t, err)
	agree("another version", "2.1", time.Hour)
	must(t, s.RemoveStation(ctx, "a", told("station.removed")))
	must(t, s.AddStations(ctx, []fleet.Station{full}))
	if plan, err := s.Plan(ctx, "a"); plan.CertificateLife != 0 || err != nil {
		t.Errorf("the plan of a station that went: %s, %v", plan.CertificateLife, err)
	}
	agree("another station", full.Version, 0)
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
