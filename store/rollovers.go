package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"bollard/ca"
	"bollard/ledger"
)

const rolloverQuery = "SELECT kind, generation, phase, tag, at FROM rollovers WHERE kind = ?"

// Rollover returns the newest root change of a hierarchy, the zero value if
// there was none.
func (s *Store) Rollover(ctx context.Context, kind ca.Kind) (ca.Rollover, error) {
	db, err := s.reader()
	if err != nil {
		return ca.Rollover{}, err
	}
	r, err := scanRollover(db.QueryRowContext(ctx, rolloverQuery, string(kind)))
	if err != nil {
		return ca.Rollover{}, fmt.Errorf("couldn't read the root change of %s: %w", kind, explain(s.path, err))
	}
	return r, nil
}

// PutRollover records a step of a root change; ca.ErrRollover unless it follows
// the one recorded.
func (s *Store) PutRollover(ctx context.Context, next ca.Rollover, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.putRollover(next); err != nil {
			return err
		}
		return t.record(events...)
	})
}

func (t *tx) putRollover(next ca.Rollover) error {
	present, err := scanRollover(t.row(rolloverQuery, string(next.Kind)))
	if err != nil {
		return fmt.Errorf("couldn't read the root change of %s: %w", next.Kind, err)
	}
	if !next.Follows(present) {
		return fmt.Errorf("couldn't record %s of %s after %q: %w", next.Phase, next.Kind, present.Phase, ca.ErrRollover)
	}
	if _, err := t.exec(`INSERT INTO rollovers (kind, generation, phase, tag, at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (kind) DO UPDATE SET generation = excluded.generation, phase = excluded.phase, tag = excluded.tag, at = excluded.at`,
		string(next.Kind), next.Generation, string(next.Phase), next.Tag, next.At.UnixMilli()); err != nil {
		return fmt.Errorf("couldn't record the root change of %s: %w", next.Kind, err)
	}
	t.saw(next.At)
	return nil
}

func scanRollover(row scanner) (ca.Rollover, error) {
	var r ca.Rollover
	var at int64
	err := row.Scan(&r.Kind, &r.Generation, &r.Phase, &r.Tag, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return ca.Rollover{}, nil
	}
	r.At = time.UnixMilli(at).UTC()
	return r, err
}
