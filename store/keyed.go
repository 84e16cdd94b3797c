package store

import (
	"context"
	"database/sql"
)

// keyed are the reads every admission makes, prepared once. They run without a
// cancellation: a few rows by key take microseconds, and the driver would start a
// goroutine for each to wait for it.
type keyed struct {
	station, certificate, orders, anchors *sql.Stmt
}

// prepareKeyed prepares them; closing the pool closes them.
func prepareKeyed(ctx context.Context, db *sql.DB) (keyed, error) {
	var k keyed
	for _, p := range []struct {
		into  **sql.Stmt
		query string
	}{
		{&k.station, "SELECT " + stationColumns + " FROM stations WHERE station = ?"},
		{&k.certificate, "SELECT " + certificateColumns + " FROM certificates WHERE serial = ?"},
		{&k.orders, "SELECT " + orderColumns + " FROM orders WHERE station = ? ORDER BY position DESC LIMIT ?"},
		{&k.anchors, "SELECT purpose, hash, subject, der, added_at FROM anchors WHERE ? = '' OR purpose = ? ORDER BY purpose, hash"},
	} {
		var err error
		if *p.into, err = db.PrepareContext(ctx, p.query); err != nil { //nolint:sqlclosecheck // closed with the pool
			return keyed{}, err
		}
	}
	return k, nil
}

// remembered returns a row of recent, or reads it. clone makes what the caller
// gets independent of what is kept.
func remembered[V any](ctx context.Context, s *Store, r *recent[V], key string, clone func(V) V, read func(context.Context) (V, error)) (V, error) {
	var none V
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if _, err := s.reader(); err != nil {
		return none, err
	}
	row, age, ok := r.get(key)
	if ok {
		return clone(row), nil
	}
	row, err := read(context.WithoutCancel(ctx))
	if err != nil {
		return none, err
	}
	r.put(key, row, age)
	return clone(row), nil
}
