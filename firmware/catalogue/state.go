package catalogue

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bollard/ledger"
)

// State of a release: it goes forward only, but for a halt, which people can end, and
// for another rollout, such as to stations that came later.
type State string

// The states. What comes before Added happens at the manufacturer's, who gives
// nothing away that isn't scanned, signed and logged.
const (
	Added      State = "added"      // signatures, image and record are good
	Published  State = "published"  // may be sent to stations
	Rolling    State = "rolling"    // as Published, and a rollout brings it to rings
	Halted     State = "halted"     // nothing of it begins until people agree to go on
	Complete   State = "complete"   // its rollout is through; it may still be sent
	Superseded State = "superseded" // a newer one took its place: nothing of it begins
	Withdrawn  State = "withdrawn"  // nothing of it begins any more; what began goes on
	Revoked    State = "revoked"    // as Withdrawn, and what began is ended
)

// follow are the states behind each.
func follow() map[State][]State {
	return map[State][]State{
		Added:      {Published, Withdrawn, Revoked},
		Published:  {Rolling, Halted, Superseded, Withdrawn, Revoked},
		Rolling:    {Halted, Complete, Superseded, Withdrawn, Revoked},
		Halted:     {Rolling, Superseded, Withdrawn, Revoked},
		Complete:   {Rolling, Superseded, Withdrawn, Revoked},
		Superseded: {Withdrawn, Revoked},
		Withdrawn:  {Revoked}, // what was taken back may turn out to be dangerous
	}
}

// Before says whether a release can go from a state to another.
func (s State) Before(to State) bool { return slices.Contains(follow()[s], to) }

// Offered says whether an update to a release may begin. What has begun ends only
// if the release is revoked.
func (s State) Offered() bool { return s == Published || s == Rolling || s == Complete }

// kind of the ledger's entry about a release that comes to a state.
func (s State) kind() (kind string) {
	switch s {
	case Added:
		kind = "firmware.added"
	case Published:
		kind = "firmware.published"
	case Rolling:
		kind = "firmware.rolling"
	case Halted:
		kind = "firmware.halted"
	case Complete:
		kind = "firmware.complete"
	case Superseded:
		kind = "firmware.superseded"
	case Withdrawn:
		kind = "firmware.withdrawn"
	case Revoked:
		kind = "firmware.revoked"
	}
	return kind
}

// Move takes a release to a state and returns the entry to write with it. Why may
// be "" where the state says enough: a halt and an end need a reason. It is for
// Store.UpdateReleases, and for other writes of a release with something else.
func (e *Entry) Move(to State, actor, why string, now time.Time) (ledger.Event, error) {
	if !e.State.Before(to) {
		return ledger.Event{}, fmt.Errorf("%w: %s is %s, and doesn't become %s", ErrState, e.Release.ID, e.State, to)
	}
	if why = strings.TrimSpace(why); why != "" || to == Halted || to == Withdrawn || to == Revoked {
		var err error
		if why, err = ledger.Reason(why); err != nil {
			return ledger.Event{}, err
		}
	}
	from := e.State
	e.State, e.Reason, e.ChangedAt = to, why, now
	switch to {
	case Published:
		e.PublishedAt = now
	case Revoked:
		e.RevokedAt = now
	}
	ev := event(to.kind(), actor, e)
	ev.Data["from"], ev.Data["to"] = string(from), string(to)
	if why != "" {
		ev.Data["reason"] = why
	}
	return ev, nil
}

// event is an entry about a release.
func event(kind, actor string, e *Entry) ledger.Event {
	return ledger.Event{Kind: kind, Subject: e.Release.ID, Actor: actor, Data: map[string]string{
		"record-sha256": e.Digest, "image-sha256": e.Release.SHA256, "vendor": e.Release.Vendor, "component": e.Release.Component, "version": e.Release.Version,
		"sequence": fmt.Sprint(e.Release.Sequence), "security-epoch": fmt.Sprint(e.Release.SecurityEpoch),
	}}
}
