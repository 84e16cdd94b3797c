package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"bollard/ledger"
)

// tx is what one write sees of the writer's transaction. It is valid only
// while the write runs.
type tx struct {
	ctx    context.Context
	w      *writer
	newest int64 // latest time the write stored, in milliseconds
}

// exec runs a statement and returns how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	t.touch(query)
	res, err := t.w.conn.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// touch notes that the readers must forget what they remember of a table.
func (t *tx) touch(query string) {
	if table := tableOf(query); t.w.recents[table] != nil {
		t.w.touched[table] = true
	}
}

func (t *tx) row(query string, args ...any) *sql.Row {
	t.touch(query) // UPDATE … RETURNING
	return t.w.conn.QueryRowContext(t.ctx, query, args...)
}

func (t *tx) rows(query string, args ...any) (*sql.Rows, error) {
	t.touch(query)
	return t.w.conn.QueryContext(t.ctx, query, args...)
}

// saw notes times the write stores, for NewestTime.
func (t *tx) saw(times ...time.Time) {
	for _, at := range times {
		if !at.IsZero() {
			t.newest = max(t.newest, at.UnixMilli())
		}
	}
}

// record appends events to the ledger, in the transaction of their effect.
func (t *tx) record(events ...ledger.Event) error {
	for _, event := range events {
		if err := event.Validate(); err != nil {
			return err
		}
		if t.w.tail == nil {
			tail, err := newestEntry(t)
			if err != nil {
				return fmt.Errorf("couldn't read the newest ledger entry: %w", err)
			}
			t.w.tail = &tail
		}
		entry := ledger.Next(*t.w.tail, t.w.clock(), event)
		data, err := encodeData(entry.Data)
		if err != nil {
			return fmt.Errorf("couldn't encode a ledger entry's data: %w", err)
		}
		if _, err := t.exec(`INSERT INTO ledger (seq, at, kind, subject, actor, data, prev, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			int64(entry.Seq), entry.Time.UnixMilli(), entry.Kind, entry.Subject, entry.Actor, data, entry.Prev[:], entry.Hash[:]); err != nil {
			return fmt.Errorf("couldn't append to the ledger: %w", err)
		}
		t.saw(entry.Time)
		t.w.tail = &entry
	}
	return nil
}

// newestEntry is the zero Entry for an empty ledger.
func newestEntry(t *tx) (ledger.Entry, error) {
	entry, err := scanEntry(t.row("SELECT " + entryColumns + " FROM ledger ORDER BY seq DESC LIMIT 1"))
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.Entry{}, nil
	}
	return entry, err
}

func encodeData(data map[string]string) (string, error) {
	if len(data) == 0 {
		return "", nil
	}
	b, err := json.Marshal(data)
	return string(b), err
}

// scanner is what *sql.Row and *sql.Rows share.
type scanner interface{ Scan(into ...any) error }

// collect reads all rows with one's scan function and closes them.
func collect[T any](rows *sql.Rows, err error, scan func(scanner) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	list := []T{}
	for rows.Next() {
		item, err := scan(rows)
		if err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		list = append(list, item)
	}
	return list, errors.Join(rows.Err(), rows.Close())
}
