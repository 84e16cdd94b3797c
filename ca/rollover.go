package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"bollard/internal/failpoint"
	"bollard/ledger"
)

// Phase of a root change. It moves forward, but for the way back from the
// switch to what was served before it.
type Phase string

// The phases of a root change.
const (
	PhasePreparing Phase = "preparing" // decided; the new certificates are being made
	PhaseStarted   Phase = "started"   // the new root is there and trusted; the old chain is served
	PhaseSwitched  Phase = "switched"  // the new chain is served, with a bridge for holders of the old root
	PhaseFinished  Phase = "finished"  // only the new root counts
	PhaseAbandoned Phase = "abandoned" // given up before it was started; the old root is the only one
)

var phases = []Phase{PhasePreparing, PhaseStarted, PhaseSwitched, PhaseFinished}

// Rollover is how far the change of a hierarchy's root has come (M05). The new
// root certifies the same issuing key, so certificates of stations, revocation
// lists and OCSP go on as they are.
type Rollover struct {
	Kind       Kind
	Generation int    // of the new root; 0: there was never a change
	Phase      Phase  // "": there was never a change
	Tag        string // in the name of the new root's key, drawn before it is made
	At         time.Time
}

// Follows tells whether this may be recorded after prev: the next phase of the
// same change, the way back from the switch, its being given up before it is started, or
// the first of the next one.
func (r Rollover) Follows(prev Rollover) bool {
	switch {
	case r.Phase == PhasePreparing:
		return prev.over() && r.Generation == prev.present()+1
	case r.Generation != prev.Generation:
		return false
	case r.Phase == PhaseAbandoned:
		return prev.Phase == PhasePreparing
	}
	return r.Phase.rank() == prev.Phase.rank()+1 || r.Phase == PhaseStarted && prev.Phase == PhaseSwitched
}

// over: no change is prepared or under way.
func (r Rollover) over() bool {
	return r.Phase == "" || r.Phase == PhaseFinished || r.Phase == PhaseAbandoned
}

func (p Phase) rank() int {
	for i, known := range phases {
		if p == known {
			return i
		}
	}
	return -2
}

// present is the generation of the root that was trusted before the change, or
// is alone after it.
func (r Rollover) present() int {
	switch {
	case r.Generation == 0:
		return 1
	case r.Phase == PhaseFinished:
		return r.Generation
	}
	return r.Generation - 1
}

// underWay: both roots are trusted.
func (r Rollover) underWay() bool { return r.Phase == PhaseStarted || r.Phase == PhaseSwitched }

// Rollover starts the change of a hierarchy's root, or goes on with a start
// that was interrupted: it makes a new self-signed root, the same key certified
// by the old root (M05.FR.10 of 2.x), and the issuing CA's certificate under
// the new root. What is served stays. Nothing is made twice.
func (a *Authority) Rollover(ctx context.Context, kind Kind, actor string) (Rollover, error) {
	a.building.Lock()
	defer a.building.Unlock()
	l := a.hierarchy(kind)
	if l.issuing == nil {
		return Rollover{}, fmt.Errorf("%w: %s", ErrNoHierarchy, kind)
	}
	if a.cfg.Keeper == nil {
		return Rollover{}, errors.New("internal error: ca.Config.Keeper is missing")
	}
	h, err := hierarchyOf(kind)
	if err != nil {
		return Rollover{}, err
	}
	change := l.rollover
	switch {
	case l.cas[0].borrowed:
		return change, fmt.Errorf("%w: %s has no root of its own, it is under that of %s", ErrRollover, kind, h.under)
	case l.cas[0].keyURI == "" && l.cas[0].profile == h.root:
		return change, fmt.Errorf("%w: the key of the present root of %s is offline, and so has that of the next one to be: --chain, --list and --cross take it in (docs/ceremony.md)", ErrRollover, kind)
	case change.Phase == PhasePreparing && change.isOffline():
		return change, fmt.Errorf("%w: a start with a root that was made elsewhere was interrupted; go on with --chain and --list, or give it up: bollard ca rollover %s abort", ErrRollover, kind)
	case l.cas[0].profile == profileOutside:
		return change, fmt.Errorf("%w: %s has no root of its own; once others certified it under another, bollard ca import-chain %s takes that in", ErrRollover, kind, kind)
	}
	if change.underWay() {
		return change, fmt.Errorf("%w: the change to root %d of %s is %s already", ErrRollover, change.Generation, kind, change.Phase)
	}
	if err := a.checkClock(ctx, a.cfg.Clock().UTC()); err != nil {
		return change, err
	}
	if change.Phase != PhasePreparing {
		tag, err := newSerial(a.random)
		if err != nil {
			return change, err
		}
		next := Rollover{Kind: kind, Generation: change.present() + 1, Phase: PhasePreparing, Tag: tag.Text(16)[:12]}
		if change, err = a.step(ctx, h, next, actor); err != nil {
			return l.rollover, err
		}
	}
	failpoint.Hit("ca.rollover-preparing")
	if err := a.prepareRollover(ctx, h, l, change, actor); err != nil {
		return change, err
	}
	change.Phase = PhaseStarted
	return a.step(ctx, h, change, actor)
}

