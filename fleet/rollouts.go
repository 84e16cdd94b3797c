package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"bollard/internal/rollout"
	"bollard/ledger"
)

// Want stores what is wanted of a group. Nothing is done about it before a
// rollout.
func (c *Controller) Want(ctx context.Context, actor string, g Group) (Group, error) {
	if err := cmp.Or(g.validate(), c.service.checkWants(&g.Wants)); err != nil {
		return Group{}, err
	}
	g.ChangedAt = c.service.clock()
	wants, err := json.Marshal(struct {
		Match GroupMatch `json:"match,omitzero"`
		Wants Wants      `json:"wants"`
	}{g.Match, withoutDER(g.Wants)})
	if err != nil {
		return Group{}, err
	}
	event := ledger.Event{Kind: "fleet.wanted", Subject: g.Name, Actor: actor, Data: map[string]string{"group": fact(string(wants))}}
	if err := c.service.groups.change(func() error { return c.store.PutGroup(ctx, g, event) }); err != nil {
		return Group{}, fmt.Errorf("couldn't store the group: %w", err)
	}
	return g, nil
}

// WantStation changes what is wanted of one station in place of what is wanted of
// its group; what is zero is as its group has it, and all zero is nothing. Nothing
// is done about it before a rollout.
func (c *Controller) WantStation(ctx context.Context, actor, identity string, change func(*Wants) error) (Wants, error) {
	key, err := c.service.key(identity)
	if err != nil {
		return Wants{}, err
	}
	var wants Wants
	_, err = c.service.store.UpdatePlan(ctx, key, func(p *Plan) ([]ledger.Event, error) {
		if wants = (Wants{}); p.Own != nil {
			wants = *p.Own
		}
		if err := change(&wants); err != nil {
			return nil, err
		}
		if err := cmp.Or(wants.validate(), c.service.checkWants(&wants)); err != nil {
			return nil, err
		}
		text, err := json.Marshal(withoutDER(wants))
		if err != nil {
			return nil, err
		}
		if p.Own = &wants; string(text) == "{}" {
			p.Own = nil
		}
		return []ledger.Event{{Kind: "fleet.wanted", Subject: key, Actor: actor, Data: map[string]string{"station": fact(string(text))}}}, nil
	})
	if err != nil {
		return Wants{}, fmt.Errorf("couldn't store what is wanted of %q: %w", identity, err)
	}
	return wants, nil
}

// OwnWants are what is wanted of single stations, by key.
func (c *Controller) OwnWants(ctx context.Context) (map[string]Wants, error) {
	plans, err := c.store.Plans(ctx)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the stations' plans: %w", err)
	}
	return ownOf(plans), nil
}

func ownOf(plans map[string]Plan) map[string]Wants {
	own := map[string]Wants{}
	for key, p := range plans {
		if p.Own != nil {
			own[key] = *p.Own
		}
	}
	return own
}

// withoutDER names roots by use alone: certificates are too long for the ledger.
func withoutDER(w Wants) Wants {
	w.Roots = slices.Clone(w.Roots)
	for i := range w.Roots {
		w.Roots[i].DER = nil
	}
	return w
}

// Groups returns the groups by name.
func (c *Controller) Groups(ctx context.Context) ([]Group, error) {
	groups, err := c.store.Groups(ctx)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the groups: %w", err)
	}
	return groups, nil
}

// RemoveGroup forgets what is wanted of a group; its stations stay as they are.
func (c *Controller) RemoveGroup(ctx context.Context, actor, name string) error {
	return c.service.groups.change(func() error {
		return c.store.RemoveGroup(ctx, name, ledger.Event{Kind: "fleet.group-removed", Subject: name, Actor: actor})
	})
}

// GroupOf names the group whose wants hold for a station now, "" without one. It
// is asked for single messages.
func (c *Controller) GroupOf(ctx context.Context, key string) (string, error) {
	st, err := c.service.store.Station(ctx, key)
	if err != nil {
		return "", err
	}
	return c.GroupOfStation(ctx, &st)
}

// GroupOfStation is GroupOf for a record at hand.
func (c *Controller) GroupOfStation(ctx context.Context, st *Station) (string, error) {
	groups, err := c.service.groups.get(ctx, c.service.store)
	if err != nil {
		return "", err
	}
	if g := groupOf(groups, st); g != nil {
		return g.Name, nil
	}
	return "", nil
}

// Labels are what the operator says of a station; nil leaves one as it is, "" takes
// it away.
type Labels struct{ Group, Site, Hardware *string }

