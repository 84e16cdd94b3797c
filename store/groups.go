package store

import (
	"context"
	"encoding/json"
	"fmt"

	"bollard/fleet"
	"bollard/ledger"
)

// Groups returns what is wanted of each group, by name.
func (s *Store) Groups(ctx context.Context) ([]fleet.Group, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT record FROM fleet_groups ORDER BY name")
	list, err := collect(rows, err, func(row scanner) (fleet.Group, error) {
		var g fleet.Group
		var text []byte
		if err := row.Scan(&text); err != nil {
			return g, err
		}
		return g, json.Unmarshal(text, &g)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the groups: %w", explain(s.path, err))
	}
	return list, nil
}

// PutGroup stores what is wanted of a group in place of what was.
func (s *Store) PutGroup(ctx context.Context, g fleet.Group, events ...ledger.Event) error {
	text, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("couldn't encode group %q: %w", g.Name, err)
	}
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec("INSERT INTO fleet_groups (name, record) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET record = excluded.record", g.Name, string(text)); err != nil {
			return fmt.Errorf("couldn't store group %q: %w", g.Name, err)
		}
		return t.record(events...)
	})
}

// RemoveGroup forgets a group; fleet.ErrUnknownGroup if there is none.
func (s *Store) RemoveGroup(ctx context.Context, name string, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		removed, err := t.exec("DELETE FROM fleet_groups WHERE name = ?", name)
		if err != nil {
			return fmt.Errorf("couldn't remove group %q: %w", name, err)
		}
		if removed == 0 {
			return fmt.Errorf("couldn't remove group %q: %w", name, fleet.ErrUnknownGroup)
		}
		return t.record(events...)
	})
}
