package admin

import (
	"cmp"
	"context"
	"slices"
	"time"

	"bollard/fleet"
)

// PlanStep is how far one step of a station's plan is.
type PlanStep struct {
	Step    string    `json:"step"`
	Tries   int       `json:"tries"`
	Next    time.Time `json:"next"`
	Note    string    `json:"note,omitempty"`
	Stopped bool      `json:"stopped,omitempty"` // until the operator asks again
}

// Root is a root certificate a station reported, or one wanted on it.
type Root struct {
	Use       string `json:"use"`
	ID        string `json:"id,omitempty"`
	Serial    string `json:"serial,omitempty"`
	Algorithm string `json:"hash_algorithm,omitempty"`
	Dropped   bool   `json:"dropped,omitempty"` // it is to go
}

// StationRoots changes the roots wanted on a station, or only asks for them.
type StationRoots struct {
	Identity string `json:"identity"`
	Use      string `json:"use,omitempty"`  // with Own or PEM
	Own      bool   `json:"own,omitempty"`  // Bollard's root of this use
	PEM      string `json:"pem,omitempty"`  // another root
	Drop     string `json:"drop,omitempty"` // beginning of a reported root's id
	Look     bool   `json:"look,omitempty"` // have the station report them anew
}

// RootsOfStation are the roots as the station reported them last.
type RootsOfStation struct {
	Identity string     `json:"identity"`
	SeenAt   *time.Time `json:"seen_at,omitempty"`
	Roots    []Root     `json:"roots"`
}

func (o *operations) stationRotate(ctx context.Context, in StationRef) (Station, error) {
	s, err := o.cfg.Fleet.Rotate(ctx, Actor(ctx), in.Identity)
	return o.station(s), err
}

func (o *operations) stationRoots(ctx context.Context, in StationRoots) (RootsOfStation, error) {
	var plan fleet.Plan
	var err error
	switch {
	case in.Own:
		plan, err = o.cfg.Fleet.WantRoot(ctx, Actor(ctx), in.Identity, in.Use, nil)
	case in.PEM != "":
		plan, err = o.cfg.Fleet.WantRoot(ctx, Actor(ctx), in.Identity, in.Use, []byte(in.PEM))
	case in.Drop != "":
		plan, err = o.cfg.Fleet.DropRoot(ctx, Actor(ctx), in.Identity, in.Drop)
	case in.Look:
		plan, err = o.cfg.Fleet.LookRoots(ctx, in.Identity)
	default:
		plan, err = o.cfg.Fleet.Plan(ctx, in.Identity)
	}
	if err != nil {
		return RootsOfStation{}, err
	}
	return RootsOfStation{Identity: in.Identity, SeenAt: instant(plan.SeenAt), Roots: seenRoots(&plan)}, nil
}

func seenRoots(plan *fleet.Plan) []Root {
	list := []Root{}
	for use, roots := range plan.Seen {
		for _, r := range roots {
			id := r.ID()
			list = append(list, Root{Use: use, ID: id, Serial: r.SerialNumber, Algorithm: r.HashAlgorithm,
				Dropped: slices.ContainsFunc(plan.Wanted, func(w fleet.WantedRoot) bool { return w.Use == use && w.Drop == id })})
		}
	}
	slices.SortFunc(list, func(a, b Root) int { return cmp.Or(cmp.Compare(a.Use, b.Use), cmp.Compare(a.ID, b.ID)) })
	return list
}

func planSteps(plan *fleet.Plan) []PlanStep {
	var list []PlanStep
	for name, t := range plan.Tries {
		list = append(list, PlanStep{Step: string(name), Tries: t.Count, Next: t.Next, Note: t.Note, Stopped: t.Stopped})
	}
	slices.SortFunc(list, func(a, b PlanStep) int { return cmp.Compare(a.Step, b.Step) })
	return list
}
