package gate

import (
	"context"
	"errors"
	"time"

	"bollard/firmware/job"
)

// rightEvery is how often it is looked whether a clock that was ahead began an update.
const rightEvery = time.Hour

// setRight has what is open and began by a clock that was ahead begin now: now and then,
// and as soon as the clock is seen to have been set back. One that is behind what is on
// record may be the wrong one, and sets nothing right: an update would be late once it is
// right again.
func (g *Gate) setRight(ctx context.Context) error {
	now := g.cfg.Clock().Round(0) // by the wall clock, which is what is set
	g.mu.Lock()
	since := now.Sub(g.rightAt)
	g.mu.Unlock()
	if since >= 0 && since < rightEvery {
		return nil
	}
	if g.cfg.CheckClock(ctx) != nil {
		return nil
	}
	list, err := g.cfg.Store.OpenJobs(ctx, "")
	if err != nil {
		return err
	}
	for i := range list {
		if !list[i].SetRight(now) {
			continue
		}
		_, err := g.change(ctx, list[i].ID, "bollard", func(j *job.Job, now time.Time) error {
			if !j.SetRight(now) {
				return errNothing
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrUnknown) {
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rightAt = now
	return nil
}
