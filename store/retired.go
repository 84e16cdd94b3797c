package store

import (
	"context"
	"fmt"
	"time"

	"bollard/fleet"
	"bollard/ledger"
)

var _ fleet.RetirementStore = (*Store)(nil)

// RetireStation removes a station with its orders, secrets and events, and
// keeps that its identity is used up, in one transaction.
func (s *Store) RetireStation(ctx context.Context, key string, at time.Time, secrets []string, last func(*fleet.Station) []ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.removeStation(key, last); err != nil {
			return err
		}
		if _, err := t.exec("DELETE FROM orders WHERE station = ?", key); err != nil {
			return fmt.Errorf("couldn't remove orders of station %q: %w", key, err)
		}
		for _, name := range secrets {
			if _, err := t.exec("DELETE FROM secrets WHERE name = ?", name); err != nil {
				return fmt.Errorf("couldn't remove a secret of station %q: %w", key, err)
			}
		}
		if _, err := t.exec(`INSERT INTO retired_identities (station, retired_at) VALUES (?, ?)
			ON CONFLICT (station) DO UPDATE SET retired_at = excluded.retired_at`, key, millis(at)); err != nil {
			return fmt.Errorf("couldn't keep the identity of station %q: %w", key, err)
		}
		return nil
	})
}

// Retired returns the decommissioned identities, by key, with their days.
func (s *Store) Retired(ctx context.Context) (map[string]time.Time, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	type row struct {
		station string
		at      time.Time
	}
	rows, err := db.QueryContext(ctx, "SELECT station, retired_at FROM retired_identities")
	list, err := collect(rows, err, func(from scanner) (row, error) {
		var r row
		return r, from.Scan(&r.station, instant{&r.at})
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the decommissioned identities: %w", explain(s.path, err))
	}
	out := make(map[string]time.Time, len(list))
	for _, r := range list {
		out[r.station] = r.at
	}
	return out, nil
}