// SetLabels labels a station with its group, and says where it stands and what
// revision it is of.
func (s *Service) SetLabels(ctx context.Context, actor, identity string, labels Labels) (Station, error) {
	key, err := s.key(identity)
	if err != nil {
		return Station{}, err
	}
	return s.update(ctx, key, func(st *Station) ([]ledger.Event, error) {
		data := map[string]string{}
		for _, l := range []struct {
			name     string
			to, from *string
		}{{"group", &st.Group, labels.Group}, {"site", &st.Site, labels.Site}, {"hardware", &st.Hardware, labels.Hardware}} {
			if l.from != nil {
				*l.to, data[l.name] = *l.from, *l.from
			}
		}
		if err := checkLabels(st); err != nil {
			return nil, err
		}
		return []ledger.Event{{Kind: "station.group", Subject: key, Actor: actor, Data: data}}, nil
	})
}

func checkLabels(st *Station) error {
	if !printable(st.Group, maxGroupName) || !printable(st.Site, maxGroupName) || !printable(st.Hardware, maxGroupName) {
		return badInput("group, site and hardware of %q: give at most %d printable characters", st.Identity, maxGroupName)
	}
	return nil
}

// Scope selects what a rollout is about.
type Scope struct {
	Group   string   // "": all groups
	Station string   // one alone; "": all
	Only    []Change // empty: all changes
	// Renew renews every certificate made before the rollout.
	Renew bool
}

// Planned is one station with what a rollout would change of it.
type Planned struct {
	Station string  `json:"station"`
	Group   string  `json:"group"`
	Site    string  `json:"site,omitempty"`
	Online  bool    `json:"online"`
	Drift   []Drift `json:"drift"`

	kind string // vendor and model
}

// Plan is the dry run: every station in scope that isn't as it is wanted, with
// what would be changed and why. wanted is what they were compared with.
func (c *Controller) Plan(ctx context.Context, scope Scope) (list []Planned, wanted Wanted, err error) {
	for _, change := range scope.Only {
		if !slices.Contains(Changes(), change) {
			return nil, Wanted{}, fmt.Errorf("no change %q: there are %v", capped(string(change)), Changes())
		}
	}
	if wanted.Groups, err = c.Groups(ctx); err != nil {
		return nil, Wanted{}, err
	}
	if scope.Group != "" && !slices.ContainsFunc(wanted.Groups, func(g Group) bool { return g.Name == scope.Group }) {
		return nil, Wanted{}, fmt.Errorf("group %q: %w", capped(scope.Group), ErrUnknownGroup)
	}
	stations, err := c.inScope(ctx, scope.Station)
	if err != nil {
		return nil, Wanted{}, err
	}
	plans, err := c.store.Plans(ctx)
	if err != nil {
		return nil, Wanted{}, fmt.Errorf("couldn't read the stations' plans: %w", err)
	}
	wanted.Own = ownOf(plans)
	present := c.present()
	list = []Planned{}
	for i := range stations {
		st := &stations[i]
		wants, group, has := wanted.of(st)
		if scope.Group != "" && group != scope.Group || !has && !scope.Renew && !slices.Contains(scope.Only, ChangeChain) {
			continue
		}
		a := aim{wants: wants, only: scope.Only}
		if scope.Renew {
			a.since = c.service.clock()
		}
		plan := plans[keyOf(st)]
		drift, err := c.service.drift(ctx, st, &plan, &a)
		if err != nil {
			return nil, Wanted{}, err
		}
		if len(drift) > 0 {
			list = append(list, Planned{Station: st.Identity, Group: group, Site: st.Site, Online: present(keyOf(st)), Drift: drift, kind: st.Vendor + " " + st.Model})
		}
	}
	return list, wanted, nil
}

// inScope are all stations, or the one that is named.
func (c *Controller) inScope(ctx context.Context, identity string) ([]Station, error) {
	if identity != "" {
		st, err := c.service.Station(ctx, identity)
		return []Station{st}, err
	}
	stations, err := c.service.store.Stations(ctx)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the stations: %w", err)
	}
	return stations, nil
}

// Start begins a rollout over all that Plan finds and that can be changed.
func (c *Controller) Start(ctx context.Context, actor string, scope Scope, rules rollout.Rules) (Progress, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.book.Load(ctx); err != nil {
		return Progress{}, err
	}
	planned, wanted, err := c.Plan(ctx, scope)
	if err != nil {
		return Progress{}, err
	}
	var list []rollout.Candidate
	for _, p := range planned {
		key := keyOf(&Station{Identity: p.Station})
		if !slices.ContainsFunc(p.Drift, func(d Drift) bool { return d.Unable == "" }) {
			continue
		}
		for _, other := range c.book.Open() {
			if other.run.Has(key) {
				return Progress{}, fmt.Errorf("%w: %q is part of rollout %s, which isn't over", ErrRolloutState, p.Station, other.record.ID)
			}
		}
		list = append(list, rollout.Candidate{ID: key, Site: p.Site, Kind: p.kind})
	}
	if len(list) == 0 {
		return Progress{}, ErrNothingToDo
	}
	r := &activeRollout{
		record: rollout.Record{ID: newRolloutID(), Kind: kindFleet, At: c.service.clock()},
		detail: detail{Wanted: wanted, Group: scope.Group, Station: scope.Station, Only: scope.Only, Renew: scope.Renew, By: actor},
	}
	if r.run, err = rollout.New(rules, r.record.ID, list, r.record.At); err != nil {
		return Progress{}, err
	}
	if r.record.Detail, err = json.Marshal(r.detail); err != nil {
		return Progress{}, err
	}
	event := ledger.Event{Kind: "fleet.started", Subject: r.record.ID, Actor: actor, Data: map[string]string{
		"stations": strconv.Itoa(len(list)), "group": scope.Group, "station": scope.Station, "only": fmt.Sprint(scope.Only), "renew": strconv.FormatBool(scope.Renew),
	}}
	if err := c.keep(ctx, r, actor, nil, event); err != nil {
		return Progress{}, fmt.Errorf("couldn't store the rollout: %w", err)
	}
	c.book.Add(r)
	c.book.Count()
	return r.progress(), nil
}

