package admin_test

import (
	"testing"
	"time"

	"bollard/admin"
	"bollard/contract"
)

// A contract past its end isn't shown as one to charge by.
func TestContractsStateShown(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		state contract.State
		ends  time.Time
		want  string
	}{
		"without an end": {contract.StateActive, time.Time{}, "active"},
		"before its end": {contract.StateActive, now.Add(1), "active"},
		"past its end":   {contract.StateActive, now, "over"},
		"cancelled":      {contract.StateCancelled, now, "cancelled"},
	} {
		out := admin.ShownContract(&contract.Contract{State: tt.state, EndsAt: tt.ends}, now)
		if out.State != tt.want || (out.EndsAt == nil) != tt.ends.IsZero() {
			t.Errorf("%s: shown as %s until %v", name, out.State, out.EndsAt)
		}
	}
}
