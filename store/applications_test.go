package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ledger"
	"bollard/store"
)

// application is CS-1's for its secret {2}, which it hasn't used.
func application(t *testing.T, s *store.Store) fleet.Application {
	t.Helper()
	must(t, s.AddStations(t.Context(), []fleet.Station{station("CS-1", "S1")}))
	must(t, s.PutRegistration(t.Context(), fleet.Registration{Station: "cs-1", Salt: []byte{1}, Hash: []byte{2}}))
	return fleet.Application{
		Order:    fleet.Order{ID: "o1", Station: "cs-1", CSR: []byte("csr"), CSRHash: "h1", Wire: fleet.WireEST, State: fleet.OrderAccepted},
		Accepted: event("order.accepted"), Secret: []byte{2}, Used: event("secret.used"),
		Issued: func(o *fleet.Order, serial string) []ledger.Event {
			o.State, o.Serial = fleet.OrderDelivered, serial
			return []ledger.Event{event("order.delivered")}
		},
	}
}

// applied is what is left of an application.
type applied struct {
	Key          string   // the secret is bound to
	Order        string   // its state and serial number
	Certificates []string // serial numbers and states
	Ledger       []string // kinds
}

func appliedOf(t *testing.T, s *store.Store) applied {
	t.Helper()
	_, reg, err := s.Applicant(t.Context(), "cs-1")
	must(t, err)
	order, _, err := s.OrderByCSR(t.Context(), "cs-1", "h1")
	must(t, err)
	list, err := s.Certificates(t.Context(), ca.Filter{})
	must(t, err)
	left := applied{Key: reg.KeyHash, Order: string(order.State) + order.Serial, Ledger: kinds(t, s)}
	for _, r := range list {
		left.Certificates = append(left.Certificates, r.Serial+" "+string(r.State))
	}
	return left
}

// The use of a one-time secret, the order and the intent are one; so are the
// certificate and the order's end.
func TestApplicationInTwoTransactions(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := application(t, s)
	r := s.Recorder(a)
	wanted := intent("a1")
	wanted.KeyHash = "k1"
	must(t, r.PutIntent(t.Context(), wanted, event("certificate.intent")))
	first := applied{"k1", "accepted", []string{"a1 intended"}, []string{"secret.used", "order.accepted", "certificate.intent"}}
	if diff := cmp.Diff(first, appliedOf(t, s)); diff != "" {
		t.Error(diff)
	}
	must(t, r.PutIssued(t.Context(), "a1", []byte("der"), at(2), event("certificate.issued")))
	second := applied{"k1", "delivereda1", []string{"a1 issued"}, append(first.Ledger, "certificate.issued", "order.delivered")}
	if diff := cmp.Diff(second, appliedOf(t, s)); diff != "" {
		t.Error(diff)
	}
	// Repeated after a crash: the secret is bound and the order there already.
	a.Known = true
	wanted.Serial = "a2"
	must(t, s.Recorder(a).PutIntent(t.Context(), wanted, event("certificate.intent")))
	third := applied{"k1", "delivereda1", []string{"a2 intended", "a1 issued"}, append(second.Ledger, "certificate.intent")}
	if diff := cmp.Diff(third, appliedOf(t, s)); diff != "" {
		t.Error(diff)
	}
}

