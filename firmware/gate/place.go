package gate

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"time"

	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ledger"
)

// Place is where stations of a model are sent for their images.
type Place string

// The places.
const (
	Ours   Place = ""       // the depot, over HTTPS
	SFTP   Place = "sftp"   // the depot, over SFTP
	Origin Place = "origin" // where the back end has it, if that is the image
	Nearby Place = "nearby" // at the local controller of its site: no rule's, but of a location that is one's
)

// Locker is where stations fetch that know nothing but SFTP.
type Locker interface {
	URL(g depot.Grant, name string) (string, error)
}

// plainURL is what a station may be handed that isn't made here: stations give their
// locations to shells and as options, so it begins with a letter and has none of
// their characters.
var plainURL = regexp.MustCompile(`^https?://[A-Za-z0-9.:\[\]-]+/[A-Za-z0-9._~%/?=+,:@-]*$`)

// there sees to it that what a back end's location leads to is the release's image,
// where the station is sent there itself. That it is so when the station comes there
// nobody can promise: the station's own check of the signature has to.
func (g *Gate) there(ctx context.Context, a *asked, r *release.Release) error {
	if _, ours := g.cfg.Door.Digest(a.location); ours || g.cfg.Origins == nil {
		return block(Location, "the station is to download from where the back end has the release, and it names no place that could be looked at")
	}
	if !plainURL.MatchString(a.location) {
		return block(Location, "the station would be handed the location itself, and it has characters that shells take for more than a URL")
	}
	lead, err := fetched(ctx, g.cfg.Origins, a.location, nil)
	if err != nil {
		return err
	}
	if lead.SHA256 != r.SHA256 {
		return block(Digest, "the location leads to another image than release "+r.ID+"'s: sha256 "+lead.SHA256)
	}
	a.foundAt = lead.FetchedAt
	return nil
}

// location is where a station is sent. One that is sent elsewhere than here is told
// of, to people and in the ledger, before that is on its way.
func (g *Gate) location(ctx context.Context, a *asked, e *catalogue.Entry, j *job.Job, place Place) (string, error) {
	begin := j.RetrieveAt
	if now := g.cfg.Clock(); begin.Before(now) {
		begin = now
	}
	grant := depot.Grant{Station: j.Station, Job: j.Number, SHA256: j.SHA256, Expires: begin.Add(urlLife)}
	switch place {
	case Ours:
		return g.cfg.Door.URL(grant, e.Release.File)
	case SFTP:
		return g.cfg.Locker.URL(grant, e.Release.File)
	case Origin, Nearby:
	}
	u, err := url.Parse(a.location)
	if err != nil {
		return "", fmt.Errorf("couldn't read the location of an update: %w", err)
	}
	data := map[string]string{
		"update": j.ID, "release": j.Release, "image-sha256": j.SHA256, "location-sha256": hexSum(a.location), "where": u.Scheme + "://" + u.Host,
		"fetched-at": a.foundAt.UTC().Format(time.RFC3339),
	}
	if a.near != nil {
		data["published-by"] = a.near.Station
	}
	if err := g.cfg.Record(ctx, ledger.Event{Kind: "firmware.outside", Subject: j.Station, Actor: "bollard", Data: data}); err != nil {
		return "", err
	}
	j.Visit = &job.Visit{Location: a.location}
	g.mu.Lock()
	g.visits[j.ID] = &visit{id: j.ID, job: *j, location: a.location}
	g.mu.Unlock()
	if g.cfg.Outside != nil && place == Origin {
		if err := g.cfg.Outside(ctx, j.Station); err != nil {
			return "", err
		}
	}
	return a.location, nil
}

// Image is what an update downloads that runs: the image's digest and its name.
func (g *Gate) Image(ctx context.Context, station string, number int64) (sha256, file string, ok bool) {
	open, err := g.cfg.Store.OpenJobs(ctx, station)
	if err != nil || len(open) != 1 || open[0].Number != number {
		return "", "", false
	}
	list, err := g.cfg.Catalogue.List(ctx)
	if err != nil {
		return "", "", false
	}
	for _, e := range list {
		if e.Release.ID == open[0].Release {
			return open[0].SHA256, e.Release.File, true
		}
	}
	return "", "", false
}