func (a *Authority) prepareRollover(ctx context.Context, h hierarchy, l *loadedHierarchy, change Rollover, actor string) error {
	oldRoot, err := a.openIssuer(ctx, l.cas[0])
	if err != nil {
		return err
	}
	b := builder{a: a, h: h, actor: actor, algorithm: algorithmLike(oldRoot.cert.PublicKey)}
	name := h.rootName(change.Generation)
	root, err := b.ensure(ctx, wantedCA{name: name, profile: h.root, issuedBy: name, file: name + "-" + change.Tag, adopt: true})
	if err != nil {
		return err
	}
	failpoint.Hit("ca.rollover-root")
	if _, err := b.ensure(ctx, wantedCA{name: name, profile: h.cross, issuedBy: oldRoot.name, by: oldRoot, like: root}); err != nil {
		return err
	}
	failpoint.Hit("ca.rollover-cross")
	if err := b.certifyTops(ctx, l, root); err != nil {
		return err
	}
	failpoint.Hit("ca.rollover-below")
	return a.followRollover(ctx, h, root, actor)
}

// followRollover has the new root certify what other hierarchies have under the old one.
func (a *Authority) followRollover(ctx context.Context, h hierarchy, root *issuer, actor string) error {
	for _, other := range hierarchies {
		l := a.hierarchy(other.kind)
		if other.under != h.kind || l.issuing == nil || !l.cas[0].borrowed {
			continue
		}
		if err := (builder{a: a, h: other, actor: actor}).certifyTops(ctx, l, root); err != nil {
			return err
		}
	}
	return nil
}

// certifyTops has a new root certify what the old one did: the CA below it, and those
// before it whose keys moved, since what they issued isn't over.
func (b builder) certifyTops(ctx context.Context, l *loadedHierarchy, root *issuer) error {
	for _, c := range l.cas {
		if c.profile != b.h.subs[0] {
			continue
		}
		top, err := b.a.openAgain(ctx, b.h.kind, c)
		if err != nil {
			return err
		}
		w := wantedCA{name: top.name, profile: top.profile, issuedBy: root.name, by: root, like: top}
		if _, err := b.ensureKey(ctx, w, hashHex(c.cert.RawSubjectPublicKeyInfo)); err != nil {
			return err
		}
	}
	return nil
}

// SwitchRollover serves the new chain from now on, with the cross-signed root
// in it: who has only the old root can still follow it.
func (a *Authority) SwitchRollover(ctx context.Context, kind Kind, actor string) (Rollover, error) {
	return a.advance(ctx, kind, PhaseSwitched, actor)
}

// SwitchBack serves the old chain again. Both roots stay trusted, and listeners
// that serve the new chain go on doing so.
func (a *Authority) SwitchBack(ctx context.Context, kind Kind, actor string) (Rollover, error) {
	if a.RolloverState(kind).Phase != PhaseSwitched {
		return a.RolloverState(kind), fmt.Errorf("%w: %s isn't switched", ErrRollover, kind)
	}
	return a.advance(ctx, kind, PhaseStarted, actor)
}

// FinishRollover ends the trust in the old root. Stations that only have the
// old one can't connect any more.
func (a *Authority) FinishRollover(ctx context.Context, kind Kind, actor string) (Rollover, error) {
	return a.advance(ctx, kind, PhaseFinished, actor)
}

