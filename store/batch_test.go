package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"

	"bollard/ca"
	"bollard/fleet"
	"bollard/internal/failpoint"
	"bollard/ledger"
	"bollard/store"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// What shares a transaction is what its writes are one after the other, whichever of
// them fail: the same answers, the same records and the same ledger.
func TestBatchIsItsWritesOneByOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		together, alone := open(t), open(t)
		for _, s := range []*store.Store{together, alone} {
			must(t, s.AddStations(t.Context(), []fleet.Station{station("cs-1", "1")}))
			must(t, s.PutRegistration(t.Context(), fleet.Registration{Station: "cs-1", Hash: []byte("h"), ExpiresAt: at(60)}))
		}
		rapid.Check(undying{t}, func(rt *rapid.T) {
			writes := rapid.SliceOfN(rapid.Custom(drawWrite), 1, 8).Draw(rt, "writes")
			var calls []func(context.Context) error
			var want []string
			for _, w := range writes {
				calls = append(calls, func(ctx context.Context) error { return w.run(ctx, together) })
				want = append(want, fmt.Sprint(w.run(t.Context(), alone)))
			}
			var got []string
			for _, err := range batch(t, together, calls...) {
				got = append(got, fmt.Sprint(err))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				rt.Fatalf("%v: %s", writes, diff)
			}
		})
		if diff := cmp.Diff(kept(t, alone), kept(t, together)); diff != "" {
			t.Error(diff)
		}
	})
}

// undying is a test whose deadline isn't asked for, which a bubble has none of.
type undying struct{ rapid.TB }

type someWrite struct {
	name string
	run  func(ctx context.Context, s *store.Store) error
}

func (w someWrite) String() string { return w.name }

func drawWrite(rt *rapid.T) someWrite {
	n := rapid.IntRange(0, 40).Draw(rt, "n")
	serial, id := fmt.Sprintf("%032x", n), fmt.Sprint("order-", n)
	refused := errors.New("not today")
	order := fleet.Order{ID: id, Station: "cs-1", CSRHash: id, State: fleet.OrderAccepted, CreatedAt: at(n)}
	all := []someWrite{
		{"intent " + serial, func(ctx context.Context, s *store.Store) error {
			return s.PutIntent(ctx, intent(serial), event("certificate.intent"))
		}},
		{"issue " + serial, func(ctx context.Context, s *store.Store) error {
			return s.PutIssued(ctx, serial, []byte{1}, at(n), event("certificate.issued"))
		}},
		{"apply " + id, func(ctx context.Context, s *store.Store) error {
			key := ca.Intent{Serial: "a" + serial, KeyHash: fmt.Sprint("key-", n%2), CreatedAt: at(n)}
			return s.Recorder(fleet.Application{
				Order: order, Accepted: event("order.accepted"), Secret: []byte("h"), Used: event("station.enrol-secret-used"),
			}).PutIntent(ctx, key, event("certificate.intent"))
		}},
		{"deliver " + id, func(ctx context.Context, s *store.Store) error {
			return s.Recorder(fleet.Application{Order: order, Issued: func(o *fleet.Order, serial string) []ledger.Event {
				o.State, o.Serial = fleet.OrderDelivered, serial
				return []ledger.Event{event("order.delivered")}
			}}).PutIssued(ctx, "a"+serial, []byte{1}, at(n), event("certificate.issued"))
		}},
		{"two events, the last bad", func(ctx context.Context, s *store.Store) error {
			return s.Record(ctx, event("some.thing"), event("Bad Kind"))
		}},
		{"an event", func(ctx context.Context, s *store.Store) error { return s.Record(ctx, event("some.thing")) }},
		{"a person's", func(ctx context.Context, s *store.Store) error {
			return s.Record(ctx, ledger.Event{Kind: "some.thing", Actor: fmt.Sprint("operator:p", n%3)})
		}},
		{"change", func(ctx context.Context, s *store.Store) error {
			_, err := s.UpdateStation(ctx, "cs-1", func(st *fleet.Station) ([]ledger.Event, error) {
				st.SeenProfile++
				return []ledger.Event{event("station.changed")}, nil
			})
			return err
		}},
		{"refused change", func(ctx context.Context, s *store.Store) error {
			_, err := s.UpdateStation(ctx, "cs-1", func(st *fleet.Station) ([]ledger.Event, error) {
				st.SeenProfile++
				return []ledger.Event{event("station.changed")}, refused
			})
			return err
		}},
	}
	return all[rapid.IntRange(0, len(all)-1).Draw(rt, "kind")]
}

// kept is all that drawn writes leave.
func kept(t *testing.T, s *store.Store) []any {
	t.Helper()
	ctx := t.Context()
	records, err := s.Certificates(ctx, ca.Filter{})
	must(t, err)
	orders, err := s.Orders(ctx, "cs-1", 0)
	must(t, err)
	_, secret, err := s.Applicant(ctx, "cs-1")
	must(t, err)
	st, err := s.Station(ctx, "cs-1")
	must(t, err)
	return []any{kinds(t, s), records, orders, secret, st.SeenProfile}
}

// Killed between the writes' being undone and their running again, of all in the
// transaction nothing is there, and nothing acknowledged is gone.
func TestKilledWhileABatchIsUndone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bollard.db")
	t.Setenv(failpoint.Env, "store.undone")
	acknowledged := map[string]bool{}
	killChild(t, path, 1<<30, acknowledged) // it ends by itself
	t.Setenv(failpoint.Env, "")
	allThere(t, reopen(t, path), acknowledged)
}

// When a transaction is lost, nobody is told what a write of it seemed to find: that
// isn't kept either.
func TestLostTransactionIsEverybodys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		must(t, s.Do(t.Context(), func(exec func(string, ...any) error) error { return exec("CREATE TABLE scratch (n INTEGER)") }))
		found, broken := errors.New("somebody else's is there"), errors.New("the disk broke")
		do := func(run func(exec func(string, ...any) error) error) func(context.Context) error {
			return func(ctx context.Context) error { return s.Do(ctx, run) }
		}
		errs := batch(t, s,
			do(func(exec func(string, ...any) error) error { return exec("INSERT INTO scratch (n) VALUES (1)") }),
			do(func(func(string, ...any) error) error { return found }),
			do(func(exec func(string, ...any) error) error {
				must(t, exec("ROLLBACK")) // as SQLite does by itself where a disk fails
				return broken
			}))
		for i, err := range errs {
			if err == nil || errors.Is(err, found) {
				t.Errorf("write %d: %v, want the loss of the transaction", i, err)
			}
		}
	})
}
