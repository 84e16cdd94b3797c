package fleet

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"bollard/ca"
	"bollard/ca/hashdata"
	"bollard/internal/failpoint"
	"bollard/ledger"
	"bollard/ocpp"
)

// nextRoot is the serial of the CSMS root that follows, "" if none does.
func (s *Service) nextRoot(ctx context.Context) (string, error) {
	next, err := s.rollover(ctx)
	if err != nil || next == nil {
		return "", err
	}
	return ca.SerialOf(next.New), nil
}

// seenChain records on which chain a session came, while the CSMS root is
// changed. A station that came on the new one trusts the new root: TLS proved it.
func (s *Service) seenChain(ctx context.Context, key string, under bool) error {
	next, err := s.nextRoot(ctx)
	if err != nil || next == "" && !under {
		return err
	}
	plan, err := s.store.Plan(ctx, key)
	if err != nil {
		return err
	}
	proves := under && next != "" && plan.ChainProven != next
	if plan.OnNewChain == under && !proves {
		return nil
	}
	_, err = s.store.UpdatePlan(ctx, key, func(p *Plan) ([]ledger.Event, error) {
		p.OnNewChain = under
		if !proves {
			return nil, nil
		}
		p.ChainProven = next
		delete(p.Tries, StepChain)
		return []ledger.Event{{Kind: "rollover.proven", Subject: key, Actor: "station:" + key, Data: map[string]string{"root": next}}}, nil
	})
	return err
}

// needsChain: the station is to connect once under the next root and has it, or
// was sent there and may come back.
func (s *Service) needsChain(ctx context.Context, sit *situation) bool {
	if sit.sess.Version() == ocpp.V16 || s.cfg.RolloverURL == "" || sit.st.Pending != nil {
		return false // a login is to decide a password first
	}
	next, err := s.nextRoot(ctx)
	if err != nil {
		return false
	}
	return s.goesThere(ctx, sit, next) || s.comesBack(sit)
}

func (s *Service) goesThere(ctx context.Context, sit *situation, next string) bool {
	return next != "" && sit.plan.ChainWanted == next && sit.plan.ChainProven != next && sit.adm.Profile > 1 && !s.needsRoots(ctx, sit)
}

// comesBack: a station that checks new roots by the old one has given the old
// one up once it connected under the new one (M05.FR.12 [2.x]): it stays where
// the new chain is served until that is everywhere.
func (s *Service) comesBack(sit *situation) bool {
	if sit.plan.ChainSlot == "" || !sit.adm.NewChain {
		return false
	}
	return !sit.plan.Limits.CrossSigned || s.cfg.Authority.RolloverState(ca.KindCSMS).Phase != ca.PhaseStarted
}

// moveChain sends the station to the listener that serves the chain of the next
// root, by a network profile before those in use, which stay behind it (B09,
// B10); once it was there, it sends it back.
func (s *Service) moveChain(ctx context.Context, sit *situation) (string, bool, error) {
	const what = "couldn't move the station to the chain of the next root"
	inSlots, err := keepsInSlots(ctx, sit)
	if err != nil {
		return what, false, err
	}
	if inSlots {
		return s.moveChainInSlots(ctx, sit)
	}
	priority, active, err := networkProfiles(ctx, sit.sess)
	if err != nil {
		return what, false, pointless(err)
	}
	if s.comesBack(sit) {
		if err := s.moveBack(ctx, sit, priority); err != nil {
			return "couldn't move the station back from the chain of the next root", false, pointless(err)
		}
		return cameBack, false, nil
	}
	if mine := sit.plan.ChainSlot; mine == "" || priority[0] != mine || mine == active {
		used := slices.DeleteFunc(slices.Clone(priority), func(n string) bool { return n == mine && n != active })
		slot, err := s.fillSlot(ctx, sit, slotPlan{profile: sit.adm.Profile, url: s.cfg.RolloverURL, mine: mine, note: func(p *Plan, slot string) { p.ChainSlot = slot }}, used, active)
		if err != nil {
			return what, false, pointless(err)
		}
		failpoint.Hit("fleet.plan-chain-filled")
		if err := setPriority(ctx, sit.sess, append([]string{slot}, used...)); err != nil {
			return what, false, pointless(err)
		}
	}
	if err := s.restart(ctx, sit.sess); err != nil {
		return what, false, pointless(err)
	}
	s.recordStep(ctx, sit.sess, "plan.chain", map[string]string{"root": sit.plan.ChainWanted})
	return wentThere, false, nil
}

const (
	wentThere = "asked to connect once under the next root"
	cameBack  = "asked to come back to the main listener"
)

