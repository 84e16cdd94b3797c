package store_test

import (
	"slices"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/warden"
)

// Running transactions are bounded by age and number, and go with their station.
func TestTransactionsAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1")}))
	owned := func(n byte, station string) warden.Owned {
		return warden.Owned{Transaction: warden.Transaction{n}, Station: station, Since: at(int(n))}
	}
	kept := func() (list []byte) {
		all, err := s.Transactions(ctx)
		must(t, err)
		for _, o := range all {
			list = append(list, o.Transaction[0])
		}
		return list
	}
	expect := func(what string, want ...byte) {
		t.Helper()
		if got := kept(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	must(t, s.PutTransactions(ctx, []warden.Owned{owned(4, "cs-1"), owned(1, "a"), owned(2, "a"), owned(3, "cs-1")}, time.Time{}, 9))
	expect("all", 1, 2, 3, 4)
	must(t, s.PutTransactions(ctx, []warden.Owned{owned(5, "a"), {Transaction: warden.Transaction{1}, Station: "b"}}, time.Time{}, 3))
	expect("the newest three", 3, 4, 5)
	must(t, s.PutTransactions(ctx, []warden.Owned{{Transaction: warden.Transaction{5}, Station: "a"}, owned(6, "a"), owned(7, "a")}, at(4), 9))
	expect("ended, and too old", 4, 6, 7)
	must(t, s.RemoveStation(ctx, "cs-1", told("station.removed")))
	expect("without the removed station's", 6, 7)
}
