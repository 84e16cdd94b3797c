package catalogue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"bollard/approval"
)

// Action is what people approve of a release.
type Action string

// The actions.
const (
	ActionPublish Action = "firmware.publish"
	// ActionLegal is the further approval of a release that concerns metrology.
	ActionLegal  Action = "firmware.legal"
	ActionStart  Action = "firmware.start"  // of a rollout, with its first ring
	ActionWiden  Action = "firmware.widen"  // to a further ring
	ActionResume Action = "firmware.resume" // of a rollout that was halted
)

// The exceptions: each is for one station, and one update of it.
const (
	ActionDowngrade Action = "firmware.downgrade" // to what isn't newer than what it has run, or was superseded
	ActionForce     Action = "firmware.force"     // out of its turn, or over what it isn't to be installed over
	ActionUnsigned  Action = "firmware.unsigned"  // without a signature: it verifies nothing
)

// LeastForException is how many people an exception takes, whatever the operator says.
const LeastForException = 3

// Actions returns them.
func Actions() []Action {
	return append([]Action{ActionPublish, ActionLegal, ActionStart, ActionWiden, ActionResume}, Exceptions()...)
}

// Exceptions returns those of them that are.
func Exceptions() []Action { return []Action{ActionDowngrade, ActionForce, ActionUnsigned} }

// Exception says whether an action is about one station.
func (a Action) Exception() bool { return slices.Contains(Exceptions(), a) }

// means is what people agree to by an exception.
func (a Action) means() string {
	switch a {
	case ActionDowngrade:
		return "the station may be given it though it isn't newer than what the station has run, is of a lower security epoch, is superseded, or isn't to be installed over what the station runs"
	case ActionForce:
		return "the station may be given it out of its turn: before its ring, while it is halted or superseded, or over what it isn't to be installed over"
	case ActionUnsigned:
		return "the station may be given it without a signature: the station verifies nothing of what it installs"
	}
	return ""
}

// Needed is how many people an action takes where the operator says nothing else;
// 0: it can't be approved before the operator has said who does.
func (a Action) Needed() int {
	switch a {
	case ActionStart:
		return 1
	case ActionWiden, ActionResume:
		return 2
	case ActionDowngrade, ActionForce, ActionUnsigned:
		return LeastForException
	}
	return 0
}

// from are the states in which an action can be asked for and done.
func (a Action) from() []State {
	switch a {
	case ActionPublish, ActionLegal:
		return []State{Added}
	case ActionStart: // Rolling: to another group, or again where nobody got it
		return []State{Published, Rolling, Complete}
	case ActionWiden:
		return []State{Rolling}
	case ActionResume:
		return []State{Halted}
	case ActionDowngrade:
		return []State{Published, Rolling, Complete, Superseded}
	case ActionForce:
		return []State{Published, Rolling, Halted, Complete, Superseded}
	case ActionUnsigned:
		return []State{Published, Rolling, Complete}
	}
	return nil
}

// ringed says whether an action is about one ring of a rollout.
func (a Action) ringed() bool { return a == ActionStart || a == ActionWiden }

var ringForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// CheckRing says whether a ring can be called so.
func CheckRing(name string) error {
	if !ringForm.MatchString(name) {
		return fmt.Errorf("ring %.80q: give lower-case letters, digits and -, at most 32", name)
	}
	return nil
}

// OfRollout names a ring and the rollout it is of, whose words say which and how it
// goes: an approval is of both.
func OfRollout(ring, rollout string) string { return ring + " of " + rollout }

// Asking says what approving an action would allow (docket.Subject). name is the
// release, with a slash and the ring of a rollout (OfRollout) or the station behind it
// where the action is about one.
func (c *Catalogue) Asking(ctx context.Context, action Action, name string) (scope, text string, err error) {
	ref, what, _ := strings.Cut(name, "/")
	e, err := c.Find(ctx, ref)
	if err != nil {
		return "", "", err
	}
	return c.asking(ctx, action, &e, what)
}

// asking is Asking of an entry, and of the ring of a rollout or the station.
func (c *Catalogue) asking(ctx context.Context, action Action, e *Entry, what string) (scope, text string, err error) {
	if !action.Exception() {
		return asking(action, e, what)
	}
	if scope, text, err = asking(action, e, ""); err != nil {
		return "", "", err
	}
	if what == "" || c.cfg.Station == nil {
		return "", "", fmt.Errorf("%s is about one station: name it", action)
	}
	station, err := c.cfg.Station(ctx, what)
	if err != nil {
		return "", "", err
	}
	return scope + "/" + what, text + station + "exception: " + action.means() + "; once\n", nil
}

