package admin

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"bollard/approval/docket"
	"bollard/firmware/catalogue"
	"bollard/firmware/job"
	"bollard/firmware/origin"
	"bollard/firmware/release"
	"bollard/ledger"
)

// AddRelease takes a release in: a delivery, or a folder with the image. Absolute
// paths; the files are read by who serves the operation.
type AddRelease struct {
	Delivery string `json:"delivery,omitempty"`
	Folder   string `json:"folder,omitempty"`
	Image    string `json:"image,omitempty"` // "": in the folder, under its name
}

// ReleaseRef names one by its ID, the beginning of it, or its version.
type ReleaseRef struct {
	Release string `json:"release"`
}

// EndRelease withdraws or revokes one, or removes its image.
type EndRelease struct {
	Release string `json:"release"`
	Reason  string `json:"reason"`
}

// SupersedeRelease puts a newer one in its place.
type SupersedeRelease struct {
	Release string `json:"release"`
	By      string `json:"by"`
}

// Release is one with where it stands.
type Release struct {
	Release     *release.Release `json:"release"`
	Digest      string           `json:"record_sha256"`
	State       catalogue.State  `json:"state"`
	Reason      string           `json:"reason,omitempty"`
	Approval    string           `json:"approval,omitempty"`
	Successor   string           `json:"successor,omitempty"`
	AddedAt     time.Time        `json:"added_at"`
	ChangedAt   time.Time        `json:"changed_at,omitzero"`
	PublishedAt time.Time        `json:"published_at,omitzero"`
	RevokedAt   time.Time        `json:"revoked_at,omitzero"`
	RemovedAt   time.Time        `json:"removed_at,omitzero"`
	// Fault is why it couldn't be sent now, though it is published.
	Fault string `json:"fault,omitempty"`
	// Again: it was here already, and only its image was taken in.
	Again bool `json:"again,omitempty"`
}

// Releases lists them, newest first.
type Releases struct {
	Releases []Release `json:"releases"`
}

// Updates lists updates of stations, newest first.
type Updates struct {
	Updates []job.Job `json:"updates"`
	// Origins are the locations back ends named whose images were fetched, or are.
	Origins []Origin `json:"origins"`
}

// Origin is what is known of a location, whose path and query aren't told: they may
// hold a secret.
type Origin struct {
	Key     string       `json:"location_sha256"`
	Where   string       `json:"where"`
	State   origin.State `json:"state"`
	Here    int64        `json:"bytes"`
	Size    int64        `json:"size,omitempty"`
	SHA256  string       `json:"image_sha256,omitempty"`
	Changed time.Time    `json:"changed_at"`
	Reason  string       `json:"reason,omitempty"`
}

// UpdateFilter selects updates.
type UpdateFilter struct {
	Station string `json:"station,omitempty"` // empty: all
}

// EndUpdate ends a station's update, or its quarantine.
type EndUpdate struct {
	Station string `json:"station"`
	Reason  string `json:"reason"`
}

// ApproveRelease asks people to approve an action on a release, or adds a signature.
type ApproveRelease struct {
	Release   string          `json:"release"`
	Action    string          `json:"action,omitempty"`    // such as firmware.start; "": firmware.publish
	Ring      string          `json:"ring,omitempty"`      // the action is about
	Plan      *ReleaseRollout `json:"plan,omitempty"`      // firmware.start is about
	Rollout   string          `json:"rollout,omitempty"`   // ID of the one firmware.widen is about; "": there is only one
	Station   string          `json:"station,omitempty"`   // the exception is for
	Valid     time.Duration   `json:"valid,omitempty"`     // of a request that isn't open yet; 0: docket.DefaultValid
	Reason    string          `json:"reason,omitempty"`    // for a request that isn't open yet
	Person    string          `json:"person,omitempty"`    // who asks, where several share an account
	Signature []byte          `json:"signature,omitempty"` // none: only ask
}

