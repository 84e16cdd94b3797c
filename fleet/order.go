package fleet

import (
	"context"
	"fmt"
	"slices"

	"bollard/internal/failpoint"
	"bollard/ledger"
	"bollard/ocpp"
)

// A way down that came to nothing leaves a station with the lower network profile
// first in its order (switch2): at each start it would try that, be refused and
// fall back (B10). Once the lower profile is shut the order is put back.

// needsOrder: the network profile that was put first last leads to a security
// profile that nobody takes from this station.
func (s *Service) needsOrder(_ context.Context, sit *situation) bool {
	return sit.sess.Version() != ocpp.V16 && sit.plan.Slot != "" && sit.plan.SlotProfile < sit.st.FloorProfile && !sit.st.lowering(sit.now)
}

// restoreOrder takes that network profile out of the order. What it is and
// whether it is still to be done is in the plan until the station has done it.
func (s *Service) restoreOrder(ctx context.Context, sit *situation) (string, bool, error) {
	const what = "couldn't take the lower network profile out of the station's order"
	priority, active, err := networkProfiles(ctx, sit.sess)
	if err != nil {
		return what, false, pointless(err)
	}
	mine := sit.plan.Slot
	if slices.Contains(priority, mine) && mine != active { // in use, somebody has filled it anew
		rest := slices.DeleteFunc(priority, func(slot string) bool { return slot == mine })
		if len(rest) == 0 && active != "" {
			rest = []string{active}
		}
		if len(rest) == 0 {
			return what, false, fmt.Errorf("station has no other network profile in its order; %w", errPointless)
		}
		if err := setPriority(ctx, sit.sess, rest); err != nil {
			return what, false, pointless(err)
		}
	}
	failpoint.Hit("fleet.plan-order-back")
	plan, err := s.store.UpdatePlan(ctx, sit.l.key, func(p *Plan) ([]ledger.Event, error) {
		if p.Slot != mine {
			return nil, nil // it is filled for something else by now
		}
		p.Slot, p.SlotProfile = "", 0
		return []ledger.Event{{Kind: "plan.order", Subject: sit.l.key, Actor: "bollard", Data: map[string]string{"slot": fact(mine)}}}, nil
	})
	if err != nil {
		return what, false, fmt.Errorf("couldn't record it: %w", err)
	}
	sit.plan = plan
	return "took the lower network profile out of the station's order", true, nil
}
