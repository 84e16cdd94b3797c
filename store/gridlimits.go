package store

import (
	"context"
	"fmt"

	"bollard/firmware/campaign"
)

// Limits returns the limits of the grid's operator that stations told of.
func (s *Store) Limits(ctx context.Context) ([]campaign.Limit, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT station, what, at FROM grid_limits ORDER BY station, what")
	list, err := collect(rows, err, func(row scanner) (l campaign.Limit, err error) {
		return l, row.Scan(&l.Station, &l.What, instant{&l.At})
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the limits of the grid: %w", explain(s.path, err))
	}
	return list, nil
}

// PutLimits keeps those that are in force, new or known, and drops those that ended.
func (s *Store) PutLimits(ctx context.Context, put, ended []campaign.Limit) error {
	return s.write(ctx, func(t *tx) error {
		for _, l := range put {
			if _, err := t.exec("INSERT INTO grid_limits (station, what, at) VALUES (?, ?, ?) ON CONFLICT (station, what) DO UPDATE SET at = excluded.at", l.Station, l.What, millis(l.At)); err != nil {
				return fmt.Errorf("couldn't store the limits of the grid: %w", err)
			}
		}
		for _, l := range ended {
			if _, err := t.exec("DELETE FROM grid_limits WHERE station = ? AND what = ?", l.Station, l.What); err != nil {
				return fmt.Errorf("couldn't drop a limit of the grid that ended: %w", err)
			}
		}
		return nil
	})
}
