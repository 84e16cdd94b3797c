package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"bollard/approval"
	"bollard/ledger"
)

// tx is what one write sees of the writer's transaction. It is valid only
// while the write runs.
type tx struct {
	ctx    context.Context
	w      *writer
	newest int64 // latest time the write stored, in milliseconds
}

// exec runs a statement and returns how many rows it changed. It asks the driver:
// what database/sql does around it is a fifth of what a short statement costs.
func (t *tx) exec(query string, args ...any) (int64, error) {
	t.touch(query)
	named, err := bind(t.w.answer.args[:0], args)
	if err != nil {
		return 0, err
	}
	t.w.answer.args = named
	var res driver.Result
	err = t.w.conn.Raw(func(conn any) error {
		var err error
		res, err = conn.(driver.ExecerContext).ExecContext(t.ctx, query, named)
		return err
	})
	clear(named)
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

// see reads one row; sql.ErrNoRows.
func see[T any](t *tx, query string, scan func(*columns) T, args ...any) (row T, err error) {
	err = t.w.ask(t.ctx, query, args, func(a *answer) (err error) {
		row, err = firstRow(a, scan)
		return err
	})
	return row, err
}

// seeAll reads rows.
func seeAll[T any](t *tx, query string, scan func(*columns) T, args ...any) (rows []T, err error) {
	err = t.w.ask(t.ctx, query, args, func(a *answer) (err error) {
		rows, err = allRows(a, scan)
		return err
	})
	return rows, err
}

// saw notes times the write stores, for NewestTime.
func (t *tx) saw(times ...time.Time) {
	for _, at := range times {
		if !at.IsZero() {
			t.newest = max(t.newest, at.UnixMilli())
		}
	}
}

// record appends events to the ledger, in the transaction of their effect, with
// pseudonyms for people. One that uses an approval up does so, or fails the
// transaction.
func (t *tx) record(events ...ledger.Event) error {
	for _, event := range events {
		event, err := event.WithPseudonyms(t.pseudonym)
		if err != nil {
			return err
		}
		if err := event.Validate(); err != nil {
			return err
		}
		if event.Kind == approval.KindUsed {
			if err := t.spend(event.Subject); err != nil {
				return err
			}
		}
		if t.w.tree == nil {
			tree, err := t.loadTree()
			if err != nil {
				return err
			}
			t.w.tree = tree
		}
		// A failure from here on undoes the write, and the writer forgets the tree.
		entry := t.w.tree.Append(t.w.clock(), event)
		if err := t.w.pending.add(entry); err != nil {
			return err
		}
		t.saw(entry.Time)
	}
	return nil
}

func (t *tx) loadTree() (*ledger.Tree, error) {
	var size int64
	if err := t.row("SELECT COALESCE(MAX(seq), 0) FROM ledger").Scan(&size); err != nil {
		return nil, fmt.Errorf("couldn't read the ledger's size: %w", err)
	}
	return ledger.LoadTree(uint64(size), tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		return readHashes(indexes, func(query string, args ...any) scanner { return t.row(query, args...) })
	}))
}

// encodeData is encoding/json's spelling, which it is left to where a text isn't plain.
func encodeData(e ledger.Event) (string, error) {
	if len(e.Data) == 0 {
		return "", nil
	}
	var keys [ledger.MaxPairs]string
	var room [1024]byte // on the stack, for nearly all
	b := append(room[:0], '{')
	for i, key := range e.AppendKeys(keys[:0]) {
		value := e.Data[key]
		if !plain(key) || !plain(value) {
			b, err := json.Marshal(e.Data)
			return string(b), err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), key...), `":"`...)
		b = append(append(b, value...), '"')
	}
	return string(append(b, '}')), nil
}

// plain: printable ASCII that encoding/json writes as it is.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
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
