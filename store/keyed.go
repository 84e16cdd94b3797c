package store

import (
	"context"
	"database/sql"
)

// keyed are the reads every admission, every certificate and every firmware update
// makes, prepared once.
// They run without a cancellation: a few rows by key take microseconds, and the
// driver would start a goroutine for each to wait for it.
//
// The + before what is compared with more than one row, or in a read of several tables,
// keeps them prepared: SQLite plans "x = ?" by whether the value is 0 or 1, and takes the
// driver's clearing of values after each use for a change of that
// (sqlite3_clear_bindings).
type keyed struct {
	station, certificate, orders, seccOrders, anchors *sql.Stmt
	openOrders, unconfirmed                           *sql.Stmt
	applicant, plan, orderByCSR, certificatesByKey    *sql.Stmt
	jobs, openJobs, floor, quarantine                 *sql.Stmt
}

// prepareKeyed prepares them; closing the pool closes them.
func prepareKeyed(ctx context.Context, db *sql.DB) (keyed, error) {
	var k keyed
	for _, p := range []struct {
		into  **sql.Stmt
		query string
	}{
		{&k.station, "SELECT " + stationColumns + " FROM stations WHERE station = ?"},
		{&k.certificate, "SELECT " + certificateColumns + ", (SELECT mac FROM certificate_verdicts v WHERE v.serial = c.serial) FROM certificates c WHERE serial = ?"},
		{&k.orders, "SELECT " + orderColumns + " FROM orders WHERE station = +? AND secc = '' ORDER BY position DESC LIMIT +?"},
		{&k.seccOrders, "SELECT " + orderColumns + " FROM orders WHERE station = +? AND secc <> '' ORDER BY position DESC LIMIT +?"},
		{&k.openOrders, "SELECT " + orderColumns + " FROM orders WHERE station = +? AND state IN (+?, +?) ORDER BY position DESC"},
		{&k.unconfirmed, "SELECT " + orderColumns + " FROM orders WHERE station = +? AND secc = '' AND serial = +? AND state IN (+?, +?) ORDER BY position DESC LIMIT 1"},
		{&k.anchors, "SELECT purpose, hash, subject, der, added_at FROM anchors WHERE ? = '' OR purpose = ? ORDER BY purpose, hash"},
		{&k.applicant, selectApplicant},
		{&k.plan, "SELECT plan FROM plans WHERE station = ?"},
		{&k.orderByCSR, "SELECT " + orderColumns + " FROM orders WHERE csr_hash = +? AND station = +? ORDER BY position DESC LIMIT 1"},
		{&k.certificatesByKey, "SELECT " + certificateColumns + " FROM certificates WHERE key_hash = +? ORDER BY position DESC"},
		{&k.jobs, "SELECT record FROM firmware_jobs WHERE station = +? ORDER BY number DESC LIMIT +?"},
		{&k.openJobs, "SELECT record FROM firmware_jobs WHERE over = 0 AND station = +?"},
		{&k.floor, "SELECT sequence, epoch FROM firmware_floors WHERE station = ? AND component = ?"},
		{&k.quarantine, "SELECT COUNT(*) FROM firmware_quarantine WHERE station = ?"},
	} {
		var err error
		if *p.into, err = db.PrepareContext(ctx, p.query); err != nil { //nolint:sqlclosecheck // closed with the pool
			return keyed{}, err
		}
	}
	return k, nil
}

// ready says why nothing is read any more.
func (s *Store) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := s.reader()
	return err
}

// lookUp reads one row by key.
func lookUp[T any](ctx context.Context, s *Store, query *sql.Stmt, scan func(scanner) (T, error), key ...any) (T, error) {
	if err := s.ready(ctx); err != nil {
		var none T
		return none, err
	}
	row, err := scan(query.QueryRowContext(context.WithoutCancel(ctx), key...))
	return row, explain(s.path, err)
}

// lookUpAll reads the rows of a key.
func lookUpAll[T any](ctx context.Context, s *Store, query *sql.Stmt, scan func(scanner) (T, error), key ...any) ([]T, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	rows, err := query.QueryContext(context.WithoutCancel(ctx), key...)
	list, err := collect(rows, err, scan)
	return list, explain(s.path, err)
}

// remembered returns a row of recent, or reads it. clone makes what the caller
// gets independent of what is kept.
func remembered[V any](ctx context.Context, s *Store, r *recent[V], key string, clone func(V) V, read func(context.Context) (V, error)) (V, error) {
	var none V
	if err := s.ready(ctx); err != nil {
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
