package gate

import (
	"context"
	"errors"
	"time"

	"bollard/firmware/job"
)

// Ran is the version that a station's newest boot showed, if it came since the start:
// before anybody is told that it booted, where records may take longer. "" if none came.
func (g *Gate) Ran(station string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ran[station]
}

// Expects is the release of the update that a station is in the middle of, "" if it is
// in none.
func (g *Gate) Expects(ctx context.Context, station string) (string, error) {
	if g.openJob(station) == "" {
		return "", nil
	}
	open, err := g.cfg.Store.OpenJobs(ctx, station)
	if err != nil || len(open) == 0 || open[0].Publication != nil || !open[0].State.Underway() {
		return "", err
	}
	return open[0].Release, nil
}

// Quoted takes what a genuine quote of a station's TPM showed: the release its registers
// are, or "" and why they are none's.
func (g *Gate) Quoted(ctx context.Context, station, release, reason string) error {
	id := g.openJob(station)
	if id == "" {
		return nil
	}
	_, err := g.change(ctx, id, "station:"+station, func(j *job.Job, now time.Time) error {
		if release != "" && release != j.Release {
			reason = "it is release " + release
		}
		j.Quoted(release == j.Release, reason, now)
		return nil
	})
	if errors.Is(err, ErrUnknown) { // it ended meanwhile
		return nil
	}
	return err
}
