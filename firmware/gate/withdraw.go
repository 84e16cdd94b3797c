package gate

import (
	"context"
	"errors"
	"maps"
	"time"

	"bollard/firmware/catalogue"
	"bollard/firmware/job"
)

// Withdraw cancels the updates to releases that are revoked: their stations can't
// download any more. Those that have the image already are followed on: what they do
// with it has to be seen. It is called once a revocation is on disk; an update that
// wasn't there yet finds the release revoked before it is sent. Of a halted release it
// ends what wasn't sent, in the same way.
func (g *Gate) Withdraw(ctx context.Context, actor string) error {
	list, err := g.cfg.Catalogue.List(ctx)
	if err != nil {
		return err
	}
	back := map[string]catalogue.Entry{}
	for _, e := range list {
		if e.State == catalogue.Revoked || e.State == catalogue.Halted {
			back[e.Release.ID] = e
		}
	}
	if len(back) == 0 {
		return nil
	}
	open, err := g.cfg.Store.OpenJobs(ctx, "")
	if err != nil {
		return err
	}
	var failed error
	for _, j := range open {
		e, ok := back[j.Release]
		if !ok {
			continue
		}
		_, err := g.change(ctx, j.ID, actor, func(j *job.Job, now time.Time) error {
			if !j.State.Open() || j.State.Holds() || e.State == catalogue.Halted && j.State.Underway() {
				return errNothing
			}
			return j.Cancel("its release is "+string(e.State)+": "+e.Reason, now)
		})
		failed = errors.Join(failed, err)
	}
	return failed
}

// stands says why the release of an update that was vetted may not go out any
// more, or nil. What the station has been told of ends with a revocation alone.
func (g *Gate) stands(ctx context.Context, id string, told bool) error {
	list, err := g.cfg.Catalogue.List(ctx)
	if err != nil {
		return err
	}
	for _, e := range list {
		switch {
		case e.Release.ID != id:
		case e.State == catalogue.Revoked:
			return block(IsRevoked, "release "+id+" is revoked")
		case !told && !e.State.Offered():
			return block(Unapproved, "release "+id+" is "+string(e.State))
		default:
			return nil
		}
	}
	return block(UnknownRelease, "release "+id+" isn't here any more")
}

// drop forgets that an update is open.
func (g *Gate) drop(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.open, func(_, open string) bool { return open == id })
	if v := g.visits[id]; v != nil && v.since.IsZero() { // it downloaded nothing
		delete(g.visits, id)
	}
}

// turn says why a rollout keeps a release from a station, or nil.
func (g *Gate) turn(release, station string) error {
	if b := g.cfg.Turn(release, station); b != "" {
		return block(b, "release "+release+" is rolled out, and `bollard firmware rollouts` shows whose turn it is")
	}
	return nil
}
