package admin

import (
	"context"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"time"

	"bollard/fleet"
	"bollard/internal/rollout"
)

// Want changes what is wanted of a group, or of one station; nil fields stay as
// they are, a zero value withdraws the want.
type Want struct {
	Group           string            `json:"group,omitempty"`
	Station         string            `json:"station,omitempty"` // instead of a group
	Match           *fleet.GroupMatch `json:"match,omitempty"`
	Profile         *int              `json:"profile,omitempty"`
	PasswordAge     *time.Duration    `json:"password_age,omitempty"`
	CertificateType *string           `json:"certificate_type,omitempty"`
	CertificateLife *time.Duration    `json:"certificate_life,omitempty"`
	Roots           *[]GroupRoot      `json:"roots,omitempty"`
	Backend         *string           `json:"backend,omitempty"`
	TimeSource      *string           `json:"time_source,omitempty"`
	Quotes          *time.Duration    `json:"quotes,omitempty"`
	Attested        *string           `json:"attested,omitempty"`
	Remove          bool              `json:"remove,omitempty"` // the group itself, or all that is the station's own
}

// Wanted is what is wanted of a group or station now.
type Wanted struct {
	fleet.Group
	Station string `json:"station,omitempty"`
}

// StationWants are what is wanted of one station in place of its group's.
type StationWants struct {
	Station string      `json:"station"` // its key
	Wants   fleet.Wants `json:"wants"`
}

// GroupRoot is a root wanted on the stations of a group; without PEM it is
// Bollard's own of this use.
type GroupRoot struct {
	Use string `json:"use"`
	PEM string `json:"pem,omitempty"`
}

// Groups are all groups by name, and the stations of which something is wanted
// beside.
type Groups struct {
	Groups   []fleet.Group  `json:"groups"`
	Stations []StationWants `json:"stations"`
}

// FleetScope selects what a plan or rollout is about.
type FleetScope struct {
	Group   string         `json:"group,omitempty"`   // "": all
	Station string         `json:"station,omitempty"` // one alone; "": all
	Only    []fleet.Change `json:"only,omitempty"`    // none: all changes
	Renew   bool           `json:"renew,omitempty"`   // certificates made before now
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
	Station  string                `json:"station,omitempty"`
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
	Hardware *string `json:"hardware,omitempty"`
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
	if err != nil {
		return Groups{}, err
	}
	own, err := o.cfg.Controller.OwnWants(ctx)
	out := Groups{Groups: list, Stations: []StationWants{}}
	for _, key := range slices.Sorted(maps.Keys(own)) {
		out.Stations = append(out.Stations, StationWants{key, own[key]})
	}
	return out, err
}

// fleetWant reads, changes and stores what is wanted of a group; two at once would
// lose one, and an operator sees by the answer what holds.
func (o *operations) fleetWant(ctx context.Context, in Want) (Wanted, error) {
	if b := in.Backend; b != nil && *b != "" && o.cfg.Backends != nil && !slices.Contains(o.cfg.Backends(), *b) {
		return Wanted{}, Usagef("there are "+strings.Join(o.cfg.Backends(), ", "), "bollard.yaml has no back end %.64q", *b)
	}
	switch {
	case (in.Group == "") == (in.Station == ""):
		return Wanted{}, Usagef("`bollard fleet want --help` shows both", "give a group or a station")
	case in.Station != "":
		return o.stationWant(ctx, in)
	case in.Remove:
		return Wanted{Group: fleet.Group{Name: in.Group}}, o.cfg.Controller.RemoveGroup(ctx, Actor(ctx), in.Group)
	}
	groups, err := o.cfg.Controller.Groups(ctx)
	if err != nil {
		return Wanted{}, err
	}
	g := fleet.Group{Name: in.Group}
	for _, known := range groups {
		if known.Name == in.Group {
			g = known
		}
	}
	set(&g.Match, in.Match)
	if err := in.change(&g.Wants); err != nil {
		return Wanted{}, err
	}
	g, err = o.cfg.Controller.Want(ctx, Actor(ctx), g)
	return Wanted{Group: g}, err
}

func (o *operations) stationWant(ctx context.Context, in Want) (Wanted, error) {
	if in.Match != nil {
		return Wanted{}, Usagef("", "a match is for groups: one station is named")
	}
	wants, err := o.cfg.Controller.WantStation(ctx, Actor(ctx), in.Station, func(w *fleet.Wants) error {
		if in.Remove {
			*w = fleet.Wants{}
		}
		return in.change(w)
	})
	return Wanted{Station: in.Station, Group: fleet.Group{Wants: wants}}, err
}

func (in *Want) change(w *fleet.Wants) (err error) {
	set(&w.Profile, in.Profile)
	set(&w.PasswordAge, in.PasswordAge)
	set(&w.CertificateType, in.CertificateType)
	set(&w.CertificateLife, in.CertificateLife)
	set(&w.Backend, in.Backend)
	set(&w.TimeSource, in.TimeSource)
	set(&w.Quotes, in.Quotes)
	set(&w.Attested, in.Attested)
	if in.Roots != nil {
		w.Roots, err = wantedRoots(*in.Roots)
	}
	return err
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
	return fleet.Scope{Group: s.Group, Station: s.Station, Only: s.Only, Renew: s.Renew}
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
	out := Rollout{ID: p.ID, At: p.At, By: p.By, Group: p.Group, Station: p.Station, Only: p.Only, Renew: p.Renew,
		Phase: h.Phase, Why: h.Why, Wave: h.Wave + 1, Waves: len(h.Rules.Waves), Rules: h.Rules, Count: p.Count}
	for _, m := range p.Members {
		out.Stations = append(out.Stations, RolloutStation{Station: m.ID, Wave: m.Wave + 1, State: m.State, At: m.At, Note: m.Note})
	}
	return out
}

func (o *operations) stationGroup(ctx context.Context, in StationGroup) (Station, error) {
	if in.Group == nil && in.Site == nil && in.Hardware == nil {
		return Station{}, Usagef("give a group, a site, a hardware revision, or several", "nothing is to be changed")
	}
	s, err := o.cfg.Fleet.SetLabels(ctx, Actor(ctx), in.Identity, fleet.Labels{Group: in.Group, Site: in.Site, Hardware: in.Hardware})
	if err != nil {
		return Station{}, err
	}
	return o.station(s), nil
}
