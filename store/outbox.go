package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"bollard/fleet"
	"bollard/ledger"
)

// Parcels returns a station's copies for its back end, oldest first, at most limit.
func (s *Store) Parcels(ctx context.Context, station string, limit int) ([]fleet.Parcel, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, `SELECT position, station, action, payload, queued_at, tries FROM outbox
		WHERE station = ? ORDER BY position LIMIT ?`, station, limit)
	list, err := collect(rows, err, func(row scanner) (fleet.Parcel, error) {
		var p fleet.Parcel
		var payload []byte
		err := row.Scan(&p.ID, &p.Station, &p.Action, &payload, instant{&p.QueuedAt}, &p.Tries)
		p.Payload = payload
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the outbox: %w", explain(s.path, err))
	}
	return list, nil
}

// RemoveParcel takes a delivered copy out of the outbox. One that is gone
// already is no error.
func (s *Store) RemoveParcel(ctx context.Context, id int64) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec("DELETE FROM outbox WHERE position = ?", id); err != nil {
			return fmt.Errorf("couldn't remove copy %d from the outbox: %w", id, err)
		}
		return nil
	})
}

// TriedParcel counts an answer that was no acceptance.
func (s *Store) TriedParcel(ctx context.Context, id int64) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec("UPDATE outbox SET tries = tries + 1 WHERE position = ?", id); err != nil {
			return fmt.Errorf("couldn't count a try of copy %d in the outbox: %w", id, err)
		}
		return nil
	})
}

// LoseParcel gives a copy up and counts it.
func (s *Store) LoseParcel(ctx context.Context, id int64, lost func(fleet.EventLosses) []ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		var station string
		err := t.row("DELETE FROM outbox WHERE position = ? RETURNING station", id).Scan(&station)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("couldn't give up copy %d of the outbox: %w", id, err)
		}
		return t.countLosses(station, 0, 1, lost)
	})
}

// LoseParcels gives up every copy queued before a time, and returns how many.
func (s *Store) LoseParcels(ctx context.Context, before time.Time, lost func(fleet.EventLosses) []ledger.Event) (int, error) {
	total := 0
	err := s.write(ctx, func(t *tx) error {
		total = 0
		rows, err := t.rows("SELECT station, COUNT(*) FROM outbox WHERE queued_at < ? GROUP BY station ORDER BY station", before.UnixMilli())
		type group struct {
			station string
			copies  int64
		}
		groups, err := collect(rows, err, func(row scanner) (group, error) {
			var g group
			return g, row.Scan(&g.station, &g.copies)
		})
		if err != nil {
			return fmt.Errorf("couldn't look for old copies in the outbox: %w", err)
		}
		if _, err := t.exec("DELETE FROM outbox WHERE queued_at < ?", before.UnixMilli()); err != nil {
			return fmt.Errorf("couldn't give up old copies of the outbox: %w", err)
		}
		for _, g := range groups {
			total += int(g.copies)
			if err := t.countLosses(g.station, 0, g.copies, lost); err != nil {
				return err
			}
		}
		return nil
	})
	return total, err
}

// Unable returns since when a back end is known not to support an action of a
// version; the zero time if it isn't.
func (s *Store) Unable(ctx context.Context, backend, version, action string) (time.Time, error) {
	db, err := s.reader()
	if err != nil {
		return time.Time{}, err
	}
	var since time.Time
	err = db.QueryRowContext(ctx, "SELECT since FROM backend_unable WHERE backend = ? AND version = ? AND action = ?", backend, version, action).Scan(instant{&since})
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, fmt.Errorf("couldn't read what back end %q supports: %w", backend, explain(s.path, err))
	}
	return since, nil
}

// SetUnable remembers it.
func (s *Store) SetUnable(ctx context.Context, backend, version, action string, since time.Time, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO backend_unable (backend, version, action, since) VALUES (?, ?, ?, ?)
			ON CONFLICT (backend, version, action) DO UPDATE SET since = excluded.since`, backend, version, action, since.UnixMilli()); err != nil {
			return fmt.Errorf("couldn't remember what back end %q supports: %w", backend, err)
		}
		t.saw(since)
		return t.record(events...)
	})
}

// addParcel queues a copy and returns how many older ones had to go for it.
func (t *tx) addParcel(station string, p *fleet.Parcel) (int64, error) {
	position, err := t.position("outbox")
	if err != nil {
		return 0, err
	}
	if _, err := t.exec("INSERT INTO outbox (position, station, action, payload, queued_at, tries) VALUES (?, ?, ?, ?, ?, 0)",
		position, station, p.Action, []byte(p.Payload), p.QueuedAt.UnixMilli()); err != nil {
		return 0, fmt.Errorf("couldn't queue a copy for the back end of station %q: %w", station, err)
	}
	t.saw(p.QueuedAt)
	gone, err := t.exec(`DELETE FROM outbox WHERE station = ? AND position <=
		(SELECT position FROM outbox WHERE station = ? ORDER BY position DESC LIMIT 1 OFFSET ?)`, station, station, fleet.ParcelsKept)
	if err != nil {
		return 0, fmt.Errorf("couldn't drop the oldest copies for the back end of station %q: %w", station, err)
	}
	return gone, nil
}
