package gate

import (
	"context"
	"errors"
	"time"

	"bollard/firmware/catalogue"
	"bollard/firmware/job"
)

// Order is an update that no back end asked for.
type Order struct {
	Release, Rollout  string // their IDs
	Retrieve, Install time.Time
}

// What a station is told of its download, where no back end says.
const (
	startRetries  = 3
	startInterval = 60 // seconds
)

// Start updates a station to a release of a rollout. It is judged as if its back end
// had asked; BlockOf tells why it is not sent. The station's answer stands in the job.
func (g *Gate) Start(ctx context.Context, sess Session, st Station, o Order) (job.Job, error) {
	rule := g.cfg.Rule(st)
	if err := g.free(ctx, st.Key, rule); err != nil {
		return job.Job{}, err
	}
	e, err := g.entry(ctx, o.Release)
	if err != nil {
		return job.Job{}, err
	}
	if err := g.Fits(ctx, st, &e); err != nil {
		return job.Job{}, err
	}
	a := &asked{rollout: o.Rollout, retrieve: o.Retrieve, install: o.Install, retries: new(startRetries), retryInterval: new(startInterval)}
	j, signature, err := g.approve(ctx, sess, st, a, &e, rule, "rollout:"+o.Rollout)
	if err != nil {
		return j, err
	}
	_, done, err := g.deliver(ctx, sess, st, a, &e, j, signature, rule)
	if errors.Is(err, errUnanswered) || done.State == job.Refused {
		err = nil // the job says so
	}
	return done, err
}

// Fits says why a station couldn't be given a release now, or nil.
func (g *Gate) Fits(ctx context.Context, st Station, e *catalogue.Entry) error {
	if err := g.quarantine(ctx, st.Key); err != nil {
		return err
	}
	if g.cfg.Rule(st).Place == Origin {
		return block(Location, "stations of this model download from where their back end has the release, and a rollout names no such place")
	}
	return g.fits(ctx, st, e, never)
}

// BlockOf is why an update isn't sent, if that was a decision.
func BlockOf(err error) (Block, bool) {
	var b *blocked
	if errors.As(err, &b) {
		return b.block, true
	}
	return "", false
}

// entry is a release as it stands now.
func (g *Gate) entry(ctx context.Context, id string) (catalogue.Entry, error) {
	list, err := g.cfg.Catalogue.List(ctx)
	if err != nil {
		return catalogue.Entry{}, err
	}
	for _, e := range list {
		if e.Release.ID == id {
			return e, nil
		}
	}
	return catalogue.Entry{}, block(UnknownRelease, "release "+id+" is here no more")
}
