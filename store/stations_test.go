package store_test

import (
	"errors"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/ledger"
	"bollard/store"

	"github.com/google/go-cmp/cmp"
)

func TestAddStationsRefusesClashes(t *testing.T) {
	t.Parallel()
	with := func(identity, serial, escaped string, aliases ...string) fleet.Station {
		s := station(identity, serial)
		s.Escaped, s.Aliases = escaped, aliases
		return s
	}
	for _, test := range []struct {
		name  string
		added fleet.Station
		clash bool
	}{
		{"identity", with("CS-1", "s9", ""), true},
		{"identity in other case", with("cs-1", "s9", ""), true},
		{"serial", with("CS-9", "S1", ""), true},
		{"serial in other case is another", with("CS-9", "s1", ""), false},
		{"serial is an alias", with("CS-9", "A1", ""), true},
		{"alias is a serial", with("CS-9", "s9", "", "x", "S1"), true},
		{"alias is an alias", with("CS-9", "s9", "", "A1"), true},
		{"escaped", with("CS-9", "s9", "CS%2D1"), true},
		{"own alias twice", with("CS-9", "s9", "", "s9", "s9"), false},
		{"nothing in common", with("CS-9", "s9", "CS%2D9", "A9"), false},
		{"no identity", with("", "s9", ""), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			ctx := t.Context()
			must(t, s.AddStations(ctx, []fleet.Station{with("CS-1", "S1", "CS%2D1", "A1"), station("bare", ""), station("bare-too", "")}))
			// All or none: the sound one before it must not stay.
			err := s.AddStations(ctx, []fleet.Station{station("sound", "s8"), test.added}, event("station.added"))
			if test.clash != (err != nil) || test.clash && test.added.Identity != "" && !errors.Is(err, fleet.ErrStationExists) {
				t.Fatalf("got %v", err)
			}
			if _, err := s.Station(ctx, "sound"); (err == nil) == test.clash {
				t.Errorf("not all or none: %v", err)
			}
			if got := kinds(t, s); (len(got) == 0) != test.clash {
				t.Errorf("ledger %v", got)
			}
			if !test.clash {
				return
			}
			// The same clashes hold when a record is changed.
			if test.added.Identity == "" {
				return
			}
			must(t, s.AddStations(ctx, []fleet.Station{station("CS-9x", "s9x")}))
			_, err = s.UpdateStation(ctx, "cs-9x", func(st *fleet.Station) ([]ledger.Event, error) {
				st.Serial, st.Aliases, st.Escaped = test.added.Serial, test.added.Aliases, test.added.Escaped
				if test.added.Identity != "CS-9" {
					st.Identity = test.added.Identity
				}
				return nil, nil
			})
			if changesKey := test.added.Identity != "CS-9"; err == nil || !changesKey && !errors.Is(err, fleet.ErrStationExists) {
				t.Errorf("the clash as a change: %v", err)
			}
		})
	}
}

func TestUpdateStation(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "S1")}))
	got, err := s.UpdateStation(ctx, "cs-1", func(st *fleet.Station) ([]ledger.Event, error) {
		st.Identity, st.Serial, st.Aliases = "cs-1", "S2", []string{"S1"}
		st.SeenAt = at(1).Add(time.Microsecond)
		st.Password = &fleet.Credential{Kind: "human", SetAt: at(2).In(time.FixedZone("", 60))}
		return []ledger.Event{event("station.changed")}, nil
	})
	must(t, err)
	read, err := s.Station(ctx, "cs-1")
	must(t, err)
	if diff := cmp.Diff(read.SeenAt, got.SeenAt); diff != "" || !got.SeenAt.Equal(at(1)) || got.Password.SetAt.Location() != time.UTC {
		t.Errorf("what was returned isn't what is stored: %s", diff)
	}
	must(t, s.AddStations(ctx, []fleet.Station{station("bare", "")}))
	for _, key := range []string{"cs-1", "bare"} {
		if _, err := s.UpdateStation(ctx, key, func(st *fleet.Station) ([]ledger.Event, error) {
			st.Identity = "another"
			return nil, nil
		}); err == nil {
			t.Errorf("the key of %s was changed", key)
		}
	}
	// A serial given up is free for another station.
	_, err = s.UpdateStation(ctx, "cs-1", func(st *fleet.Station) ([]ledger.Event, error) { st.Aliases = nil; return nil, nil })
	must(t, err)
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-2", "S1")}))
	if _, err := s.UpdateStation(ctx, "cs-9", func(*fleet.Station) ([]ledger.Event, error) {
		t.Error("change was called without a record")
		return nil, nil
	}); !errors.Is(err, fleet.ErrUnknownStation) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"station.changed"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
}

