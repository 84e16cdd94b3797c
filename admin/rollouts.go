package admin

import (
	"context"
	"time"

	"bollard/firmware/campaign"
	"bollard/internal/rollout"
)

// ReleaseRollout is what a rollout of a release is to be.
type ReleaseRollout struct {
	Release string          `json:"release"`
	Rings   []campaign.Ring `json:"rings,omitempty"` // none: campaign.Rings
	Lab     string          `json:"lab,omitempty"`   // group of the first ring
	Group   string          `json:"group,omitempty"` // "": all stations
	Rules   rollout.Rules   `json:"rules"`           // but for its waves
	Jitter  time.Duration   `json:"jitter"`
	// SiteShare is how many of a site's stations may be at work at once; 0: any.
	SiteShare float64 `json:"site_share,omitempty"`
}

// ReleasePlan is the dry run.
type ReleasePlan struct {
	Stations []campaign.Planned `json:"stations"`
	Takes    int                `json:"takes"` // part in it
}

// RolloutDecision is a person's, about the rollout of a release.
type RolloutDecision struct {
	Release string `json:"release"`
	Reason  string `json:"reason"`
}

// ReleaseProgress is how far the rollout of a release is.
type ReleaseProgress struct {
	ID       string                `json:"id"`
	Release  string                `json:"release"`
	Version  string                `json:"version"`
	Terms    string                `json:"terms,omitempty"` // the plan, as people approved it
	At       time.Time             `json:"at"`
	By       string                `json:"by"`
	Phase    rollout.Phase         `json:"phase"`
	Why      string                `json:"why,omitempty"`
	Asks     string                `json:"asks,omitempty"` // the ring whose approval it waits for
	Ring     string                `json:"ring"`           // present one
	Rings    []string              `json:"rings"`
	Rules    rollout.Rules         `json:"rules"`
	Count    map[rollout.State]int `json:"count"`
	Stations []ReleaseMember       `json:"stations,omitempty"` // of firmware.rollout.show alone
}

// ReleaseMember is one station of a rollout.
type ReleaseMember struct {
	Station string        `json:"station"` // its key
	Ring    string        `json:"ring"`
	State   rollout.State `json:"state"`
	At      time.Time     `json:"at"`
	Note    string        `json:"note,omitempty"`
	// Signs are what it showed while a ring soaked, by kind.
	Signs map[string]int `json:"signs,omitempty"`
}

// ReleaseRollouts is a list, newest first.
type ReleaseRollouts struct {
	Rollouts []ReleaseProgress `json:"rollouts"`
}

func (o *operations) registerRollouts(r *Registry) {
	s := o.cfg.Rollouts
	Register(r, "firmware.rollout", func(ctx context.Context, in ReleaseRollout) (ReleaseProgress, error) {
		p, err := s.Start(ctx, Actor(ctx), in.plan())
		return releaseProgress(&p), err
	})
	Register(r, "firmware.rollout.plan", func(ctx context.Context, in ReleaseRollout) (ReleasePlan, error) {
		list, err := s.Dry(ctx, in.plan())
		out := ReleasePlan{Stations: list}
		for _, one := range list {
			if one.Unable == "" {
				out.Takes++
			}
		}
		return out, err
	})
	Register(r, "firmware.rollout.show", func(ctx context.Context, in ReleaseRef) (ReleaseProgress, error) {
		p, err := s.Rollout(ctx, in.Release)
		return releaseProgress(&p), err
	})
	Register(r, "firmware.rollouts", func(ctx context.Context, _ None) (ReleaseRollouts, error) {
		list, err := s.Rollouts(ctx)
		out := ReleaseRollouts{Rollouts: []ReleaseProgress{}}
		for i := range list {
			out.Rollouts = append(out.Rollouts, releaseProgress(&list[i]))
		}
		return out, err
	})
	decision := func(decide func(ctx context.Context, actor, release, reason string) (campaign.Progress, error)) func(context.Context, RolloutDecision) (ReleaseProgress, error) {
		return func(ctx context.Context, in RolloutDecision) (ReleaseProgress, error) {
			p, err := decide(ctx, Actor(ctx), in.Release, in.Reason)
			return releaseProgress(&p), err
		}
	}
	Register(r, "firmware.halt", decision(s.Halt))
	Register(r, "firmware.resume", decision(s.Resume))
}

func (in *ReleaseRollout) plan() campaign.Plan {
	p := campaign.Plan{Release: in.Release, Rings: in.Rings, Lab: in.Lab, Group: in.Group, Rules: in.Rules, Jitter: in.Jitter, SiteShare: in.SiteShare}
	if len(p.Rings) == 0 {
		p.Rings = campaign.Rings()
	}
	return p
}

func releaseProgress(p *campaign.Progress) ReleaseProgress {
	h := p.Header
	out := ReleaseProgress{ID: p.ID, Release: p.Release, Version: p.Version, Terms: p.Terms, At: p.At, By: p.By, Phase: h.Phase, Why: h.Why, Asks: p.Asks, Ring: p.Ring(h.Wave), Rings: p.Rings, Rules: h.Rules, Count: p.Count}
	for _, m := range p.Members {
		out.Stations = append(out.Stations, ReleaseMember{Station: m.ID, Ring: p.Ring(m.Wave), State: m.State, At: m.At, Note: m.Note, Signs: m.Signs.Count})
	}
	return out
}
