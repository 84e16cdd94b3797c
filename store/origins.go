package store

import (
	"context"
	"encoding/json"
	"fmt"

	"bollard/firmware/origin"
	"bollard/ledger"
)

var _ origin.Store = (*Store)(nil)

// PutLead keeps what is known of a location in place of what was, and drops those whose
// keys are gone.
func (s *Store) PutLead(ctx context.Context, l origin.Lead, gone []string, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		text, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("couldn't encode where firmware comes from: %w", err)
		}
		if _, err := t.exec("INSERT INTO firmware_origins (location, changed_at, record) VALUES (?, ?, ?) ON CONFLICT (location) DO UPDATE SET changed_at = excluded.changed_at, record = excluded.record",
			l.Key, l.ChangedAt.UnixMilli(), string(text)); err != nil {
			return fmt.Errorf("couldn't store where firmware comes from: %w", err)
		}
		for _, key := range gone {
			if _, err := t.exec("DELETE FROM firmware_origins WHERE location = ?", key); err != nil {
				return fmt.Errorf("couldn't drop where firmware came from: %w", err)
			}
		}
		t.saw(l.ChangedAt)
		return t.record(events...)
	})
}

// Leads returns what is known of locations, newest first.
func (s *Store) Leads(ctx context.Context) ([]origin.Lead, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT record FROM firmware_origins ORDER BY changed_at DESC")
	list, err := collect(rows, err, scanJSON[origin.Lead])
	if err != nil {
		return nil, fmt.Errorf("couldn't read where firmware comes from: %w", explain(s.path, err))
	}
	return list, nil
}
