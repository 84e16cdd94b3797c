package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bollard/internal/rollout"
	"bollard/ledger"
)

// release puts what a rollout wants of a station on its record, from where its
// plan takes it up. It does so once for each rollout: repeated after a crash it
// changes nothing.
func (s *Service) release(ctx context.Context, id, key string, a *aim) error {
	st, plan, err := s.recordOf(ctx, key)
	if err != nil || plan.Rollout == id {
		return err
	}
	list, err := s.drift(ctx, &st, &plan, a)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(d Drift) bool { return d.Unable != "" })
	is := func(c Change) bool { return slices.ContainsFunc(list, func(d Drift) bool { return d.Change == c }) }
	chain, err := s.nextRoot(ctx)
	if err != nil {
		return err
	}
	_, err = s.store.UpdateStationAndPlan(ctx, key, func(st *Station, p *Plan) ([]ledger.Event, error) {
		if is(ChangeProfile) {
			st.WantedProfile = max(st.WantedProfile, a.wants.Profile)
		}
		st.RenewWanted = st.RenewWanted || is(ChangeCertificate)
		st.RotateWanted = st.RotateWanted || is(ChangePassword) && st.FloorProfile < 3
		if is(ChangeBackend) {
			st.Backend = a.wants.Backend
		}
		p.Rollout, p.Rejected = id, 0
		clear(p.Tries) // they are asked anew
		if is(ChangeRoots) {
			for _, w := range a.wants.Roots {
				if !slices.ContainsFunc(p.Wanted, w.same) {
					p.Wanted = append(p.Wanted, w)
				}
			}
			p.Look = true
		}
		if is(ChangeChain) {
			p.ChainWanted = chain
		}
		// Whatever makes the next certificate, it is as wanted.
		p.CertificateType, p.CertificateLife = a.wants.CertificateType, a.wants.CertificateLife
		if is(ChangeTime) {
			p.TimeWanted = a.wants.TimeSource
		}
		return []ledger.Event{{Kind: "station.released", Subject: key, Actor: "rollout:" + id, Data: map[string]string{"changes": changeList(list)}}}, nil
	})
	if err != nil {
		return fmt.Errorf("couldn't release station %q: %w", key, err)
	}
	if is(ChangeBackend) {
		s.endIf(func(adm Admission) (string, bool) {
			return "station moves to another back end", adm.Station.Key() == key && adm.Station.Backend != a.wants.Backend
		})
	}
	s.pokeStation(key)
	return nil
}

// reached says what became of a released station: Begun while that is open.
func (s *Service) reached(ctx context.Context, st *Station, plan *Plan, a *aim) (rollout.State, string, error) {
	list, err := s.drift(ctx, st, plan, a)
	if err != nil {
		return rollout.Begun, "", err
	}
	list = slices.DeleteFunc(list, func(d Drift) bool { return d.Unable != "" })
	if len(list) == 0 {
		return rollout.Done, "", nil
	}
	for _, step := range s.steps() {
		if try := plan.Tries[step.name]; try.Stopped && slices.ContainsFunc(list, func(d Drift) bool { return step.name.serves(d.Change) }) {
			return rollout.Failed, string(step.name) + ": " + try.Note, nil
		}
	}
	return rollout.Begun, "", nil
}

// serves says whether a step stands between a station and a change: a profile
// needs its certificate first.
func (n StepName) serves(c Change) bool {
	return string(n) == string(c) || n == StepCertificate && c == ChangeProfile || n == StepRoots && c == ChangeChain
}

// withdraw takes back what a station that failed was released for and hasn't
// reached: it is left on what it was seen with, which is still accepted.
func (s *Service) withdraw(ctx context.Context, id, key, why string, a *aim) error {
	_, err := s.store.UpdateStationAndPlan(ctx, key, func(st *Station, p *Plan) ([]ledger.Event, error) {
		if a.has(ChangeProfile) && a.wants.Profile > 0 {
			st.WantedProfile = max(st.FloorProfile, st.SeenProfile)
		}
		if a.has(ChangeCertificate) || a.has(ChangeProfile) {
			st.RenewWanted = false
		}
		// What was sent to the station its next login decides.
		if a.has(ChangePassword) && st.Pending == nil {
			st.RotateWanted = false
		}
		if a.has(ChangeBackend) && a.wants.Backend != "" && st.SeenBackend != st.Backend {
			st.Backend = st.SeenBackend
		}
		st.PlanNote = "rollout " + id + " gave up: " + why
		p.TimeWanted = p.TimeSource
		if slices.Contains(a.only, ChangeChain) {
			p.ChainWanted = ""
		}
		p.Wanted = slices.DeleteFunc(p.Wanted, func(x WantedRoot) bool {
			return a.has(ChangeRoots) && slices.ContainsFunc(a.wants.Roots, x.same)
		})
		return []ledger.Event{{Kind: "station.withdrawn", Subject: key, Actor: "rollout:" + id, Data: map[string]string{"reason": fact(why)}}}, nil
	})
	if err != nil {
		return fmt.Errorf("couldn't withdraw station %q: %w", key, err)
	}
	return nil
}

func (w WantedRoot) same(x WantedRoot) bool {
	return w.Use == x.Use && w.Own == x.Own && w.Drop == x.Drop && string(w.DER) == string(x.DER)
}

func (s *Service) recordOf(ctx context.Context, key string) (Station, Plan, error) {
	st, err := s.store.Station(ctx, key)
	if err != nil {
		return Station{}, Plan{}, err
	}
	plan, err := s.store.Plan(ctx, key)
	if err != nil {
		return Station{}, Plan{}, fmt.Errorf("couldn't read the plan of %q: %w", key, err)
	}
	return st, plan, nil
}

func changeList(list []Drift) string {
	var names []string
	for _, d := range list {
		if !slices.Contains(names, string(d.Change)) {
			names = append(names, string(d.Change))
		}
	}
	return strings.Join(names, ",")
}