func (o *operations) registerFirmware(r *Registry) {
	Register(r, "firmware.add", o.firmwareAdd)
	Register(r, "firmware.list", o.firmwareList)
	Register(r, "firmware.show", o.firmwareShow)
	Register(r, "firmware.report", o.firmwareReport)
	Register(r, "firmware.approve", o.firmwareApprove)
	Register(r, "firmware.publish", func(ctx context.Context, in ReleaseRef) (Release, error) {
		e, err := o.cfg.Releases.Publish(ctx, Actor(ctx), in.Release)
		return o.withdrawn(ctx, &e, err)
	})
	Register(r, "firmware.revoke", func(ctx context.Context, in EndRelease) (Release, error) {
		e, err := o.cfg.Releases.Revoke(ctx, Actor(ctx), in.Release, in.Reason)
		return o.withdrawn(ctx, &e, err)
	})
	Register(r, "firmware.withdraw", func(ctx context.Context, in EndRelease) (Release, error) {
		e, err := o.cfg.Releases.Withdraw(ctx, Actor(ctx), in.Release, in.Reason)
		return o.released(ctx, &e, err)
	})
	Register(r, "firmware.remove", func(ctx context.Context, in EndRelease) (Release, error) {
		e, err := o.cfg.Releases.Remove(ctx, Actor(ctx), in.Release, in.Reason)
		return o.released(ctx, &e, err)
	})
	Register(r, "firmware.supersede", func(ctx context.Context, in SupersedeRelease) (Release, error) {
		e, err := o.cfg.Releases.Supersede(ctx, Actor(ctx), in.Release, in.By)
		return o.released(ctx, &e, err)
	})
	Register(r, "firmware.updates", func(ctx context.Context, in UpdateFilter) (Updates, error) {
		key := ""
		if in.Station != "" {
			key = stationKey(in.Station)
		}
		list, err := o.cfg.Updates.Jobs(ctx, key)
		if err != nil {
			return Updates{}, err
		}
		out := Updates{append([]job.Job{}, list...), []Origin{}}
		for i := range out.Updates {
			out.Updates[i].Visit = nil // its location may hold a secret
		}
		if key != "" {
			return out, nil // locations are no station's
		}
		leads, err := o.cfg.Origins(ctx)
		for _, l := range leads {
			out.Origins = append(out.Origins, Origin{l.Key, l.Where, l.State, l.Here, l.Size, l.SHA256, l.ChangedAt, l.Reason})
		}
		return out, err
	})
	ending := func(end func(ctx context.Context, actor, station, reason string) (job.Job, error)) func(context.Context, EndUpdate) (job.Job, error) {
		return func(ctx context.Context, in EndUpdate) (job.Job, error) {
			reason, err := ledger.Reason(in.Reason)
			if err != nil {
				return job.Job{}, err
			}
			j, err := end(ctx, Actor(ctx), stationKey(in.Station), reason)
			j.Visit = nil
			return j, err
		}
	}
	Register(r, "firmware.cancel", ending(o.cfg.Updates.Cancel))
	Register(r, "firmware.clear", ending(o.cfg.Updates.Clear))
}

func (o *operations) firmwareAdd(ctx context.Context, in AddRelease) (Release, error) {
	var b catalogue.Bundle
	var source io.Closer
	var err error
	if in.Delivery != "" {
		b, source, err = openDelivery(in.Delivery)
	} else {
		b, source, err = openFolder(in.Folder, in.Image)
	}
	if err != nil {
		return Release{}, err
	}
	defer func() { _ = source.Close() }() // it was only read
	e, again, err := o.cfg.Releases.Add(ctx, Actor(ctx), b)
	out, err := o.released(ctx, &e, err)
	out.Again = again && err == nil
	return out, err
}

func (o *operations) released(ctx context.Context, e *catalogue.Entry, err error) (Release, error) {
	if err != nil {
		return Release{}, err
	}
	out := Release{
		Release: e.Release, Digest: e.Digest, State: e.State, Reason: e.Reason, Approval: e.Approval, Successor: e.Successor,
		AddedAt: e.AddedAt, ChangedAt: e.ChangedAt, PublishedAt: e.PublishedAt, RevokedAt: e.RevokedAt, RemovedAt: e.RemovedAt,
	}
	if e.State != catalogue.Revoked && e.State != catalogue.Withdrawn {
		if fault := o.cfg.Releases.Fault(ctx, e); fault != nil {
			out.Fault = fault.Error()
		}
	}
	return out, nil
}

// withdrawn is released after what may have revoked releases: their updates end.
func (o *operations) withdrawn(ctx context.Context, e *catalogue.Entry, err error) (Release, error) {
	if err == nil {
		if err = o.cfg.Updates.Withdraw(ctx, Actor(ctx)); err != nil {
			err = fmt.Errorf("release %s is %s, but updates that run couldn't be ended yet (it is tried again): %w", e.Release.ID, e.State, err)
		}
	}
	return o.released(ctx, e, err)
}

