package admin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/fleet"
)

// Rollover asks for a step of a root change.
type Rollover struct {
	Kind string `json:"kind"`
	Step string `json:"step"` // show, start, abort, switch, back, finish
	// Share of the stations that must be ready for a switch of the csms root.
	Share float64 `json:"share,omitempty"`
	// Chain and List, with start, are what a root made elsewhere gave the CAs here, with
	// itself, and its revocation list; Cross is that root as the present one certified it,
	// whose key is offline, too.
	Chain []File `json:"chain,omitempty"`
	List  File   `json:"list,omitzero"`
	Cross File   `json:"cross,omitzero"`
	// Force takes the step though stations are left that it could lock out.
	Force bool `json:"force,omitempty"`
}

// RolloverState is how far a root change is.
type RolloverState struct {
	Kind       string     `json:"kind"`
	Generation int        `json:"generation"` // of the new root; 0: never changed
	Phase      string     `json:"phase"`      // "", preparing, started, switched, finished, abandoned
	At         *time.Time `json:"at,omitempty"`
	Roots      string     `json:"roots"`           // PEM: trusted roots, the served one first
	Cross      string     `json:"cross,omitempty"` // PEM: the new root certified by the old one
	// While the csms root changes: stations that reported the new root, and the
	// identities of those that haven't.
	Moved   int      `json:"moved,omitempty"`
	Waiting []string `json:"waiting,omitempty"`
	// Stations that check a server certificate, those of them that reported the
	// new root and connected under it, and the others with the reason.
	Stations int             `json:"stations,omitempty"`
	Ready    int             `json:"ready,omitempty"`
	Unready  []fleet.Unready `json:"unready,omitempty"`
}

// File is a file's content, and its name for errors.
type File struct {
	Name string `json:"name,omitempty"`
	Data []byte `json:"data"`
}

// RolloverSteps are what Rollover.Step may be.
func RolloverSteps() []string { return []string{"start", "abort", "switch", "back", "finish", "show"} }

// caCreate makes a further hierarchy.
func (o *operations) caCreate(ctx context.Context, in KindRef) (PEM, error) {
	if !slices.Contains(Kinds(), in.Kind) {
		return PEM{}, Usagef("kinds that can be made are "+strings.Join(Kinds(), ", "), "there is no kind of hierarchy %q to make", in.Kind)
	}
	if err := o.cfg.Authority.Create(ctx, ca.Kind(in.Kind), Actor(ctx)); err != nil {
		if errors.Is(err, ca.ErrHierarchyExists) {
			return PEM{}, Refusedf("`bollard ca show` lists the hierarchies there are", "%w", err)
		}
		return PEM{}, err
	}
	return o.caRoot(ctx, in)
}

func (o *operations) caRollover(ctx context.Context, in Rollover) (RolloverState, error) {
	if _, err := o.roots(in.Kind); err != nil {
		return RolloverState{}, err
	}
	kind := ca.Kind(in.Kind)
	var err error
	switch in.Step {
	case "show":
	case "start":
		if err = o.mayStart(kind, in.Force); err != nil {
			break
		}
		if in.Chain == nil && in.List.Data == nil && in.Cross.Data == nil {
			_, err = o.cfg.Authority.Rollover(ctx, kind, Actor(ctx))
		} else {
			var chain []ca.File
			for _, f := range in.Chain {
				chain = append(chain, ca.File(f))
			}
			_, err = o.cfg.Authority.RolloverTo(ctx, kind, ca.RootElsewhere{Chain: chain, List: ca.File(in.List), Cross: ca.File(in.Cross)}, Actor(ctx))
		}
	case "abort":
		_, err = o.cfg.Authority.AbandonRollover(ctx, kind, Actor(ctx))
	case "switch":
		if err = o.maySwitch(ctx, kind, in.Share, in.Force); err == nil {
			_, err = o.cfg.Authority.SwitchRollover(ctx, kind, Actor(ctx))
		}
	case "back":
		if err = o.mayGoBack(ctx, kind, in.Force); err == nil {
			_, err = o.cfg.Authority.SwitchBack(ctx, kind, Actor(ctx))
		}
	case "finish":
		if err = o.mayFinish(ctx, kind, in.Force); err == nil {
			_, err = o.cfg.Authority.FinishRollover(ctx, kind, Actor(ctx))
		}
	default:
		return RolloverState{}, Usagef("steps are "+strings.Join(RolloverSteps(), ", "), "a root change has no step %q", in.Step)
	}
	if errors.Is(err, ca.ErrRollover) {
		return RolloverState{}, Refusedf("`bollard ca rollover "+in.Kind+" show` tells how far it is", "%w", err)
	}
	if err != nil {
		return RolloverState{}, err
	}
	now := o.cfg.Authority.RolloverState(kind)
	out := RolloverState{
		Kind: in.Kind, Generation: now.Generation, Phase: string(now.Phase), At: instant(now.At),
		Roots: encodePEM(o.cfg.Authority.Roots(kind)...),
	}
	if cross := o.cfg.Authority.CrossRoot(kind); cross != nil {
		out.Cross = encodePEM(cross)
	}
	if kind == ca.KindCSMS {
		out.Moved, out.Waiting, err = o.cfg.Fleet.RolloverMoved(ctx)
		if err != nil {
			return out, err
		}
		var r fleet.Readiness
		r, err = o.cfg.Fleet.RolloverReadiness(ctx)
		out.Stations, out.Ready, out.Unready = r.Stations, r.Ready, r.Unready
	}
	return out, err
}

