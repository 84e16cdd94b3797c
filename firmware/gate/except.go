package gate

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"bollard/approval"
	"bollard/firmware/catalogue"
	"bollard/ledger"
)

// An exception lets one station have one release in spite of what keeps it from that,
// once: enough people have agreed to it (catalogue.Exceptions). The update that is put
// on disk uses it up in the same write.

// excuses are the exceptions by which a block may pass. No signature, image, model or
// revocation is among them.
func excuses(b Block) []catalogue.Action {
	switch b {
	case Rollback, Epoch:
		return []catalogue.Action{catalogue.ActionDowngrade}
	case Path, Unapproved: // of states, what was superseded alone can be asked for
		return []catalogue.Action{catalogue.ActionDowngrade, catalogue.ActionForce}
	case Ring, OnHold:
		return []catalogue.Action{catalogue.ActionForce}
	case Unsigned:
		return []catalogue.Action{catalogue.ActionUnsigned}
	}
	return nil
}

// excuse lets a block pass that people made an exception of, and returns any other
// error as it is.
func (g *Gate) excuse(ctx context.Context, st Station, a *asked, e *catalogue.Entry, err error) error {
	var b *blocked
	if !errors.As(err, &b) || a.rollout != "" {
		return err
	}
	for _, action := range excuses(b.block) {
		grant, held := a.grants[action]
		if !held {
			var denied error
			if grant, denied = g.cfg.Catalogue.Grant(ctx, action, e, st.Key); denied != nil {
				continue
			}
		}
		if a.grants == nil {
			a.grants = map[catalogue.Action]approval.Grant{}
		}
		a.grants[action], a.excused = grant, append(a.excused, b.block)
		return nil
	}
	return err
}

// plain says whether people agreed that a station gets some release without its
// signature: of others nothing is fetched.
func (g *Gate) plain(ctx context.Context, st Station) (bool, error) {
	list, err := g.cfg.Catalogue.List(ctx)
	if err != nil {
		return false, err
	}
	for i := range list {
		if e := &list[i]; e.State.Offered() && e.Release.Covers(st.Vendor, st.Model, st.Hardware) {
			if _, err := g.cfg.Catalogue.Grant(ctx, catalogue.ActionUnsigned, e, st.Key); err == nil {
				return true, nil
			}
		}
	}
	return false, nil
}

// exceptions are the entries that use up what let a request pass, and its words.
func exceptions(a *asked, e *catalogue.Entry, station, actor string) (words []string, events []ledger.Event) {
	for _, action := range slices.Sorted(maps.Keys(a.grants)) {
		grant := a.grants[action]
		words = append(words, strings.TrimPrefix(string(action), "firmware."))
		events = append(events, grant.Used(actor), ledger.Event{Kind: "firmware.excepted", Subject: station, Actor: actor, Data: map[string]string{
			"action": string(action), "release": e.Release.ID, "record-sha256": e.Digest, "image-sha256": e.Release.SHA256,
			"approval": grant.Request.Nonce, "approved-by": strings.Join(grant.By, ","),
		}, People: []string{"approved-by"}})
	}
	return words, events
}

// settled says why the release of an update that was approved may not go out any more.
// What people made an exception of stays one as long as it is as it was.
func (g *Gate) settled(ctx context.Context, a *asked, e *catalogue.Entry) error {
	err := g.stands(ctx, e.Release.ID, false)
	if b, _ := BlockOf(err); b != Unapproved || len(a.excused) == 0 {
		return err
	}
	now, failed := g.entry(ctx, e.Release.ID)
	if failed != nil || now.State != e.State || !now.ChangedAt.Equal(e.ChangedAt) {
		return errors.Join(failed, err)
	}
	return nil
}
