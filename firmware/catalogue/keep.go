package catalogue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"bollard/ledger"
)

// keepYears is how long the image of a release is kept from its publication: an update
// stays available for ten years, or the support period where that is longer
// (Regulation (EU) 2024/2847, article 13(9)).
const keepYears = 10

// keptUntil is when an image may go; zero for one that no station was offered.
func (c *Catalogue) keptUntil(e *Entry) time.Time {
	if e.PublishedAt.IsZero() {
		return time.Time{}
	}
	until := e.PublishedAt.AddDate(keepYears, 0, 0)
	if longer := e.PublishedAt.Add(c.cfg.Keep); longer.After(until) {
		return longer
	}
	return until
}

// Remove deletes the image of a release that is over, once nobody has to keep it. The
// record, its signatures and its papers stay for ever: what a station ran can be told.
func (c *Catalogue) Remove(ctx context.Context, actor, ref, reason string) (Entry, error) {
	reason, err := ledger.Reason(reason)
	if err != nil {
		return Entry{}, err
	}
	found, err := c.Find(ctx, ref)
	if err != nil {
		return Entry{}, err
	}
	now := c.cfg.Clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.coming[found.Release.SHA256] > 0 {
		return Entry{}, fmt.Errorf("%w: the image of %s is being taken in for a release; try again once that is here", ErrState, found.Release.ID)
	}
	var e Entry
	shared := false
	err = c.cfg.Store.UpdateReleases(ctx, func(list []*Entry) ([]ledger.Event, error) {
		o, err := pick(list, found.Release.ID)
		if err != nil {
			return nil, err
		}
		until := c.keptUntil(o)
		switch {
		case !slices.Contains([]State{Superseded, Withdrawn, Revoked}, o.State):
			return nil, fmt.Errorf("%w: %s is %s; withdraw it before its image goes", ErrState, o.Release.ID, o.State)
		case now.Before(until):
			return nil, fmt.Errorf("%w: the image of %s is kept until %s (Regulation (EU) 2024/2847, article 13(9))", ErrState, o.Release.ID, until.UTC().Format(time.DateOnly))
		}
		shared = slices.ContainsFunc(list, func(other *Entry) bool {
			return other.Release.ID != o.Release.ID && other.Release.SHA256 == o.Release.SHA256 && other.RemovedAt.IsZero()
		})
		var events []ledger.Event
		if o.RemovedAt.IsZero() { // a crash may have left the file
			o.RemovedAt = now
			ev := event("firmware.removed", actor, o)
			ev.Data["reason"] = reason
			events = []ledger.Event{ev}
		}
		e = *o
		return events, nil
	})
	if err != nil || shared { // another release has the same image
		return e, err
	}
	return e, c.cfg.Depot.Remove(e.Release.SHA256)
}