func (o *operations) firmwareList(ctx context.Context, _ None) (Releases, error) {
	list, err := o.cfg.Releases.List(ctx)
	if err != nil {
		return Releases{}, err
	}
	out := Releases{Releases: make([]Release, 0, len(list))}
	for i := range list {
		one, err := o.released(ctx, &list[i], nil)
		if err != nil {
			return Releases{}, err
		}
		out.Releases = append(out.Releases, one)
	}
	return out, nil
}

func (o *operations) firmwareShow(ctx context.Context, in ReleaseRef) (Release, error) {
	e, err := o.cfg.Releases.Find(ctx, in.Release)
	return o.released(ctx, &e, err)
}

// firmwareApprove signs the newest open request for an action on a release; where
// there is none it asks for one.
func (o *operations) firmwareApprove(ctx context.Context, in ApproveRelease) (Approval, error) {
	d, action := o.cfg.Docket, catalogue.Action(in.Action)
	if action == "" {
		action = catalogue.ActionPublish
	}
	if !slices.Contains(catalogue.Actions(), action) {
		return Approval{}, Usagef("`bollard firmware approve --help` lists the actions", "there is no action %.40q on a release", in.Action)
	}
	e, err := o.cfg.Releases.Find(ctx, in.Release)
	if err != nil {
		return Approval{}, err
	}
	name := e.Release.ID
	switch {
	case action.Exception() != (in.Station != "") || in.Ring != "" && in.Station != "":
		return Approval{}, Usagef("", "downgrade, force and unsigned are exceptions for one station, and nothing else is")
	case in.Station != "":
		name += "/" + stationKey(in.Station)
	case (in.Plan != nil) != (action == catalogue.ActionStart):
		return Approval{}, Usagef("", "start is about a plan of a rollout, and nothing else is")
	case in.Rollout != "" && action != catalogue.ActionWiden:
		return Approval{}, Usagef("", "widen is about a rollout that has begun, and nothing else is")
	case in.Ring != "" || in.Plan != nil || action == catalogue.ActionWiden:
		what, err := o.ringOf(ctx, e.Release.ID, &in)
		if err != nil {
			return Approval{}, err
		}
		name += "/" + what
	}
	scope, _, err := o.cfg.Releases.Asking(ctx, action, name)
	if err != nil {
		return Approval{}, err
	}
	m, open, err := waiting(ctx, d, string(action), scope)
	if err != nil {
		return Approval{}, err
	}
	if !open {
		if in.Signature != nil {
			return Approval{}, Refusedf("`bollard firmware approve` with the same release, action, ring and plan, and --print, asks for one", "nobody was asked to approve %s of %s", action, scope)
		}
		if in.Reason == "" {
			in.Reason = string(action)
		}
		m, err = d.Open(ctx, Actor(ctx), docket.Ask{Action: string(action), Name: name, Person: in.Person, Reason: in.Reason, Valid: in.Valid})
	} else if in.Signature != nil {
		m, _, err = d.Sign(ctx, Actor(ctx), m.Nonce, in.Signature)
	}
	if err != nil {
		return Approval{}, err
	}
	return approvalOf(d.Standing(ctx, m))
}

// ringOf is the ring an approval is about, with its rollout as planned or begun.
func (o *operations) ringOf(ctx context.Context, release string, in *ApproveRelease) (string, error) {
	switch catalogue.Action(in.Action) {
	case catalogue.ActionStart:
		p := in.Plan.plan()
		return p.Opening(in.Ring)
	case catalogue.ActionWiden:
		return o.cfg.Rollouts.Widening(ctx, release, in.Rollout, in.Ring)
	}
	return in.Ring, nil // which is refused
}

// waiting is the newest matter that can still be signed or used.
func waiting(ctx context.Context, d *docket.Docket, action, scope string) (docket.Matter, bool, error) {
	list, err := d.List(ctx)
	if err != nil {
		return docket.Matter{}, false, err
	}
	for _, s := range list {
		if s.Action == action && s.Scope == scope && (s.State == docket.Waiting || s.State == docket.Granted) {
			return s.Matter, true, nil
		}
	}
	return docket.Matter{}, false, nil
}
