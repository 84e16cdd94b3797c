package campaign

import (
	"cmp"
	"context"
	"encoding/json"

	"bollard/firmware/catalogue"
	"bollard/internal/rollout"
	"bollard/ledger"
)

// keep stores what changed of a rollout, with what of it is evidence, and its release
// in the state that follows.
func (s *Service) keep(ctx context.Context, c *campaign, actor string, failed []rollout.Member, events ...ledger.Event) error {
	w := writing{events: events}
	if err := s.note(&w, c, actor, failed); err != nil {
		return err
	}
	return s.write(ctx, c.detail.Release, &w)
}

// writing is what is to be stored of rollouts of one release at once.
type writing struct {
	steps  []rollout.Step
	moves  []func(e *catalogue.Entry) ([]ledger.Event, error)
	events []ledger.Event
}

// write stores it. If it can't be, memory is ahead of the disk: the book is to be read anew.
func (s *Service) write(ctx context.Context, release string, w *writing) error {
	if len(w.steps) == 0 {
		return nil
	}
	move := func(e *catalogue.Entry) (events []ledger.Event, err error) {
		for _, move := range w.moves {
			moved, err := move(e)
			if err != nil {
				return nil, err
			}
			events = append(events, moved...)
		}
		return events, nil
	}
	return s.cfg.Store.PutReleaseRollouts(ctx, w.steps, release, move, w.events...)
}

// note puts down what changed of a rollout.
func (s *Service) note(w *writing, c *campaign, actor string, failed []rollout.Member) error {
	before := c.record.Header
	header, members, changed := c.run.Changes()
	if !changed {
		return nil
	}
	detail, err := json.Marshal(c.detail)
	if err != nil {
		return err
	}
	c.record.Detail = detail
	w.events, c.used = append(w.events, c.used...), nil
	for _, m := range failed {
		w.events = append(w.events, ledger.Event{Kind: "firmware.rollout-failed", Subject: m.ID, Actor: actor,
			Data: map[string]string{"rollout": c.record.ID, "release": c.detail.Release, "reason": fact(m.Note)}})
	}
	if header.Phase != before.Phase || header.Wave != before.Wave {
		data := map[string]string{"rollout": c.record.ID, "phase": string(header.Phase), "ring": c.ringOf(header.Wave)}
		if header.Why != "" {
			data["reason"] = fact(header.Why)
		}
		w.events = append(w.events, ledger.Event{Kind: "firmware.rollout", Subject: c.detail.Release, Actor: actor, Data: data})
	}
	why := cmp.Or(c.why, header.Why)
	w.moves = append(w.moves, func(e *catalogue.Entry) ([]ledger.Event, error) {
		state, ok := map[rollout.Phase]catalogue.State{rollout.Running: catalogue.Rolling, rollout.Halted: catalogue.Halted, rollout.Finished: catalogue.Complete}[header.Phase]
		if !ok || header.Phase == before.Phase || e.State == state {
			return nil, nil
		}
		if state == catalogue.Complete && (c.run.Count()[rollout.Done] == 0 || s.another(c)) {
			return nil, nil // nobody has it, and it may be rolled out again; or it is
		}
		event, err := e.Move(state, actor, fact(why), s.cfg.Clock())
		return []ledger.Event{event}, err
	})
	c.record.Header, c.why = header, ""
	w.steps = append(w.steps, rollout.Step{Record: c.record, Changed: members})
	return nil
}
