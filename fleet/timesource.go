package fleet

import (
	"context"
	"fmt"
	"slices"

	"bollard/ledger"
	"bollard/ocpp"
)

// needsTime: another source of time is wanted than the station last reported.
// OCPP 1.6 has no setting for it.
func (s *Service) needsTime(_ context.Context, sit *situation) bool {
	return sit.sess.Version() != ocpp.V16 && sit.plan.TimeWanted != "" && sit.plan.TimeSource != sit.plan.TimeWanted
}

// setTime sets where the station takes its time from and believes only what it
// then reports. A clock that is wrong makes good certificates look bad.
func (s *Service) setTime(ctx context.Context, sit *situation) (string, bool, error) {
	const what = "couldn't set the time source"
	component := ocpp.Component{Name: "ClockCtrlr"}
	read := func() (string, error) {
		vars, err := getVariables(ctx, sit.sess, component, "TimeSource")
		return vars["TimeSource"], err
	}
	present, err := read()
	if err != nil {
		return what, false, pointless(err)
	}
	if !sameList(present, sit.plan.TimeWanted) {
		if _, err := setVariable(ctx, sit.sess, component, "TimeSource", sit.plan.TimeWanted); err != nil {
			return what, false, pointless(err)
		}
		if present, err = read(); err != nil {
			return what, false, err
		}
		if !sameList(present, sit.plan.TimeWanted) {
			return what, false, fmt.Errorf("station took %q and reports %q", sit.plan.TimeWanted, capped(present))
		}
		s.recordStep(ctx, sit.sess, "plan.time-source", map[string]string{"source": sit.plan.TimeWanted})
	}
	wanted := sit.plan.TimeWanted
	_, err = s.store.UpdatePlan(ctx, sit.l.key, func(p *Plan) ([]ledger.Event, error) {
		p.TimeSource = wanted
		return nil, nil
	})
	return "", err == nil, err
}

func sameList(a, b string) bool { return slices.Equal(splitList(a), splitList(b)) }
