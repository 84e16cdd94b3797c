package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"bollard/ledger"
)

// LimitPages keeps the database from growing beyond a number of pages, as a
// full disk would; 1 means the size it has.
func (s *Store) LimitPages(ctx context.Context, pages int) error {
	return s.write(ctx, func(t *tx) error {
		var now int
		return t.row(fmt.Sprintf("PRAGMA max_page_count = %d", pages)).Scan(&now)
	})
}

// Do runs statements of a test's own as one write.
func (s *Store) Do(ctx context.Context, run func(exec func(query string, args ...any) error) error) error {
	return s.write(ctx, func(t *tx) error {
		return run(func(query string, args ...any) error {
			_, err := t.exec(query, args...)
			return err
		})
	})
}

// LookUp reads one row as the reads by key do.
func (s *Store) LookUp(ctx context.Context, query string, scan func(*columns) any) (any, error) {
	return lookUp(ctx, s, query, scan)
}

// Columns are what a scan function takes a row's values from.
type Columns = columns

// What a scan function may take of a row, by its type.
var (
	Text    = func(c *columns) any { return c.text() }
	Blob    = func(c *columns) any { return c.blob() }
	Number  = func(c *columns) any { return c.number() }
	Truth   = func(c *columns) any { return c.truth() }
	Instant = func(c *columns) any { return c.instant() }
)

// Durability tells the writer's journal mode and synchronous setting.
func (s *Store) Durability(ctx context.Context) (mode string, sync int) {
	_ = s.write(ctx, func(t *tx) error {
		return errors.Join(t.row("PRAGMA journal_mode").Scan(&mode), t.row("PRAGMA synchronous").Scan(&sync))
	})
	return mode, sync
}

// EncodeData is how a ledger entry's data is spelled in the database.
func EncodeData(data map[string]string) (string, error) { return encodeData(ledger.Event{Data: data}) }

// OrderReads are the reads of orders by key, by what they look for.
func OrderReads() map[string]string {
	return map[string]string{"own": ordersOf, "secc": seccOrdersOf, "open": openOrdersOf, "unconfirmed": unconfirmedOrder, "id": orderByID, "CSR": orderByCSR}
}

// PlanOf tells the steps SQLite takes for a query.
func (s *Store) PlanOf(ctx context.Context, query string) ([]string, error) {
	values := make([]any, strings.Count(query, "?"))
	for i := range values {
		values[i] = 1
	}
	return readAll(ctx, s, "EXPLAIN QUERY PLAN "+query, func(c *columns) string {
		_, _, _ = c.number(), c.number(), c.number() // the step, what it is part of, and nothing
		return c.text()
	}, values...)
}
