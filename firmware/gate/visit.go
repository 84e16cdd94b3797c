package gate

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"bollard/firmware/job"
	"bollard/firmware/origin"
	"bollard/ledger"
)

// visit is a download that a station does elsewhere (job.Visit has it on disk), or a place
// where a local controller offers its image, which a restart forgets. What is given there
// nobody sees: what is there is looked at.
type visit struct {
	id       string // the job's, of a local controller with the place's SHA-256
	job      job.Job
	location string
	since    time.Time // when the station said to have it, or to offer it; zero: it hasn't
	next     time.Time // it isn't looked at before that
	until    time.Time // what can't be looked at by then isn't any more
}

const (
	// visitWait is how long one look waits for what is there, at all places together: the
	// next goes on.
	visitWait = time.Second
	// visitPatience is how long it is tried to look, offerPause how long after a failure a
	// local controller's place is looked at again.
	visitPatience = time.Hour
	offerPause    = 10 * time.Minute
)

// visited notes that a station has downloaded.
func (g *Gate) visited(j *job.Job, now time.Time) {
	if j.Visit != nil && j.Visit.Since.IsZero() {
		j.Visit.Since = now
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if v := g.visits[j.ID]; v != nil && v.since.IsZero() {
		v.since, v.until = now, now.Add(visitPatience)
	}
}

// takeUpVisits goes on with those that a stop of the server left open: they have as long
// again.
func (g *Gate) takeUpVisits(ctx context.Context) error {
	list, err := g.cfg.Store.Visits(ctx)
	if err != nil || g.cfg.Origins == nil {
		return err
	}
	now := g.cfg.Clock()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, j := range list {
		since := j.Visit.Since
		if since.After(now) && g.cfg.CheckClock(ctx) == nil { // by a clock that was ahead: no look would be late enough
			since = now
		}
		if g.visits[j.ID] == nil {
			g.visits[j.ID] = &visit{id: j.ID, job: j, location: j.Visit.Location, since: since, until: now.Add(visitPatience)}
		}
	}
	return nil
}

// end forgets a visit. One whose write fails is looked at again after a restart.
func (g *Gate) end(ctx context.Context, v *visit) error {
	_, err := g.change(ctx, v.job.ID, "bollard", func(j *job.Job, _ time.Time) error {
		j.Visit = nil
		return nil
	})
	if errors.Is(err, ErrUnknown) { // its station was removed
		return nil
	}
	return err
}

// forget drops what is to be looked at of a job.
func (g *Gate) forget(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.visits, func(_ string, v *visit) bool { return v.job.ID == id })
}

// due are the visits that may be looked at now.
func (g *Gate) due(of func(*visit) bool) []*visit {
	now := g.cfg.Clock()
	g.mu.Lock()
	defer g.mu.Unlock()
	var due []*visit
	for _, v := range g.visits {
		if !v.since.IsZero() && !now.Before(v.next) && of(v) {
			due = append(due, v)
		}
	}
	return due
}

// revisit looks what is now where stations downloaded, and what local controllers offer.
func (g *Gate) revisit(ctx context.Context) error {
	due := g.due(func(*visit) bool { return true })
	sums, errs := make([]string, len(due)), make([]error, len(due))
	limited, cancel := context.WithTimeout(ctx, visitWait)
	defer cancel()
	var all sync.WaitGroup
	for i, v := range due {
		all.Go(func() {
			lead, err := g.cfg.Origins.Since(limited, v.location, v.since)
			sums[i], errs[i] = lead.SHA256, err
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var failed error
	for i, v := range due {
		failed = errors.Join(failed, g.settle(ctx, v, sums[i], errs[i]))
	}
	return failed
}

// settle takes what was found, and leaves for the next look what may be known then: a
// Fault of the place alone says that it can't be, and a local controller may mend that.
func (g *Gate) settle(ctx context.Context, v *visit, sum string, err error) error {
	if _, underway := errors.AsType[*origin.Underway](err); underway {
		return nil
	}
	_, fault := errors.AsType[*origin.Fault](err)
	fault = fault && !errors.Is(err, origin.ErrCrowded)
	offer := v.job.Publication != nil
	if now := g.cfg.Clock(); err != nil && now.Before(v.until) && (offer || !fault) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if fault {
			v.next = now.Add(offerPause)
		}
		return nil
	}
	var failed error
	if offer {
		if failed = g.compareOffer(ctx, v, sum, err); failed != nil {
			return failed // the next look tries again
		}
	} else {
		failed = errors.Join(g.compare(ctx, v, sum, err), g.end(ctx, v))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.visits, v.id)
	return failed
}

// compare tells what was found, and people where that is another image or nothing.
func (g *Gate) compare(ctx context.Context, v *visit, sum string, err error) error {
	found := map[string]string{"update": v.job.ID, "release": v.job.Release, "image-sha256": v.job.SHA256, "found": "the image"}
	switch {
	case err != nil:
		found["found"] = "nothing that can be looked at"
	case sum != v.job.SHA256:
		found["found"], found["found-sha256"] = "another image", sum
	}
	failed := g.cfg.Record(ctx, ledger.Event{Kind: "firmware.outside-checked", Subject: v.job.Station, Actor: "bollard", Data: found})
	if err != nil {
		g.cfg.Log.Warn("couldn't look where a station downloaded its firmware", slog.String("station", v.job.Station), slog.String("release", v.job.Release), slog.Any("err", err))
		if g.cfg.Unseen != nil {
			failed = errors.Join(failed, g.cfg.Unseen(ctx, v.job.Station))
		}
		return failed
	}
	if found["found-sha256"] == "" {
		return failed
	}
	g.cfg.Log.Warn("where a station downloaded its firmware another image is now", slog.String("station", v.job.Station), slog.String("release", v.job.Release), slog.String("sha256", sum))
	if g.cfg.Swapped != nil {
		failed = errors.Join(failed, g.cfg.Swapped(ctx, v.job.Station))
	}
	return failed
}
