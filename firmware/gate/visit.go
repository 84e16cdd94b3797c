package gate

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"bollard/firmware/job"
	"bollard/firmware/origin"
	"bollard/ledger"
)

// visit is a download that a station does elsewhere. What it is given there nobody sees:
// what is there once it has been is looked at. It is kept in memory alone, since
// locations may hold secrets: a restart in between forgets it.
type visit struct {
	job      job.Job
	location string
	since    time.Time // when the station said to have it; zero: it hasn't
}

// visitWait is how long one look waits for what is there: the next goes on.
const visitWait = time.Second

// visited notes that a station has downloaded.
func (g *Gate) visited(id string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if v := g.visits[id]; v != nil && v.since.IsZero() {
		v.since = now
	}
}

// revisit looks what is now where stations downloaded.
func (g *Gate) revisit(ctx context.Context) error {
	g.mu.Lock()
	var due []*visit
	for _, v := range g.visits {
		if !v.since.IsZero() {
			due = append(due, v)
		}
	}
	g.mu.Unlock()
	var failed error
	for _, v := range due {
		limited, cancel := context.WithTimeout(ctx, visitWait)
		lead, err := g.cfg.Origins.Since(limited, v.location, v.since)
		cancel()
		if _, underway := errors.AsType[*origin.Underway](err); underway {
			continue
		}
		g.mu.Lock()
		delete(g.visits, v.job.ID)
		g.mu.Unlock()
		failed = errors.Join(failed, g.compare(ctx, v, lead.SHA256, err))
	}
	return failed
}

// compare tells what was found, and people where that is another image.
func (g *Gate) compare(ctx context.Context, v *visit, sum string, err error) error {
	found := map[string]string{"update": v.job.ID, "release": v.job.Release, "image-sha256": v.job.SHA256, "found": "the image"}
	switch {
	case err != nil:
		found["found"] = "nothing that can be looked at"
	case sum != v.job.SHA256:
		found["found"], found["found-sha256"] = "another image", sum
	}
	failed := g.cfg.Record(ctx, ledger.Event{Kind: "firmware.outside-checked", Subject: v.job.Station, Actor: "bollard", Data: found})
	if found["found-sha256"] == "" {
		return failed
	}
	g.cfg.Log.Warn("where a station downloaded its firmware another image is now", slog.String("station", v.job.Station), slog.String("release", v.job.Release), slog.String("sha256", sum))
	if g.cfg.Swapped != nil {
		failed = errors.Join(failed, g.cfg.Swapped(ctx, v.job.Station))
	}
	return failed
}