// A station and its plan change together, or not at all.
func TestUpdateStationAndPlan(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "S1")}))
	change := func(e ledger.Event, refused error) error {
		_, err := s.UpdateStationAndPlan(ctx, "cs-1", func(st *fleet.Station, p *fleet.Plan) ([]ledger.Event, error) {
			st.Serial, p.Slot = "S2", "2"
			return []ledger.Event{e}, refused
		})
		return err
	}
	look := func(serial, slot string) {
		t.Helper()
		st, err := s.Station(ctx, "cs-1")
		must(t, err)
		plan, err := s.Plan(ctx, "cs-1")
		must(t, err)
		if st.Serial != serial || plan.Slot != slot {
			t.Errorf("serial %q, slot %q; want %q, %q", st.Serial, plan.Slot, serial, slot)
		}
	}
	refused := errors.New("refused")
	if err := change(event("station.changed"), refused); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if err := change(ledger.Event{Kind: "not valid"}, nil); err == nil {
		t.Error("changed without a record")
	}
	look("S1", "")
	must(t, change(event("station.changed"), nil))
	look("S2", "2")
	if diff := cmp.Diff([]string{"station.changed"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
	if _, err := s.UpdateStationAndPlan(ctx, "cs-9", func(*fleet.Station, *fleet.Plan) ([]ledger.Event, error) { return nil, nil }); !errors.Is(err, fleet.ErrUnknownStation) {
		t.Errorf("got %v", err)
	}
}

// told is what a removal records.
func told(kind string) func(*fleet.Station) []ledger.Event {
	return func(*fleet.Station) []ledger.Event { return []ledger.Event{event(kind)} }
}

func TestRemoveStation(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "S1"), station("CS-2", "S2")}))
	states := []fleet.OrderState{fleet.OrderAccepted, fleet.OrderIssued, fleet.OrderDelivered, fleet.OrderConfirmed, fleet.OrderRejected, fleet.OrderSuperseded}
	for _, state := range states {
		must(t, s.AddOrder(ctx, fleet.Order{ID: "1-" + string(state), Station: "cs-1", State: state}))
		must(t, s.AddOrder(ctx, fleet.Order{ID: "2-" + string(state), Station: "cs-2", State: state}))
	}
	must(t, s.PutIntent(ctx, intent("a1")))
	must(t, s.RemoveStation(ctx, "cs-1", told("station.removed")))
	if err := s.RemoveStation(ctx, "cs-1", told("station.gone")); !errors.Is(err, fleet.ErrUnknownStation) {
		t.Errorf("got %v", err)
	}
	orders, err := s.Orders(ctx, "cs-1", 0)
	must(t, err)
	if diff := cmp.Diff([]string{"1-superseded", "1-rejected", "1-confirmed"}, ids(orders)); diff != "" {
		t.Error(diff)
	}
	if others, err := s.Orders(ctx, "cs-2", 0); err != nil || len(others) != len(states) {
		t.Errorf("orders of another station: %v, %v", others, err)
	}
	if _, err := s.Certificate(ctx, "a1"); err != nil {
		t.Errorf("the certificate went too: %v", err)
	}
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "S1")})) // its names are free again
	if diff := cmp.Diff([]string{"station.removed"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
}

func TestOrders(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "S1"), station("CS-2", "S2")}))
	add := func(id, station, csr string) error {
		return s.AddOrder(ctx, fleet.Order{ID: id, Station: station, CSRHash: csr, State: fleet.OrderAccepted}, event("order.added"))
	}
	must(t, add("1", "cs-1", "h1"))
	must(t, add("2", "cs-1", "h1"))
	must(t, add("3", "cs-2", "h1"))
	must(t, add("4", "cs-1", "h2"))
	if err := add("1", "cs-1", "h9"); err == nil {
		t.Error("an id was used twice")
	}
	if err := add("5", "cs-9", "h1"); !errors.Is(err, fleet.ErrUnknownStation) {
		t.Errorf("got %v", err)
	}
	for _, test := range []struct{ station, csr, want string }{{"cs-1", "h1", "2"}, {"cs-2", "h1", "3"}, {"cs-2", "h2", ""}} {
		got, ok, err := s.OrderByCSR(ctx, test.station, test.csr)
		if err != nil || got.ID != test.want || ok != (test.want != "") {
			t.Errorf("%+v: %q, %v, %v", test, got.ID, ok, err)
		}
	}
	list, err := s.Orders(ctx, "cs-1", 2)
	must(t, err)
	if diff := cmp.Diff([]string{"4", "2"}, ids(list)); diff != "" {
		t.Error(diff)
	}
	got, err := s.UpdateOrder(ctx, "2", func(o *fleet.Order) ([]ledger.Event, error) {
		o.State, o.UpdatedAt = fleet.OrderIssued, at(5)
		return []ledger.Event{event("order.issued")}, nil
	})
	must(t, err)
	if read, _, err := s.OrderByCSR(ctx, "cs-1", "h1"); err != nil || !cmp.Equal(read, got) || read.State != fleet.OrderIssued {
		t.Errorf("%v: %s", err, cmp.Diff(read, got))
	}
	refused := errors.New("no")
	for _, test := range []struct {
		name, id string
		change   func(*fleet.Order) error
		want     error
	}{
		{"refused", "2", func(o *fleet.Order) error { o.State = fleet.OrderRejected; return refused }, refused},
		{"unknown", "9", func(*fleet.Order) error { t.Error("called"); return nil }, store.ErrUnknownOrder},
		{"id", "2", func(o *fleet.Order) error { o.ID = "7"; return nil }, nil},
		{"station", "2", func(o *fleet.Order) error { o.Station = "cs-2"; return nil }, nil},
	} {
		_, err := s.UpdateOrder(ctx, test.id, func(o *fleet.Order) ([]ledger.Event, error) {
			return []ledger.Event{event("order.changed")}, test.change(o)
		})
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if read, _, err := s.OrderByCSR(ctx, "cs-1", "h1"); err != nil || !cmp.Equal(read, got) {
		t.Errorf("a refused change was kept: %v, %s", err, cmp.Diff(read, got))
	}
	if diff := cmp.Diff([]string{"order.added", "order.added", "order.added", "order.added", "order.issued"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
}

func ids(list []fleet.Order) []string {
	s := []string{}
	for _, o := range list {
		s = append(s, o.ID)
	}
	return s
}

func TestUnsummed(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	let := func(identity string, admissions int, last time.Time) fleet.Station {
		st := station(identity, "")
		st.Admissions, st.AdmittedAt = admissions, last
		return st
	}
	must(t, s.AddStations(ctx, []fleet.Station{let("CS-4", 1, at(10)), let("CS-3", 1, at(11)), let("CS-2", 0, at(9)), let("CS-1", 2, time.Time{})}))
	got, err := s.Unsummed(ctx, at(10))
	must(t, err)
	if d := cmp.Diff([]string{"cs-1", "cs-4"}, got); d != "" {
		t.Error(d)
	}
}

func TestOldestSecret(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	with := func(identity, kind string, set time.Time) fleet.Station {
		st := station(identity, "")
		st.Password = &fleet.Credential{Kind: kind, Salt: []byte(identity), Hash: []byte{1}, SetAt: set}
		return st
	}
	if got, err := s.OldestSecret(ctx, "human"); err != nil || got != nil {
		t.Fatalf("got %+v, %v", got, err)
	}
	must(t, s.AddStations(ctx, []fleet.Station{with("CS-1", "human", at(9)), with("CS-4", "human", at(8)), with("CS-3", "human", at(8)), with("CS-2", "generated", at(1)), station("CS-5", "")}))
	got, err := s.OldestSecret(ctx, "human")
	must(t, err)
	if d := cmp.Diff(&fleet.Credential{Kind: "human", Salt: []byte("CS-3"), Hash: []byte{1}, SetAt: at(8)}, got); d != "" {
		t.Error(d)
	}
}