// Whatever part of a transaction can't be done, nothing of it is.
func TestApplicationIsAllOrNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		spoil func(*fleet.Application, *ca.Intent, *ledger.Event)
		want  error
	}{
		"a secret that is replaced":   {func(a *fleet.Application, _ *ca.Intent, _ *ledger.Event) { a.Secret = []byte{9} }, fleet.ErrRegistrationUsed},
		"a station that went":         {func(a *fleet.Application, _ *ca.Intent, _ *ledger.Event) { a.Order.Station, a.Secret = "cs-2", nil }, fleet.ErrUnknownStation},
		"a serial number that exists": {func(_ *fleet.Application, i *ca.Intent, _ *ledger.Event) { i.Serial = "a0" }, ca.ErrDuplicateSerial},
		"an entry that can't be":      {func(_ *fleet.Application, _ *ca.Intent, e *ledger.Event) { e.Kind = "Bad Kind" }, nil},
		"an order that exists":        {func(a *fleet.Application, _ *ca.Intent, _ *ledger.Event) { a.Order.ID = "o0" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			a, wanted, recorded := application(t, s), intent("a1"), event("certificate.intent")
			must(t, s.PutIntent(t.Context(), intent("a0")))
			must(t, s.AddOrder(t.Context(), fleet.Order{ID: "o0", Station: "cs-1", CSRHash: "h0"}))
			before := appliedOf(t, s)
			tt.spoil(&a, &wanted, &recorded)
			if err := s.Recorder(a).PutIntent(t.Context(), wanted, recorded); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if diff := cmp.Diff(before, appliedOf(t, s)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCertificateAndOrdersEndAreAllOrNothing(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*fleet.Application, *string){
		"an order that went":        func(a *fleet.Application, _ *string) { a.Order.ID = "o9" },
		"a record that isn't there": func(_ *fleet.Application, serial *string) { *serial = "a9" },
		"an entry that can't be": func(a *fleet.Application, _ *string) {
			a.Issued = func(o *fleet.Order, _ string) []ledger.Event {
				o.State = fleet.OrderDelivered
				return []ledger.Event{event("Bad Kind")}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			a, serial := application(t, s), "a1"
			must(t, s.Recorder(a).PutIntent(t.Context(), intent("a1"), event("certificate.intent")))
			before := appliedOf(t, s)
			spoil(&a, &serial)
			if err := s.Recorder(a).PutIssued(t.Context(), serial, []byte("der"), at(2), event("certificate.issued")); err == nil {
				t.Error("recorded")
			}
			if diff := cmp.Diff(before, appliedOf(t, s)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An order that changed between intent and certificate ends as it is then, whatever of
// it changed.
func TestOrderThatChangedMeanwhile(t *testing.T) {
	t.Parallel()
	request := 7
	for name, change := range map[string]func(*fleet.Order){
		"nothing":  nil,
		"type":     func(o *fleet.Order) { o.Type = "V2GCertificate" },
		"request":  func(o *fleet.Order) { o.RequestID = &request },
		"wire":     func(o *fleet.Order) { o.Wire = "2.1" },
		"state":    func(o *fleet.Order) { o.State = fleet.OrderIssued },
		"serial":   func(o *fleet.Order) { o.Serial = "a0" },
		"reason":   func(o *fleet.Order) { o.Reason = "slow" },
		"its time": func(o *fleet.Order) { o.UpdatedAt = at(9) },
		"root":     func(o *fleet.Order) { o.Root = "r" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			a, calls := application(t, s), 0
			a.Issued = func(o *fleet.Order, _ string) []ledger.Event {
				calls++
				o.Reason += " done"
				return []ledger.Event{event("order.delivered")}
			}
			r := s.Recorder(a)
			must(t, r.PutIntent(t.Context(), intent("a1"), event("certificate.intent")))
			want, wantCalls := a.Order, 1
			if change != nil {
				change(&want)
				wantCalls++ // by what it was, in vain
				_, err := s.UpdateOrder(t.Context(), "o1", func(o *fleet.Order) ([]ledger.Event, error) { change(o); return nil, nil })
				must(t, err)
			}
			want.Reason += " done"
			must(t, r.PutIssued(t.Context(), "a1", []byte("der"), at(2), event("certificate.issued")))
			got, _, err := s.Order(t.Context(), "o1")
			must(t, err)
			if diff := cmp.Diff(want, got); diff != "" || calls != wantCalls {
				t.Errorf("%d calls, want %d; %s", calls, wantCalls, diff)
			}
			if list := kinds(t, s); list[len(list)-1] != "order.delivered" || len(list) != 5 {
				t.Errorf("%q", list)
			}
		})
	}
}

// Open are those of both sorts that were accepted or issued and are not over.
func TestOpenOrders(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{{Identity: "CS-1", Serial: "SN-1"}, {Identity: "CS-2", Serial: "SN-2"}}))
	for i, state := range []fleet.OrderState{fleet.OrderAccepted, fleet.OrderIssued, fleet.OrderDelivered, fleet.OrderConfirmed, fleet.OrderRejected, fleet.OrderSuperseded} {
		for _, o := range []fleet.Order{{Station: "cs-1"}, {Station: "cs-1", SECC: "NLABCE1"}, {Station: "cs-2"}} {
			o.ID, o.State, o.Serial = fmt.Sprint(i, o.Station, o.SECC), state, fmt.Sprint(i)
			must(t, s.AddOrder(ctx, o))
		}
	}
	list, err := s.OpenOrders(ctx, "cs-1")
	must(t, err)
	var got []string
	for _, o := range list {
		got = append(got, o.ID)
	}
	for i, want := range []bool{false, true, true, false, false, false} {
		if o, ok, err := s.UnconfirmedOrder(ctx, "cs-1", fmt.Sprint(i)); err != nil || ok != want || ok && o.ID != fmt.Sprint(i, "cs-1", "") {
			t.Errorf("for certificate %d: %q, %t, %v", i, o.ID, ok, err)
		}
	}
	if _, ok, err := s.UnconfirmedOrder(ctx, "cs-3", "1"); ok || err != nil {
		t.Errorf("another station's: %t, %v", ok, err)
	}
	want := []string{fmt.Sprint(1, "cs-1", "NLABCE1"), fmt.Sprint(1, "cs-1", ""), fmt.Sprint(0, "cs-1", "NLABCE1"), fmt.Sprint(0, "cs-1", "")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
