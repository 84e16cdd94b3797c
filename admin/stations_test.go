package admin_test

import (
	"strings"
	"testing"

	"bollard/admin"
	"bollard/ca"
	"bollard/fleet"
)

// An order whose certificate was revoked since doesn't look as if all were
// well, and tells how the station gets another.
func TestShownOrderTellsOfRevocation(t *testing.T) {
	t.Parallel()
	order := fleet.Order{State: fleet.OrderConfirmed, Serial: "ab"}
	records := []ca.Record{{State: ca.StateIssued}, {State: ca.StateIssued}}
	records[0].Serial, records[1].Serial = "ab", "cd"
	st := fleet.Station{Identity: "CS-1", FloorProfile: 2}
	if got := admin.ShownOrder(&st, &order, records); got.State != string(fleet.OrderConfirmed) || got.Reason != "" {
		t.Errorf("in use: %+v", got)
	}
	records[1].State = ca.StateRevoked
	if got := admin.ShownOrder(&st, &order, records); got.State != string(fleet.OrderConfirmed) {
		t.Errorf("another one revoked: %+v", got)
	}
	records[0].State, records[1].State = ca.StateRevoked, ca.StateIssued
	if got := admin.ShownOrder(&st, &order, records); got.State != "revoked" || got.Reason != "" {
		t.Errorf("superseded: %+v", got)
	}
	records[1].State = ca.StateRevoked
	for floor, way := range map[int]string{2: "station renew CS-1", 3: "station enrol-secret CS-1"} {
		st.FloorProfile = floor
		if got := admin.ShownOrder(&st, &order, records); got.State != "revoked" || !strings.Contains(got.Reason, way) {
			t.Errorf("revoked, floor %d: %+v", floor, got)
		}
	}
}
