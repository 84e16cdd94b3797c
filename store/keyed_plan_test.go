package store_test

import (
	"strings"
	"testing"

	"bollard/store"
)

// A read of a station's orders, newest first, grows with the station's and not with all:
// SQLite finds them by an index, and looks through no table and sorts nothing.
func TestOrdersAreFoundByAnIndex(t *testing.T) {
	t.Parallel()
	s := open(t)
	for name, query := range store.OrderReads() {
		plan, err := s.PlanOf(t.Context(), query)
		must(t, err)
		if len(plan) == 0 {
			t.Errorf("%s: no plan", name)
		}
		for _, step := range plan {
			if !strings.HasPrefix(step, "SEARCH orders ") {
				t.Errorf("%s: %s", name, step)
			}
		}
	}
}
