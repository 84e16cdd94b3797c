package admin

import (
	"bytes"
	"context"
	"slices"
	"time"

	"bollard/ca"
	"bollard/ca/ceremony"
	"bollard/ledger"
)

// Ceremony is the transcript of one.
type Ceremony struct {
	Transcript []byte `json:"transcript"`
	File       string `json:"file,omitempty"` // its name, for errors
}

// caCeremony notes that a root which counts here was made, or signed, in a ceremony.
func (o *operations) caCeremony(ctx context.Context, in Ceremony) (ceremony.Transcript, error) {
	t, err := ceremony.ReadTranscript(in.Transcript)
	if err != nil {
		return ceremony.Transcript{}, Refusedf("take the file as the ceremony made it; nothing was recorded", "%w", aboutFile(in.File, err))
	}
	if t.Rehearsal {
		return *t, Refusedf("a rehearsal has nothing to record", "it is the transcript of a rehearsal")
	}
	known, err := o.countsHere(ctx, t)
	if err != nil {
		return *t, err
	}
	if !known {
		return *t, Refusedf("take what it certified in first: `bollard ca trust add` and `bollard ca import-chain`", "the root of the ceremony, %s, doesn't count for %s here", t.Root.Subject, t.Hierarchy)
	}
	if e, there, err := o.cfg.Ledger.EntryAbout(ctx, t.Digest); err != nil {
		return *t, err
	} else if there {
		return *t, Refusedf("", "the transcript is on record already, as entry %d", e.Seq)
	}
	event := ledger.Event{Kind: "ca.ceremony", Subject: t.Digest, Actor: Actor(ctx), Data: map[string]string{
		"hierarchy": t.Hierarchy, "title": t.Title, "script": t.Script, "present": t.Roles, "root": ca.SerialOf(t.Root),
		"holder": t.Holder, "exportable": t.Exportable, "began": t.Began.Format(time.RFC3339), "ended": t.Ended.Format(time.RFC3339),
	}}
	return *t, o.cfg.Ledger.Record(ctx, event)
}

// countsHere: the root of a ceremony is one of the hierarchy's, or is trusted for it.
func (o *operations) countsHere(ctx context.Context, t *ceremony.Transcript) (bool, error) {
	kind := ca.Kind(t.Hierarchy)
	for _, root := range slices.Concat(o.cfg.Authority.Roots(kind), o.cfg.Authority.PathRoots(kind)) {
		if root.Equal(t.Root) {
			return true, nil
		}
	}
	use := ca.AnchorUse(kind)
	if use == "" { // what others are trusted for is something else
		return false, nil
	}
	anchors, err := o.cfg.Authority.Anchors(ctx, use)
	return slices.ContainsFunc(anchors, func(a ca.TrustAnchor) bool { return bytes.Equal(a.DER, t.Root.Raw) }), err
}