// asking holds how the release came to its state where that may come again: what
// was agreed to about one halt counts for no other.
func asking(action Action, e *Entry, what string) (scope, text string, err error) {
	switch {
	case !slices.Contains(action.from(), e.State):
		return "", "", fmt.Errorf("%w: %s is %s, so %s can't be approved", ErrState, e.Release.ID, e.State, action)
	case action == ActionLegal && !e.Release.LegalRelevant:
		return "", "", fmt.Errorf("%w: %s isn't legally relevant", ErrState, e.Release.ID)
	case !action.ringed() && what != "":
		return "", "", fmt.Errorf("%s isn't about a ring", action)
	case !action.ringed():
		return "release:" + e.Release.ID, subject(e) + standing(action, e), nil
	}
	ring, rollout, _ := strings.Cut(what, " of ")
	if err := CheckRing(ring); err != nil {
		return "", "", err
	}
	if rollout == "" {
		return "", "", fmt.Errorf("%s is about a ring of one rollout: say which", action)
	}
	return "release:" + e.Release.ID + "/" + what, subject(e) + standing(action, e) + "ring: " + ring + "\nrollout: " + rollout + "\n", nil
}

func standing(action Action, e *Entry) string {
	if action == ActionPublish || action == ActionLegal {
		return "" // of what was added, which nothing comes back to
	}
	return fmt.Sprintf("state: %s since %s, because of %q\n", e.State, e.ChangedAt.UTC().Format(time.RFC3339Nano), e.Reason)
}

// Grant tells that enough people agreed to an action on a release as it is now,
// for a ring of a rollout, a station or "". Whoever acts on it writes its Used in the same
// transaction.
func (c *Catalogue) Grant(ctx context.Context, action Action, e *Entry, what string) (approval.Grant, error) {
	scope, text, err := c.asking(ctx, action, e, what)
	if err != nil {
		return approval.Grant{}, err
	}
	return c.cfg.Approved(ctx, string(action), scope, text)
}

// publishing are the grants that publish a release. One that concerns metrology
// takes somebody more, who didn't approve its publication.
func (c *Catalogue) publishing(ctx context.Context, e *Entry) ([]approval.Grant, error) {
	grant, err := c.Grant(ctx, ActionPublish, e, "")
	if err != nil || !e.Release.LegalRelevant {
		return []approval.Grant{grant}, err
	}
	legal, err := c.Grant(ctx, ActionLegal, e, "")
	if err != nil {
		return nil, fmt.Errorf("release %s is legally relevant, and needs %s too: %w", e.Release.ID, ActionLegal, err)
	}
	if !slices.ContainsFunc(legal.By, func(name string) bool { return !slices.Contains(grant.By, name) }) {
		return nil, errors.New("those who approved " + string(ActionLegal) + " have all approved the publication too: it needs somebody else")
	}
	return []approval.Grant{grant, legal}, nil
}

// subject is what people read before they sign: the digest holds all the rest.
func subject(e *Entry) string {
	r := e.Release
	signer := sha256.Sum256(e.Certificate)
	var b strings.Builder
	fmt.Fprintf(&b, "release: %s\nrecord sha256: %s\nsigning certificate sha256: %s\nvendor: %s\ncomponent: %s\nversion: %s\nsequence: %d\nsecurity epoch: %d\nimage: %s, %d bytes\nimage sha256: %s\nexpires: %s\n",
		r.ID, e.Digest, hex.EncodeToString(signer[:]), r.Vendor, r.Component, r.Version, r.Sequence, r.SecurityEpoch, r.File, r.Size, r.SHA256, r.Expires.Format(time.RFC3339))
	for _, m := range r.Models {
		fmt.Fprintf(&b, "for: %s %s %s\n", m.Vendor, m.Model, strings.Join(m.Hardware, " "))
	}
	if r.LegalRelevant {
		b.WriteString("legally relevant: yes\n")
	}
	if r.Supersedes != "" {
		fmt.Fprintf(&b, "supersedes: %s\n", r.Supersedes)
	}
	for _, id := range r.Revokes {
		fmt.Fprintf(&b, "revokes: %s\n", id)
	}
	return b.String()
}