// AbandonRollover gives up a start with a root made elsewhere that was interrupted. What
// the old root certified for it here is revoked; nothing of that root was taken in.
func (a *Authority) AbandonRollover(ctx context.Context, kind Kind, actor string) (Rollover, error) {
	a.building.Lock()
	defer a.building.Unlock()
	h, err := hierarchyOf(kind)
	if err != nil {
		return Rollover{}, err
	}
	change := a.hierarchy(kind).rollover
	switch {
	case change.Phase == PhaseAbandoned:
		return change, nil
	case change.Phase != PhasePreparing:
		return change, fmt.Errorf("%w: only a start that was interrupted can be given up, and %s", ErrRollover, change.where(kind))
	case !change.isOffline():
		return change, fmt.Errorf("%w: the new root of %s is made here, and nothing keeps the start from going on: bollard ca rollover %s start", ErrRollover, kind, kind)
	}
	for {
		bridge, err := findCA(ctx, a.cfg.Store, h, h.rootName(change.Generation), h.cross, h.rootName(change.present()))
		if errors.Is(err, ErrNoHierarchy) {
			break
		}
		if err != nil {
			return change, err
		}
		if err := a.withdraw(ctx, SerialOf(bridge.cert), actor); err != nil {
			return change, err
		}
		failpoint.Hit("ca.rollover-withdrawn")
	}
	change.Phase = PhaseAbandoned
	return a.step(ctx, h, change, actor)
}

// withdraw revokes a CA certificate of ours that nobody depends on.
func (a *Authority) withdraw(ctx context.Context, serial, actor string) error {
	const reason = "cessationOfOperation"
	record, err := a.cfg.Store.Certificate(ctx, serial)
	if err != nil {
		return err
	}
	event := ledger.Event{Kind: "certificate.revoked", Subject: serial, Actor: actor, Data: map[string]string{"reason": reason}}
	if err := a.cfg.Store.SetRevoked(ctx, serial, reason, a.cfg.Clock().UTC(), event); err != nil {
		return fmt.Errorf("%w %s: %w", ErrNotRevoked, serial, err)
	}
	a.revoked(record)
	return nil
}

// RolloverState returns how far the change of a root is.
func (a *Authority) RolloverState(kind Kind) Rollover { return a.hierarchy(kind).rollover }

func (a *Authority) advance(ctx context.Context, kind Kind, to Phase, actor string) (Rollover, error) {
	a.building.Lock()
	defer a.building.Unlock()
	h, err := hierarchyOf(kind)
	if err != nil {
		return Rollover{}, err
	}
	next := a.hierarchy(kind).rollover
	if next.Phase == to {
		return next, nil
	}
	next.Phase = to
	return a.step(ctx, h, next, actor)
}

// step records a phase and puts it in force.
func (a *Authority) step(ctx context.Context, h hierarchy, next Rollover, actor string) (Rollover, error) {
	return a.stepBy(ctx, h, next, actor, a.cfg.Store.PutRollover)
}

// where a change is, in words.
func (r Rollover) where(kind Kind) string {
	if r.Phase == "" {
		return "the root of " + string(kind) + " was never changed"
	}
	return "the change of " + string(kind) + " is " + string(r.Phase)
}

// stepBy is step with what records it.
func (a *Authority) stepBy(ctx context.Context, h hierarchy, next Rollover, actor string, put func(context.Context, Rollover, ...ledger.Event) error) (Rollover, error) {
	present := a.hierarchy(h.kind).rollover
	if !next.Follows(present) {
		return present, fmt.Errorf("%w: %s can't be %s: %s (steps: start, abort, switch, back, finish)", ErrRollover, h.kind, next.Phase, present.where(h.kind))
	}
	next.At = a.cfg.Clock().UTC()
	event := ledger.Event{Kind: "ca.rollover", Subject: string(h.kind), Actor: actor, Data: map[string]string{
		"root": h.rootName(next.Generation), "phase": string(next.Phase),
	}}
	if err := put(ctx, next, event); err != nil {
		return present, fmt.Errorf("couldn't record the step of the root change: %w", err)
	}
	if err := a.load(ctx, h); err != nil {
		return next, err
	}
	for _, other := range hierarchies {
		if l := a.hierarchy(other.kind); other.under == h.kind && l.issuing != nil && l.cas[0].borrowed {
			if err := a.load(ctx, other); err != nil {
				return next, err
			}
		}
	}
	a.changed()
	return next, nil
}

// Under says which root a chain is to lead to.
type Under string

// The two roots of a change.
const (
	UnderOld Under = "old"
	UnderNew Under = "new"
)

// Chain returns the CA certificates that lead from a leaf of the hierarchy to
// the old or to the new root, which is not included. Without a change under
// way both are the same.
func (a *Authority) Chain(kind Kind, under Under) []*x509.Certificate {
	l := a.hierarchy(kind)
	if under == UnderNew && l.rollover.underWay() {
		return l.next
	}
	return l.old
}

// CrossRoot is the new root's key certified by the old root, for stations that
// take a new root only from the old one (AdditionalRootCertificateCheck); nil
// if no change is under way.
func (a *Authority) CrossRoot(kind Kind) *x509.Certificate { return a.hierarchy(kind).cross }
