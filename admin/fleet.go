package admin

import (
	"context"
	"encoding/pem"
	"strings"
	"time"

	"bollard/fleet"
	"bollard/internal/rollout"
)

// Want changes what is wanted of a group; nil fields stay as they are, a zero
// value withdraws the want.
type Want struct {
	Group           string            `json:"group"`
	Match           *fleet.GroupMatch `json:"match,omitempty"`
	Profile         *int              `json:"profile,omitempty"`
	PasswordAge     *time.Duration    `json:"password_age,omitempty"`
	CertificateType *string           `json:"certificate_type,omitempty"`
	CertificateLife *time.Duration    `json:"certificate_life,omitempty"`
	Roots           *[]GroupRoot      `json:"roots,omitempty"`
	Backend         *string           `json:"backend,omitempty"`
	TimeSource      *string           `json:"time_source,omitempty"`
	Remove          bool              `json:"remove,omitempty"` // the group itself
}

// GroupRoot is a root wanted on the stations of a group; without PEM it is
// Bollard's own of this use.
type GroupRoot struct {
	Use string `json:"use"`
	PEM string `json:"pem,omitempty"`
}

// Groups are all groups by name.
type Groups struct {
	Groups []fleet.Group `json:"groups"`
}

// FleetScope selects what a plan or rollout is about.
type FleetScope struct {
	Group string         `json:"group,omitempty"` // "": all
	Only  []fleet.Change `json:"only,omitempty"`  // none: all changes
	Renew bool           `json:"renew,omitempty"` // certificates made before now
}

// FleetPlan is the dry run.
type FleetPlan struct {
	Stations []fleet.Planned `json:"stations"`
	Changed  int             `json:"changed"` // that a rollout would take in
	Unable   int             `json:"unable"`  // that only differ in what can't be changed
}

// FleetRun begins a rollout.
type FleetRun struct {
	FleetScope
	Rules rollout.Rules `json:"rules"`
}

