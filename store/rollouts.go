package store

import (
	"context"
	"encoding/json"
	"fmt"

	"bollard/firmware/catalogue"
	"bollard/fleet"
	"bollard/internal/rollout"
	"bollard/ledger"
)

var _ fleet.ControllerStore = (*Store)(nil)

// Rollouts returns those of one kind, newest first.
func (s *Store) Rollouts(ctx context.Context, kind string) ([]rollout.Record, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT id, kind, at, detail, header, EXISTS (SELECT 1 FROM rollout_members WHERE rollout = id AND state = 'begun') FROM rollouts WHERE kind = ? ORDER BY position DESC", kind)
	list, err := collect(rows, err, func(row scanner) (rollout.Record, error) {
		var (
			r      rollout.Record
			header []byte
			detail []byte
		)
		if err := row.Scan(&r.ID, &r.Kind, instant{&r.At}, &detail, &header, &r.AtWork); err != nil {
			return r, err
		}
		r.Detail = detail
		if err := json.Unmarshal(header, &r.Header); err != nil {
			return r, fmt.Errorf("rollout %s is unreadable: %w", r.ID, err)
		}
		return r, nil
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the rollouts: %w", explain(s.path, err))
	}
	return list, nil
}

// RolloutMembers returns the members of a rollout, by ID.
func (s *Store) RolloutMembers(ctx context.Context, id string) ([]rollout.Member, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT member, site, wave, slot, state, began, at, note, signs FROM rollout_members WHERE rollout = ? ORDER BY member", id)
	list, err := collect(rows, err, func(row scanner) (rollout.Member, error) {
		var m rollout.Member
		var signs string
		if err := row.Scan(&m.ID, &m.Site, &m.Wave, &m.Slot, &m.State, instant{&m.Began}, instant{&m.At}, &m.Note, &signs); err != nil || signs == "" {
			return m, err
		}
		return m, json.Unmarshal([]byte(signs), &m.Signs)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the members of rollout %s: %w", id, explain(s.path, err))
	}
	return list, nil
}

// PutRollout stores a rollout, new or known, and those of its members that
// changed, in one transaction.
func (s *Store) PutRollout(ctx context.Context, r rollout.Record, changed []rollout.Member, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.putRollout(&r, changed); err != nil {
			return err
		}
		return t.record(events...)
	})
}

// PutReleaseRollouts stores steps of rollouts of a release, with it as move leaves it, in
// one transaction.
func (s *Store) PutReleaseRollouts(ctx context.Context, steps []rollout.Step, release string, move func(*catalogue.Entry) ([]ledger.Event, error), events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		e, err := scanJSON[catalogue.Entry](t.row("SELECT record FROM firmware_releases WHERE id = ?", release))
		if err != nil {
			return fmt.Errorf("couldn't read firmware release %s: %w", release, err)
		}
		moved, err := move(&e)
		if err != nil {
			return err
		}
		if len(moved) > 0 {
			if err := t.putRelease(&e); err != nil {
				return err
			}
		}
		for i := range steps {
			if err := t.putRollout(&steps[i].Record, steps[i].Changed); err != nil {
				return err
			}
		}
		return t.record(append(moved, events...)...)
	})
}

func (t *tx) putRollout(r *rollout.Record, changed []rollout.Member) error {
	header, err := json.Marshal(r.Header)
	if err != nil {
		return fmt.Errorf("couldn't encode rollout %s: %w", r.ID, err)
	}
	_, err = t.exec(`INSERT INTO rollouts (id, position, kind, at, detail, header)
			VALUES (?, (SELECT COALESCE(MAX(position), 0) + 1 FROM rollouts), ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET header = excluded.header, detail = excluded.detail`, r.ID, r.Kind, millis(r.At), string(r.Detail), string(header))
	if err != nil {
		return fmt.Errorf("couldn't store rollout %s: %w", r.ID, err)
	}
	for _, m := range changed {
		signs := ""
		if m.Signs.Count != nil || m.Signs.Past != nil {
			text, err := json.Marshal(m.Signs)
			if err != nil {
				return fmt.Errorf("couldn't encode member %q of rollout %s: %w", m.ID, r.ID, err)
			}
			signs = string(text)
		}
		_, err := t.exec(`INSERT INTO rollout_members (rollout, member, site, wave, slot, state, began, at, note, signs) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (rollout, member) DO UPDATE SET state = excluded.state, began = excluded.began, at = excluded.at, note = excluded.note, signs = excluded.signs`,
			r.ID, m.ID, m.Site, m.Wave, m.Slot, string(m.State), millis(m.Began), millis(m.At), m.Note, signs)
		if err != nil {
			return fmt.Errorf("couldn't store member %q of rollout %s: %w", m.ID, r.ID, err)
		}
	}
	return nil
}
