package store

import (
	"strconv"
	"testing"
)

// The rows that were read last are kept, each in a place that another had before.
func TestRecentKeepsTheLastRows(t *testing.T) {
	t.Parallel()
	r := &recent[int]{}
	for round := range 2 {
		for n := range 3*maxRecent + 7 {
			r.put(strconv.Itoa(n), n+round, r.epoch())
			r.put(strconv.Itoa(n), n+round+1, r.epoch())
			for m := range n + 1 {
				row, _, ok := r.get(strconv.Itoa(m))
				if want := m > n-maxRecent; ok != want || ok && row != m+round+1 {
					t.Fatalf("after %d: row %d is %d, %v; want %v", n, m, row, ok, want)
				}
			}
		}
		if len(r.rows) != maxRecent || len(r.at) != maxRecent {
			t.Errorf("%d rows in %d places", len(r.at), len(r.rows))
		}
		old := r.epoch()
		r.forget()
		r.put("late", 1, old)
		if _, _, ok := r.get("late"); ok || len(r.at) > 0 {
			t.Errorf("a row outlived its table's change; %d are left", len(r.at))
		}
	}
}
