package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
)

// The reads every admission, every certificate and every firmware update makes. They ask
// SQLite's driver itself: what database/sql does for a row by key is a third of what it
// costs. Each connection keeps their statements prepared.
//
// They run without a cancellation: a few rows by key take microseconds, and the
// driver would start a goroutine for each to wait for it.
//
// The + before what is compared with more than one row, or in a read of several tables,
// keeps them prepared: SQLite plans "x = ?" by whether the value is 0 or 1, and takes the
// driver's clearing of values after each use for a change of that
// (sqlite3_clear_bindings).
const (
	stationByKey        = "SELECT " + stationColumns + " FROM stations WHERE station = ?"
	certificateBySerial = "SELECT " + certificateColumns + ", (SELECT mac FROM certificate_verdicts v WHERE v.serial = c.serial) FROM certificates c WHERE serial = ?"
	certificatesByKey   = "SELECT " + certificateColumns + " FROM certificates WHERE key_hash = +? ORDER BY position DESC"
	ordersOf            = "SELECT " + orderColumns + " FROM orders WHERE station = +? AND secc = '' ORDER BY position DESC LIMIT +?"
	seccOrdersOf        = "SELECT " + orderColumns + " FROM orders WHERE station = +? AND secc <> '' ORDER BY position DESC LIMIT +?"
	openOrdersOf        = "SELECT " + orderColumns + " FROM orders WHERE station = +? AND state IN (+?, +?) ORDER BY position DESC"
	unconfirmedOrder    = "SELECT " + orderColumns + " FROM orders WHERE station = +? AND secc = '' AND serial = +? AND state IN (+?, +?) ORDER BY position DESC LIMIT 1"
	orderByID           = "SELECT " + orderColumns + " FROM orders WHERE id = ?"
	orderByCSR          = "SELECT " + orderColumns + " FROM orders WHERE csr_hash = +? AND station = +? ORDER BY position DESC LIMIT 1"
	anchorsFor          = "SELECT purpose, hash, subject, der, added_at FROM anchors WHERE ? = '' OR purpose = ? ORDER BY purpose, hash"
	planOf              = "SELECT plan FROM plans WHERE station = ?"
	latestJobsOf        = "SELECT record FROM firmware_jobs WHERE station = +? ORDER BY number DESC LIMIT +?"
	openJobsOf          = "SELECT record FROM firmware_jobs WHERE over = 0 AND station = +?"
	floorOf             = "SELECT sequence, epoch FROM firmware_floors WHERE station = ? AND component = ?"
	quarantineOf        = "SELECT COUNT(*) FROM firmware_quarantine WHERE station = ?"
)

// ready says why nothing is read any more.
func (s *Store) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := s.reader()
	return err
}

// lookUp reads one row by key; sql.ErrNoRows.
func lookUp[T any](ctx context.Context, s *Store, query string, scan func(*columns) T, key ...any) (found T, err error) {
	if err := ctx.Err(); err != nil {
		return found, err
	}
	err = s.ask(context.WithoutCancel(ctx), query, key, func(a *answer) (err error) {
		found, err = firstRow(a, scan)
		return err
	})
	return found, err
}

// lookUpAll reads the rows of a key.
func lookUpAll[T any](ctx context.Context, s *Store, query string, scan func(*columns) T, key ...any) ([]T, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return readAll(context.WithoutCancel(ctx), s, query, scan, key...)
}

// readAll reads rows until the context ends.
func readAll[T any](ctx context.Context, s *Store, query string, scan func(*columns) T, args ...any) (rows []T, err error) {
	err = s.ask(ctx, query, args, func(a *answer) (err error) {
		rows, err = allRows(a, scan)
		return err
	})
	return rows, err
}

// orNone is the zero value instead of sql.ErrNoRows.
func orNone[T any](found T, err error) (T, error) {
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return found, err
}

// ask lends a connection to a read. take must not read anything else: readers that wait
// for each other's connections wait for ever.
func (s *Store) ask(ctx context.Context, query string, key []any, take func(*answer) error) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	conn, err := s.read.Conn(ctx)
	if err != nil {
		return cmp.Or(s.ready(ctx), explain(s.path, err)) // closed since, most likely
	}
	a, _ := s.spare.Get().(*answer)
	if a == nil {
		a = &answer{}
	}
	err = conn.Raw(func(c any) error { return a.ask(ctx, c, query, key, take) })
	s.spare.Put(a)
	if back := conn.Close(); err == nil {
		err = back
	}
	return explain(s.path, err)
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
	row, err := read(ctx)
	if err != nil {
		return none, err
	}
	r.put(key, row, age)
	return clone(row), nil
}
