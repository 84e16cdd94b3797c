package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ledger"
	"bollard/store"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// model is what the store should hold, in the simplest form there is. All
// names begin with prefix, so that many runs share one database.
type model struct {
	store    *store.Store
	prefix   string
	stations map[string]fleet.Station
	orders   []fleet.Order // oldest first
	records  []ca.Record   // oldest first
	next     int
}

var errNo = errors.New("no")

func TestStoreBehavesLikeItsModel(t *testing.T) {
	t.Parallel()
	s := open(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		m := &model{store: s, prefix: fmt.Sprintf("r%d-", run), stations: map[string]fleet.Station{}}
		rt.Repeat(map[string]func(*rapid.T){
			"add station":    func(rt *rapid.T) { m.addStation(t, rt) },
			"update station": func(rt *rapid.T) { m.updateStation(t, rt) },
			"remove station": func(rt *rapid.T) { m.removeStation(t, rt) },
			"add order":      func(rt *rapid.T) { m.addOrder(t, rt) },
			"update order":   func(rt *rapid.T) { m.updateOrder(t, rt) },
			"intend":         func(rt *rapid.T) { m.intend(t, rt) },
			"issue":          func(rt *rapid.T) { m.issue(t, rt) },
			"revoke":         func(rt *rapid.T) { m.revoke(t, rt) },
			"":               func(rt *rapid.T) { m.check(t, rt) },
		})
	})
	kinds(t, s) // verifies the chain over all runs
}

func (m *model) key(rt *rapid.T) string {
	return m.prefix + rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "key")
}

func (m *model) serial(rt *rapid.T) string {
	return m.prefix + rapid.SampledFrom([]string{"1", "2", "3", "4"}).Draw(rt, "serial")
}

// clashes says whether another station answers to one of the serials.
func (m *model) clashes(st fleet.Station) bool {
	for key, other := range m.stations {
		if key == strings.ToLower(st.Identity) {
			continue
		}
		for _, serial := range append(slices.Clone(st.Aliases), st.Serial) {
			if serial == other.Serial || slices.Contains(other.Aliases, serial) {
				return true
			}
		}
	}
	return false
}

func (m *model) addStation(t *testing.T, rt *rapid.T) {
	st := station(m.key(rt), m.serial(rt))
	if rapid.Bool().Draw(rt, "upper") {
		st.Identity = strings.ToUpper(st.Identity)
	}
	_, exists := m.stations[strings.ToLower(st.Identity)]
	want := error(nil)
	if exists || m.clashes(st) {
		want = fleet.ErrStationExists
	}
	if err := m.store.AddStations(t.Context(), []fleet.Station{st}, event("station.added")); !errors.Is(err, want) {
		rt.Fatalf("got %v, want %v", err, want)
	}
	if want == nil {
		m.stations[strings.ToLower(st.Identity)] = st
	}
}

func (m *model) updateStation(t *testing.T, rt *rapid.T) {
	key, serial, alias, refuse := m.key(rt), m.serial(rt), m.serial(rt), rapid.Bool().Draw(rt, "refuse")
	st, exists := m.stations[key]
	change := func(st *fleet.Station) error {
		st.Serial, st.Aliases = serial, []string{alias}
		st.SeenProfile++
		if refuse {
			return errNo
		}
		return nil
	}
	want := change(&st)
	switch {
	case !exists:
		want = fleet.ErrUnknownStation
	case want == nil && m.clashes(st):
		want = fleet.ErrStationExists
	}
	got, err := m.store.UpdateStation(t.Context(), key, func(st *fleet.Station) ([]ledger.Event, error) {
		return []ledger.Event{event("station.changed")}, change(st)
	})
	if !errors.Is(err, want) {
		rt.Fatalf("got %v, want %v", err, want)
	}
	if want == nil {
		m.stations[key] = st
		if diff := cmp.Diff(st, got); diff != "" {
			rt.Fatal(diff)
		}
	}
}

func (m *model) removeStation(t *testing.T, rt *rapid.T) {
	key := m.key(rt)
	want := error(nil)
	if _, exists := m.stations[key]; !exists {
		want = fleet.ErrUnknownStation
	}
	if err := m.store.RemoveStation(t.Context(), key, told("station.removed")); !errors.Is(err, want) {
		rt.Fatalf("got %v, want %v", err, want)
	}
	delete(m.stations, key)
	if want == nil {
		m.orders = slices.DeleteFunc(m.orders, func(o fleet.Order) bool {
			return o.Station == key && o.State != fleet.OrderConfirmed
		})
	}
}

