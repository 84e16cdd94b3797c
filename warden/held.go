package warden

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"bollard/fleet"
	"bollard/policy"
)

// A held message was refused. The operator may release it: then the same message
// passes once, when its sender sends it again. Nothing of it is kept but a digest,
// in memory: a restart forgets what was held, and the next try is held anew.
const (
	heldFor = 24 * time.Hour
	maxHeld = 1000
	// maxHeldOf bounds those of one station: who sends one after the other has its own
	// forgotten, and not what the operator has released for others.
	maxHeldOf = 50
)

// ErrNotHeld says that nothing is held under an id.
var ErrNotHeld = errors.New("no such message is held")

// Held is a message that waits for the operator.
type Held struct {
	ID       string    `json:"id"`
	Station  string    `json:"station"`
	Action   string    `json:"action"`
	Rule     string    `json:"rule"`
	Reason   string    `json:"reason"`
	HeldAt   time.Time `json:"held_at"` // the newest try
	Released bool      `json:"released"`
}

// hold remembers a message that was held.
func (w *Warden) hold(s fleet.Session, in *policy.Input, d *policy.Decision) {
	id, now := w.digest(d.Rule, d.Held), w.cfg.Clock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.held[id]; h != nil {
		h.HeldAt = now
		return
	}
	station, own := keyOf(s), 0
	var oldest, oldestOwn *Held
	for _, h := range w.held {
		if oldest == nil || h.HeldAt.Before(oldest.HeldAt) {
			oldest = h
		}
		if h.Station != station {
			continue
		}
		if own++; oldestOwn == nil || h.HeldAt.Before(oldestOwn.HeldAt) {
			oldestOwn = h
		}
	}
	switch {
	case own >= maxHeldOf:
		delete(w.held, oldestOwn.ID)
	case len(w.held) >= maxHeld:
		delete(w.held, oldest.ID)
	}
	w.held[id] = &Held{ID: id, Station: station, Action: in.Action, Rule: d.Rule, Reason: d.Reason, HeldAt: now}
}

// release says whether a message may pass this time: it may once.
func (w *Warden) release(rule string, message []byte) bool {
	id, now := w.digest(rule, message), w.cfg.Clock()
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.held[id]
	if h == nil || !h.Released || now.Sub(h.HeldAt) > heldFor {
		return false
	}
	delete(w.held, id)
	return true
}

// Held lists what waits for the operator, and what was released and not sent
// again yet, oldest first.
func (w *Warden) Held() []Held {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.heldList()
	slices.SortFunc(list, func(a, b Held) int { return cmp.Or(a.HeldAt.Compare(b.HeldAt), cmp.Compare(a.ID, b.ID)) })
	return list
}

// heldList forgets what is too old. The caller holds mu.
func (w *Warden) heldList() []Held {
	list := []Held{}
	now := w.cfg.Clock()
	for id, h := range w.held {
		if now.Sub(h.HeldAt) > heldFor {
			delete(w.held, id)
			continue
		}
		list = append(list, *h)
	}
	return list
}

// Release lets a held message pass the next time it is sent. The caller has
// recorded that it was decided.
func (w *Warden) Release(id string) (Held, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.held[id]
	if h == nil || w.cfg.Clock().Sub(h.HeldAt) > heldFor {
		return Held{}, ErrNotHeld
	}
	h.Released = true
	return *h, nil
}
