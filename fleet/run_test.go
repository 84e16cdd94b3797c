package fleet_test

import (
	"context"
	"testing"

	"bollard/fleet"
)

func TestRunFlushesAndStops(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1"})
	r.refusal(withPassword(claim(t, "CS-1"), "wrong"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.svc.Run(ctx) }()
	eventually(t, "record of the refusal", func() bool { return len(r.events("claim.refused")) == 1 })
	r.refusal(withPassword(claim(t, "CS-1"), "wrong again"))
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(r.events("claim.refused")); n != 2 {
		t.Errorf("%d records after the last flush, want 2", n)
	}
}