func (m *model) addOrder(t *testing.T, rt *rapid.T) {
	m.next++
	o := fleet.Order{
		ID: fmt.Sprint(m.prefix, m.next), Station: m.key(rt), State: fleet.OrderAccepted, CreatedAt: at(m.next),
		CSRHash: rapid.SampledFrom([]string{"h1", "h2"}).Draw(rt, "csr"),
	}
	want := error(nil)
	if _, exists := m.stations[o.Station]; !exists {
		want = fleet.ErrUnknownStation
	}
	if err := m.store.AddOrder(t.Context(), o, event("order.added")); !errors.Is(err, want) {
		rt.Fatalf("got %v, want %v", err, want)
	}
	if want == nil {
		m.orders = append(m.orders, o)
	}
}

func (m *model) updateOrder(t *testing.T, rt *rapid.T) {
	if len(m.orders) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.orders)-1).Draw(rt, "order")
	state := rapid.SampledFrom([]fleet.OrderState{fleet.OrderIssued, fleet.OrderConfirmed}).Draw(rt, "state")
	m.orders[i].State = state
	got, err := m.store.UpdateOrder(t.Context(), m.orders[i].ID, func(o *fleet.Order) ([]ledger.Event, error) {
		o.State = state
		return []ledger.Event{event("order.changed")}, nil
	})
	if diff := cmp.Diff(m.orders[i], got); err != nil || diff != "" {
		rt.Fatal(err, diff)
	}
}

func (m *model) find(serial string) *ca.Record {
	for i := range m.records {
		if m.records[i].Serial == serial {
			return &m.records[i]
		}
	}
	return nil
}

func (m *model) intend(t *testing.T, rt *rapid.T) {
	in := intent(m.serial(rt))
	in.Station = m.key(rt)
	want := error(nil)
	if m.find(in.Serial) != nil {
		want = ca.ErrDuplicateSerial
	}
	if err := m.store.PutIntent(t.Context(), in, event("certificate.intent")); !errors.Is(err, want) {
		rt.Fatalf("got %v, want %v", err, want)
	}
	if want == nil {
		m.records = append(m.records, ca.Record{Intent: in, State: ca.StateIntended})
	}
}

func (m *model) issue(t *testing.T, rt *rapid.T) {
	serial := m.serial(rt)
	err := m.store.PutIssued(t.Context(), serial, []byte(serial), at(2), event("certificate.issued"))
	r := m.find(serial)
	if may := r != nil && r.State == ca.StateIntended; may != (err == nil) {
		rt.Fatalf("%+v: %v", r, err)
	} else if may {
		r.State, r.DER, r.IssuedAt = ca.StateIssued, []byte(serial), at(2)
	}
}

func (m *model) revoke(t *testing.T, rt *rapid.T) {
	m.next++
	serial, when := m.serial(rt), at(m.next)
	err := m.store.SetRevoked(t.Context(), serial, "superseded", when, event("certificate.revoked"))
	r := m.find(serial)
	if may := r != nil && r.State != ca.StateIntended; may != (err == nil) {
		rt.Fatalf("%+v: %v", r, err)
	}
	if r != nil && r.State == ca.StateIssued {
		r.State, r.RevokedAt, r.Reason = ca.StateRevoked, when, "superseded"
	}
}

// check compares everything there is to see.
func (m *model) check(t *testing.T, rt *rapid.T) {
	all, err := m.store.Stations(t.Context())
	if err != nil {
		rt.Fatal(err)
	}
	got := []fleet.Station{}
	for _, st := range all {
		if strings.HasPrefix(strings.ToLower(st.Identity), m.prefix) {
			got = append(got, st)
		}
	}
	want := []fleet.Station{}
	for _, key := range slices.Sorted(maps.Keys(m.stations)) {
		want = append(want, m.stations[key])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		rt.Fatal("stations:", diff)
	}
	for _, name := range []string{"a", "b", "c"} {
		key := m.prefix + name
		orders, err := m.store.Orders(t.Context(), key, 0)
		if err != nil {
			rt.Fatal(err)
		}
		wantOrders := []fleet.Order{}
		for _, o := range slices.Backward(m.orders) {
			if o.Station == key {
				wantOrders = append(wantOrders, o)
			}
		}
		if diff := cmp.Diff(wantOrders, orders); diff != "" {
			rt.Fatal("orders:", diff)
		}
		records, err := m.store.Certificates(t.Context(), ca.Filter{Station: key})
		if err != nil {
			rt.Fatal(err)
		}
		wantRecords := []ca.Record{}
		for _, r := range slices.Backward(m.records) {
			if r.Station == key {
				wantRecords = append(wantRecords, r)
			}
		}
		if diff := cmp.Diff(wantRecords, records); diff != "" {
			rt.Fatal("records:", diff)
		}
	}
}