// RolloutRef names a rollout by the beginning of its ID; "" is the newest.
type RolloutRef struct {
	ID     string `json:"id,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Rollout is how far a rollout is.
type Rollout struct {
	ID       string                `json:"id"`
	At       time.Time             `json:"at"`
	By       string                `json:"by"`
	Group    string                `json:"group,omitempty"`
	Only     []fleet.Change        `json:"only,omitempty"`
	Renew    bool                  `json:"renew,omitempty"`
	Phase    rollout.Phase         `json:"phase"`
	Why      string                `json:"why,omitempty"`
	Wave     int                   `json:"wave"` // present one, from 1
	Waves    int                   `json:"waves"`
	Rules    rollout.Rules         `json:"rules"`
	Count    map[rollout.State]int `json:"count"`
	Stations []RolloutStation      `json:"stations,omitempty"` // of fleet.status alone
}

// RolloutStation is one station of a rollout.
type RolloutStation struct {
	Station string        `json:"station"` // its key
	Wave    int           `json:"wave"`
	State   rollout.State `json:"state"`
	At      time.Time     `json:"at"`
	Note    string        `json:"note,omitempty"`
}

// Rollouts is a list, newest first.
type Rollouts struct {
	Rollouts []Rollout `json:"rollouts"`
}

// StationGroup labels a station; nil stays as it is.
type StationGroup struct {
	Identity string  `json:"identity"`
	Group    *string `json:"group,omitempty"`
	Site     *string `json:"site,omitempty"`
}

func (o *operations) registerFleet(r *Registry) {
	Register(r, "fleet.want", o.fleetWant)
	Register(r, "fleet.groups", o.fleetGroups)
	Register(r, "fleet.plan", o.fleetPlan)
	Register(r, "fleet.run", o.fleetRun)
	Register(r, "fleet.list", o.fleetList)
	Register(r, "fleet.status", o.fleetStatus)
	Register(r, "fleet.pause", o.decision((*fleet.Controller).Pause))
	Register(r, "fleet.resume", o.decision((*fleet.Controller).Resume))
	Register(r, "fleet.cancel", o.decision((*fleet.Controller).Cancel))
	Register(r, "station.group", o.stationGroup)
}

func (o *operations) fleetGroups(ctx context.Context, _ None) (Groups, error) {
	list, err := o.cfg.Controller.Groups(ctx)
	return Groups{Groups: list}, err
}

// fleetWant reads, changes and stores a group; two at once would lose one, and
// an operator sees by the answer what holds.
func (o *operations) fleetWant(ctx context.Context, in Want) (fleet.Group, error) {
	groups, err := o.cfg.Controller.Groups(ctx)
	if err != nil {
		return fleet.Group{}, err
	}
	if in.Remove {
		return fleet.Group{Name: in.Group}, o.cfg.Controller.RemoveGroup(ctx, Actor(ctx), in.Group)
	}
	g := fleet.Group{Name: in.Group}
	for _, known := range groups {
		if known.Name == in.Group {
			g = known
		}
	}
	set(&g.Match, in.Match)
	set(&g.Wants.Profile, in.Profile)
	set(&g.Wants.PasswordAge, in.PasswordAge)
	set(&g.Wants.CertificateType, in.CertificateType)
	set(&g.Wants.CertificateLife, in.CertificateLife)
	set(&g.Wants.Backend, in.Backend)
	set(&g.Wants.TimeSource, in.TimeSource)
	if in.Roots != nil {
		if g.Wants.Roots, err = wantedRoots(*in.Roots); err != nil {
			return fleet.Group{}, err
		}
	}
	return o.cfg.Controller.Want(ctx, Actor(ctx), g)
}

func set[T any](into, from *T) {
	if from != nil {
		*into = *from
	}
}

func wantedRoots(list []GroupRoot) ([]fleet.WantedRoot, error) {
	var roots []fleet.WantedRoot
	for _, r := range list {
		w := fleet.WantedRoot{Use: r.Use, Own: r.PEM == ""}
		if !w.Own {
			block, rest := pem.Decode([]byte(r.PEM))
			if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
				return nil, Usagef("give one PEM certificate in each file", "the %s root can't be read", r.Use)
			}
			w.DER = block.Bytes
		}
		roots = append(roots, w)
	}
	return roots, nil
}

func (s *FleetScope) scope() fleet.Scope {
	return fleet.Scope{Group: s.Group, Only: s.Only, Renew: s.Renew}
}

func (o *operations) fleetPlan(ctx context.Context, in FleetScope) (FleetPlan, error) {
	list, _, err := o.cfg.Controller.Plan(ctx, in.scope())
	if err != nil {
		return FleetPlan{}, err
	}
	out := FleetPlan{Stations: list}
	for _, p := range list {
		able := false
		for _, d := range p.Drift {
			able = able || d.Unable == ""
		}
		if able {
			out.Changed++
		} else {
			out.Unable++
		}
	}
	return out, nil
}

func (o *operations) fleetRun(ctx context.Context, in FleetRun) (Rollout, error) {
	if err := in.Rules.Validate(); err != nil {
		return Rollout{}, Usagef("`bollard fleet run --help` shows the limits", "%w", err)
	}
	p, err := o.cfg.Controller.Start(ctx, Actor(ctx), in.scope(), in.Rules)
	return shownRollout(p), err
}

func (o *operations) fleetList(ctx context.Context, _ None) (Rollouts, error) {
	list, err := o.cfg.Controller.Rollouts(ctx)
	out := Rollouts{Rollouts: []Rollout{}}
	for _, p := range list {
		out.Rollouts = append(out.Rollouts, shownRollout(p))
	}
	return out, err
}

func (o *operations) fleetStatus(ctx context.Context, in RolloutRef) (Rollout, error) {
	p, err := o.cfg.Controller.Rollout(ctx, in.ID)
	return shownRollout(p), err
}

func (o *operations) decision(f func(c *fleet.Controller, ctx context.Context, actor, id, reason string) (fleet.Progress, error)) func(context.Context, RolloutRef) (Rollout, error) {
	return func(ctx context.Context, in RolloutRef) (Rollout, error) {
		p, err := f(o.cfg.Controller, ctx, Actor(ctx), in.ID, in.Reason)
		return shownRollout(p), err
	}
}

func shownRollout(p fleet.Progress) Rollout {
	h := p.Header
	out := Rollout{ID: p.ID, At: p.At, By: p.By, Group: p.Group, Only: p.Only, Renew: p.Renew,
		Phase: h.Phase, Why: h.Why, Wave: h.Wave + 1, Waves: len(h.Rules.Waves), Rules: h.Rules, Count: p.Count}
	for _, m := range p.Members {
		out.Stations = append(out.Stations, RolloutStation{Station: m.ID, Wave: m.Wave + 1, State: m.State, At: m.At, Note: m.Note})
	}
	return out
}

func (o *operations) stationGroup(ctx context.Context, in StationGroup) (Station, error) {
	if in.Group == nil && in.Site == nil {
		return Station{}, Usagef("give a group, a site, or both", "nothing is to be changed")
	}
	s, err := o.cfg.Fleet.SetGroup(ctx, Actor(ctx), in.Identity, in.Group, in.Site)
	if err != nil {
		return Station{}, err
	}
	return o.station(s), nil
}
