package campaign

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bollard/firmware/catalogue"
)

// Opening is what people approve who let a rollout begin with a ring: the ring, and all
// of the plan in words. Another plan is another thing to approve.
func (p *Plan) Opening(ring string) (string, error) {
	_, names, err := p.rules()
	if err != nil {
		return "", err
	}
	if !slices.Contains(names, ring) {
		return "", noRing(ring, names)
	}
	return catalogue.OfRollout(ring, p.terms()), nil
}

// Widening is what people approve who let a rollout go on to a ring: the ring, the
// rollout, and its plan. id may be "" where a release has one rollout that isn't over.
func (s *Service) Widening(ctx context.Context, release, id, ring string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.find(ctx, release)
	if err != nil {
		return "", err
	}
	if list[0].run.Header().Phase.Over() {
		return "", fmt.Errorf("%w: rollout %s of %s is %s", ErrState, list[0].record.ID, list[0].detail.Version, list[0].run.Header().Phase)
	}
	var run []string
	for _, c := range list {
		run = append(run, c.named())
	}
	if id != "" {
		list = slices.DeleteFunc(list, func(c *campaign) bool { return c.record.ID != id })
	}
	switch {
	case len(list) == 0:
		return "", fmt.Errorf("rollout %.80q: %w that isn't over; of this release there are %s", id, ErrUnknown, strings.Join(run, "; "))
	case len(list) > 1:
		return "", fmt.Errorf("there are several rollouts of this release, say which one is meant: %s", strings.Join(run, "; "))
	case !slices.Contains(list[0].detail.Rings, ring):
		return "", noRing(ring, list[0].detail.Rings)
	}
	return list[0].widening(ring), nil
}

func (c *campaign) widening(ring string) string { return catalogue.OfRollout(ring, c.named()) }

// named tells a rollout from every other one, in words.
func (c *campaign) named() string {
	if c.detail.Terms == "" { // it began when nobody kept them
		return c.record.ID
	}
	return c.record.ID + ": " + c.detail.Terms
}

func noRing(ring string, names []string) error {
	return fmt.Errorf("the rollout has no ring %.80q: name one of %s", ring, strings.Join(names, ", "))
}

// terms are all that was decided about a rollout, in one line; no two plans that run
// differently have the same.
func (p *Plan) terms() string {
	who := "all stations"
	if p.Group != "" {
		who = fmt.Sprintf("group %q", p.Group)
	}
	var rings []string
	for _, r := range p.Rings {
		rings = append(rings, r.Name+"="+share(r.Share))
	}
	r := &p.Rules
	return fmt.Sprintf("%s, lab %q, rings %s, fail-limit %s, success %s, sample %d, soak %s, patience %s, spread %s, jitter %s, per-minute %d, per-site %d, site-share %s",
		who, p.Lab, strings.Join(rings, " "), share(r.FailLimit), share(r.Bound), r.Sample, r.Soak, r.Patience, r.Spread, p.Jitter, r.PerMinute, r.PerSite, share(p.SiteShare))
}

// share has no more digits than make a difference between stations.
func share(of float64) string { return fmt.Sprintf("%.12g%%", of*100) }