// Progress is how far a rollout is.
type Progress struct {
	ID      string
	At      time.Time
	By      string
	Group   string
	Station string
	Only    []Change
	Renew   bool
	Header  rollout.Header
	Count   map[rollout.State]int
	// Members that failed, were left, or are at work; only of one that was asked for.
	Members []rollout.Member
}

func (r *activeRollout) progress() Progress {
	return Progress{ID: r.record.ID, At: r.record.At, By: r.detail.By, Group: r.detail.Group, Station: r.detail.Station, Only: r.detail.Only,
		Renew: r.detail.Renew, Header: r.run.Header(), Count: r.run.Count()}
}

// Rollouts returns all rollouts, newest first, without their members.
func (c *Controller) Rollouts(ctx context.Context) ([]Progress, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	records, err := c.book.Records(ctx)
	if err != nil {
		return nil, err
	}
	list := []Progress{}
	for _, record := range records {
		r, err := c.book.Entry(ctx, record)
		if err != nil {
			return nil, err
		}
		list = append(list, r.progress())
	}
	return list, nil
}

// Rollout returns one, by the beginning of its ID; "" is the newest.
func (c *Controller) Rollout(ctx context.Context, id string) (Progress, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.find(ctx, id)
	if err != nil {
		return Progress{}, err
	}
	p := r.progress()
	p.Members = r.run.Members()
	slices.SortFunc(p.Members, func(a, b rollout.Member) int { return cmp.Or(cmp.Compare(a.Wave, b.Wave), cmp.Compare(a.ID, b.ID)) })
	return p, nil
}

func (c *Controller) find(ctx context.Context, id string) (*activeRollout, error) {
	if _, err := c.book.Load(ctx); err != nil {
		return nil, err
	}
	records, err := c.book.Records(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(records, func(r rollout.Record) bool { return strings.HasPrefix(r.ID, id) })
	switch {
	case i < 0 && id == "":
		return nil, fmt.Errorf("%w: none was begun yet", ErrUnknownRollout)
	case i < 0:
		return nil, fmt.Errorf("rollout %q: %w", capped(id), ErrUnknownRollout)
	}
	return c.book.Entry(ctx, records[i])
}

// Pause lets no further station begin; those at work go on.
func (c *Controller) Pause(ctx context.Context, actor, id, reason string) (Progress, error) {
	return c.change(ctx, actor, id, reason, func(r *rollout.Run) error { return r.Pause(reason) })
}

// Resume goes on with a paused or halted rollout. What halted it is a finding:
// going on all the same is a decision with a reason.
func (c *Controller) Resume(ctx context.Context, actor, id, reason string) (Progress, error) {
	return c.change(ctx, actor, id, reason, func(r *rollout.Run) error {
		if r.Header().Phase == rollout.Halted && reason == "" {
			return errors.New("it was halted by its failure limit: give a reason for going on")
		}
		return r.Resume()
	})
}

// Cancel ends a rollout: stations whose turn hadn't come stay as they are.
func (c *Controller) Cancel(ctx context.Context, actor, id, reason string) (Progress, error) {
	return c.change(ctx, actor, id, reason, func(r *rollout.Run) error { return r.Cancel(reason, c.service.clock()) })
}

func (c *Controller) change(ctx context.Context, actor, id, reason string, change func(*rollout.Run) error) (Progress, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.find(ctx, id)
	if err != nil {
		return Progress{}, err
	}
	if err := change(r.run); err != nil {
		return Progress{}, fmt.Errorf("rollout %s: %w: %w", r.record.ID, ErrRolloutState, err)
	}
	event := ledger.Event{Kind: "fleet.decided", Subject: r.record.ID, Actor: actor, Data: map[string]string{
		"phase": string(r.run.Header().Phase), "reason": fact(reason),
	}}
	if err := c.keep(ctx, r, actor, nil, event); err != nil {
		c.book.Forget()
		return Progress{}, fmt.Errorf("couldn't store the decision: %w", err)
	}
	c.book.Count()
	return r.progress(), nil
}