// moveChainInSlots moves a station there, and back, with a new password each
// time: the network profile it left has one that nobody takes any more.
func (s *Service) moveChainInSlots(ctx context.Context, sit *situation) (string, bool, error) {
	if s.comesBack(sit) {
		if err := s.moveWithPassword(ctx, sit, slotPlan{profile: sit.adm.Profile, url: s.cfg.PublicURL}); err != nil {
			return "couldn't move the station back from the chain of the next root", false, pointless(err)
		}
		return cameBack, false, nil
	}
	if err := s.moveWithPassword(ctx, sit, slotPlan{profile: sit.adm.Profile, url: s.cfg.RolloverURL, note: func(p *Plan, slot string) { p.ChainSlot = slot }}); err != nil {
		return "couldn't move the station to the chain of the next root", false, pointless(err)
	}
	s.recordStep(ctx, sit.sess, "plan.chain", map[string]string{"root": sit.plan.ChainWanted})
	return wentThere, false, nil
}

// moveBack takes the slot out of the order. The slot itself stays: a station
// that can't come back would find its way again.
func (s *Service) moveBack(ctx context.Context, sit *situation, priority []string) error {
	rest := slices.DeleteFunc(slices.Clone(priority), func(n string) bool { return n == sit.plan.ChainSlot })
	if len(rest) == 0 {
		return errors.New("station has no other network profile left")
	}
	if err := setPriority(ctx, sit.sess, append(rest, sit.plan.ChainSlot)); err != nil {
		return err
	}
	return s.restart(ctx, sit.sess)
}

// chainDrift: a station that checks a server certificate and hasn't been seen
// under the next root.
func (s *Service) chainDrift(ctx context.Context, st *Station, plan *Plan) (*Drift, error) {
	next, err := s.nextRoot(ctx)
	if err != nil || next == "" || plan.ChainProven == next || max(st.SeenProfile, st.WantedProfile) < 2 {
		return nil, err
	}
	d := &Drift{Change: ChangeChain, Wanted: "root " + next, Seen: "not seen under it"}
	switch {
	case st.SeenProfile == 0:
		d.Unable = "it was never connected"
	case st.Version == ocpp.V16.String():
		d.Unable = "OCPP 1.6 has no message for it: give it the URL of the rollover listener by hand"
	case s.cfg.RolloverURL == "":
		d.Unable = "no listener has rollover: true"
	}
	return d, nil
}

// Unready is a station that isn't ready for the next CSMS root, and why.
type Unready struct {
	Identity string `json:"identity"`
	Why      string `json:"why"`
	// Reported says that it has listed the new root.
	Reported bool `json:"reported"`
}

// Readiness for the next CSMS root, of the stations that check a server
// certificate. Ready is one that listed the new root and has connected under it.
type Readiness struct {
	Stations int
	Ready    int
	Unready  []Unready
	// Stranded are those that couldn't follow the old chain any more if it were
	// served again: they give the old root up once they came under the new one.
	Stranded []string
}

// RolloverReadiness tells who is ready for the change of the CSMS root that is
// under way; zero without one.
func (s *Service) RolloverReadiness(ctx context.Context) (Readiness, error) {
	var out Readiness
	next, err := s.rollover(ctx)
	if err != nil || next == nil {
		return out, err
	}
	stations, err := s.Stations(ctx)
	if err != nil {
		return out, err
	}
	t := target{use: RootCSMS, root: next.New, cross: next.Cross, old: next.Old}
	state := s.cfg.Authority.RolloverState(ca.KindCSMS)
	for i := range stations {
		st := &stations[i]
		if st.SeenProfile == 1 && st.WantedProfile == 1 {
			continue
		}
		out.Stations++
		plan, err := s.store.Plan(ctx, keyOf(st))
		if err != nil {
			return out, fmt.Errorf("couldn't read the plan of %q: %w", st.Identity, err)
		}
		reported := t.installed(&plan)
		if reported && plan.ChainProven == ca.SerialOf(next.New) {
			out.Ready++
		} else {
			out.Unready = append(out.Unready, Unready{st.Identity, unreadyWhy(st, reported), reported})
		}
		holdsOld := slices.ContainsFunc(plan.Seen[RootCSMS], func(r SeenRoot) bool { return hashdata.Names(r.CertificateHashData, next.Old, next.Old) })
		gaveUp := plan.Limits.CrossSigned && reported && !plan.OnNewChain &&
			(plan.ChainProven != "" || state.Phase == ca.PhaseSwitched && st.SeenAt.After(state.At)) && !(holdsOld && plan.SeenAt.After(state.At))
		if gaveUp {
			out.Stranded = append(out.Stranded, st.Identity)
		}
	}
	return out, nil
}

func unreadyWhy(st *Station, reported bool) string {
	switch {
	case st.SeenAt.IsZero():
		return "it was never connected"
	case !reported:
		return "it hasn't reported the new root; last seen " + st.SeenAt.UTC().Format(time.RFC3339)
	case st.Version == ocpp.V16.String():
		return "it reported the new root; OCPP 1.6 has no message that moves it to the rollover listener"
	}
	return "it reported the new root and hasn't connected to the rollover listener"
}

// retired says whether a root a station reported is one of ours from before the
// last change.
func (s *Service) retired(r SeenRoot) bool {
	return slices.ContainsFunc(s.cfg.Authority.RetiredRoots(ca.KindCSMS), func(c *x509.Certificate) bool {
		return hashdata.Names(r.CertificateHashData, c, c)
	})
}
