package gate

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"bollard/firmware/catalogue"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ocpp"
)

// publish brings one PublishFirmware (OCPP 2.x L03) from the back end's word to the
// local controller's answer.
func (g *Gate) publish(ctx context.Context, sess Session, st Station, a *asked, rule Rule) Verdict {
	if err := g.free(ctx, st.Key, rule); err != nil {
		return g.refuse(ctx, sess, st, a.action, err)
	}
	e, err := g.vetPublication(ctx, st, a, g.cfg.Origins)
	if err != nil {
		return g.refuse(ctx, sess, st, a.action, err)
	}
	a.publication = &job.Publication{Site: st.Site, MD5: e.Release.MD5}
	j, signature, err := g.approve(ctx, sess, st, a, &e, rule, "backend:"+sess.Backend())
	if err != nil {
		return g.refuse(ctx, sess, st, a.action, err)
	}
	return g.send(ctx, sess, st, a, &e, j, signature, rule)
}

// vetPublication finds the release that is meant, and says why the local controller
// can't have it. Which of the site's stations may install it is judged with their own
// updates.
func (g *Gate) vetPublication(ctx context.Context, st Station, a *asked, origins Origins) (catalogue.Entry, error) {
	if st.Site == "" {
		return catalogue.Entry{}, block(Publish, "the local controller has no site, so it is nobody's: `bollard station group "+st.Key+" --site SITE` says which")
	}
	if err := g.quarantine(ctx, st.Key); err != nil {
		return catalogue.Entry{}, err
	}
	e, err := g.find(ctx, a, origins)
	if err != nil {
		return catalogue.Entry{}, err
	}
	r := e.Release
	switch {
	case r.MD5 == "":
		return e, block(NoChecksum, "release "+r.ID+" has no MD5, the only checksum PublishFirmware has: `bollard firmware sign --md5` records it")
	case !strings.EqualFold(r.MD5, a.checksum):
		return e, block(Digest, "the checksum isn't the one of release "+r.ID)
	}
	if err := g.offered(&e); err != nil {
		return e, err
	}
	site, err := g.cfg.Site(ctx, st.Site)
	if err != nil {
		return e, err
	}
	if !slices.ContainsFunc(site, func(s Station) bool { return s.Key != st.Key && r.Covers(s.Vendor, s.Model, s.Hardware) }) {
		return e, block(WrongModel, "release "+r.ID+" is for no station of site "+st.Site)
	}
	return e, nil
}

// readPublish decodes a PublishFirmware.
func readPublish(payload []byte) (*asked, error) {
	var m ocpp.PublishFirmwareRequest
	if err := ocpp.DecodeStrict(payload, &m); err != nil {
		return nil, err
	}
	if m.RequestID == nil {
		return nil, errors.New("requestId is missing")
	}
	if len(m.Checksum) != ocpp.FirmwareChecksum || strings.Trim(strings.ToLower(m.Checksum), "0123456789abcdef") != "" {
		return nil, errors.New("checksum isn't MD5 in hexadecimal digits")
	}
	return &asked{requestID: m.RequestID, location: m.Location, checksum: m.Checksum, retries: m.Retries, retryInterval: m.RetryInterval}, nil
}

// byChecksum says whether a release is the one a PublishFirmware names. MD5 proves
// nothing: what the local controller is given is the release's own image.
func (a *asked) byChecksum(r *release.Release) bool {
	return a.checksum != "" && strings.EqualFold(r.MD5, a.checksum)
}

// unpublish ends what a local controller offers: nobody is sent there any more, from
// before it learns of it, whatever it answers.
func (g *Gate) unpublish(ctx context.Context, sess Session, st Station, payload []byte) Verdict {
	var m ocpp.UnpublishFirmwareRequest
	if err := ocpp.DecodeStrict(payload, &m); err != nil {
		return Verdict{Code: ocpp.FormatViolation, Reason: err.Error()}
	}
	list, err := g.cfg.Store.Publications(ctx)
	for _, j := range list {
		if err == nil && j.Station == st.Key && strings.EqualFold(j.Publication.MD5, m.Checksum) {
			_, err = g.change(ctx, j.ID, "backend:"+sess.Backend(), func(j *job.Job, now time.Time) error { j.Unpublish(now); return nil })
			g.forget(j.ID)
		}
	}
	if err != nil {
		return Verdict{Code: ocpp.InternalError, Reason: "couldn't end a publication of firmware: " + err.Error()}
	}
	return Verdict{}
}