// mayStart refuses a next root that wouldn't certify a CA whose key moved: who has a
// certificate of it couldn't be followed any more.
func (o *operations) mayStart(kind ca.Kind, force bool) error {
	unread := o.cfg.Authority.Unread(kind)
	if force || len(unread) == 0 {
		return nil
	}
	return Refusedf("bring the key back (the log of the start says which doesn't open, and where it was) and restart, or renew what it issued (`bollard station renew`) and --force",
		"the key of %s doesn't open: the next root wouldn't certify it, and nobody would follow what it issued once the change is finished", unread[0])
}

// maySwitch refuses to serve the new chain while fewer stations than decided
// have shown that they can follow it.
func (o *operations) maySwitch(ctx context.Context, kind ca.Kind, share float64, force bool) error {
	if kind != ca.KindCSMS || force || o.cfg.Authority.RolloverState(kind).Phase != ca.PhaseStarted {
		return nil
	}
	r, err := o.cfg.Fleet.RolloverReadiness(ctx)
	if err != nil || float64(r.Ready) >= share*float64(r.Stations) {
		return err
	}
	return Refusedf("`bollard ca rollover csms show` names the others, `bollard fleet run --only chain` moves those that can be moved; --force switches all the same",
		"%d of %d stations are ready, %.4g %% are wanted", r.Ready, r.Stations, 100*share)
}

// mayGoBack refuses to serve the old chain again to stations that gave the old
// root up for the new one.
func (o *operations) mayGoBack(ctx context.Context, kind ca.Kind, force bool) error {
	if kind != ca.KindCSMS || force || o.cfg.Authority.RolloverState(kind).Phase != ca.PhaseSwitched {
		return nil
	}
	r, err := o.cfg.Fleet.RolloverReadiness(ctx)
	if err != nil || len(r.Stranded) == 0 {
		return err
	}
	return Refusedf("`bollard station roots ID --refresh` asks one which roots it has; give them the URL of the rollover listener first, or --force",
		"%d stations gave the old root up when they followed the new one and couldn't connect any more, such as %q", len(r.Stranded), r.Stranded[0])
}

// mayFinish refuses the end of a CSMS root that stations still need: those
// without the new one couldn't connect any more.
func (o *operations) mayFinish(ctx context.Context, kind ca.Kind, force bool) error {
	if kind != ca.KindCSMS || force || o.cfg.Authority.RolloverState(kind).Phase != ca.PhaseSwitched {
		return nil
	}
	_, waiting, err := o.cfg.Fleet.RolloverMoved(ctx)
	if err != nil || len(waiting) == 0 {
		return err
	}
	return Refusedf("`bollard ca rollover csms show` lists them, `bollard station roots ID` says what one reported; --force finishes all the same",
		"%d stations haven't reported the new root and couldn't connect any more, such as %q", len(waiting), waiting[0])
}