// near finds the publication whose location a back end names, if there is one: its own
// site's stations may be sent there, and nobody else. What a local controller only says
// to be its is a location like any other, and looked at.
func (g *Gate) near(ctx context.Context, st Station, location string) (*job.Job, error) {
	list, err := g.cfg.Store.Publications(ctx)
	if err != nil {
		return nil, err
	}
	key := hexSum(location)
	var other *job.Job
	for i := range list {
		switch j := &list[i]; {
		case !slices.Contains(j.Publication.Places, key):
		case !slices.Contains(j.Publication.Confirmed, key): // such as after a restart
			g.lookAt(j, location)
		case st.Site != "" && j.Publication.Site == st.Site:
			return j, nil
		default:
			other = j
		}
	}
	if other != nil {
		return nil, block(OtherSite, "the location is of the local controller "+other.Station+", of site "+other.Publication.Site)
	}
	return nil, nil //nolint:nilnil // most locations are no local controller's
}

// published takes a PublishFirmwareStatusNotification.
func (g *Gate) published(ctx context.Context, sess Session, st Station, payload []byte) Verdict {
	var m ocpp.PublishFirmwareStatusRequest
	if err := ocpp.DecodeStrict(payload, &m); err != nil {
		return Verdict{Code: ocpp.FormatViolation, Reason: err.Error()}
	}
	if m.RequestID == nil && g.openJob(st.Key) == "" { // Idle, most of the time
		return Verdict{}
	}
	j, ok, err := g.meant(ctx, st.Key, m.RequestID, func(j *job.Job) bool {
		return j.Publication != nil && (j.State.Open() || m.RequestID != nil)
	})
	if err != nil {
		return Verdict{Code: ocpp.InternalError, Reason: "couldn't find a publication of firmware: " + err.Error()}
	}
	if !ok {
		return Verdict{}
	}
	m.Location = m.Location[:min(len(m.Location), job.MaxPlaces)] // each costs a fetch
	var keys []string
	for _, at := range m.Location {
		keys = append(keys, hexSum(at))
	}
	before := j.State
	if j, err = g.change(ctx, j.ID, "station:"+st.Key, func(j *job.Job, now time.Time) error {
		j.ReportPublished(m.Status, hexSum(string(payload)), keys, g.served(j), now)
		return nil
	}); err != nil {
		return Verdict{Code: ocpp.InternalError, Reason: "couldn't record a firmware status: " + err.Error()}
	}
	if j.State == job.Published && before != job.Published && g.cfg.Origins != nil {
		for _, at := range m.Location {
			g.lookAt(&j, at)
		}
		sess.Go(func(ctx context.Context) { g.confirm(ctx, j.ID) }) // Look goes on with what that leaves open
	}
	if m.RequestID != nil && j.AskedID != nil && *j.AskedID != j.RequestID {
		return renumbered(payload, *j.AskedID)
	}
	return Verdict{}
}

// lookAt notes a place that is to be looked at: a checksum of MD5 says little. What
// can't be reached from here stays unconfirmed, and no station is sent there for it.
func (g *Gate) lookAt(j *job.Job, location string) {
	if g.cfg.Origins == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if id := j.ID + " " + hexSum(location); g.visits[id] == nil {
		g.visits[id] = &visit{id: id, job: *j, location: location, since: j.ChangedAt, until: g.cfg.Clock().Add(visitPatience)}
	}
}

// confirm looks at once what a local controller really offers.
func (g *Gate) confirm(ctx context.Context, id string) {
	for _, v := range g.due(func(v *visit) bool { return v.job.ID == id }) {
		lead, err := g.cfg.Origins.Since(ctx, v.location, v.since)
		if ctx.Err() != nil {
			return
		}
		if err := g.settle(ctx, v, lead.SHA256, err); err != nil && ctx.Err() == nil {
			g.cfg.Log.Warn("couldn't record what a local controller offers; it is tried again", slog.String("station", v.job.Station), slog.Any("err", err))
		}
	}
}

// compareOffer takes what is where a local controller offers an image.
func (g *Gate) compareOffer(ctx context.Context, v *visit, sum string, err error) error {
	if err != nil {
		g.cfg.Log.Info("couldn't look what a local controller offers", slog.String("station", v.job.Station), slog.String("release", v.job.Release), slog.Any("err", err))
		return nil
	}
	fault := ""
	if sum != v.job.SHA256 {
		fault = "it offers another image than it was given: sha256 " + sum
	}
	j, err := g.change(ctx, v.job.ID, "bollard", func(j *job.Job, now time.Time) error {
		j.Confirm(hexSum(v.location), fault, now)
		return nil
	})
	if errors.Is(err, ErrUnknown) || err == nil && j.State != job.Published {
		g.forget(v.job.ID)
		return nil
	}
	return err
}

// publishRequest is what the local controller is given.
func publishRequest(j *job.Job, location string) ocpp.PublishFirmwareRequest {
	id := j.RequestID
	return ocpp.PublishFirmwareRequest{RequestID: &id, Location: location, Checksum: j.Publication.MD5, Retries: j.Retries, RetryInterval: j.RetryInterval}
}
