package store

import (
	"context"
	"fmt"
	"time"

	"bollard/warden"
)

var _ warden.TransactionStore = (*Store)(nil)

// Transactions returns whose the running transactions are, those that began
// first first.
func (s *Store) Transactions(ctx context.Context) ([]warden.Owned, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT digest, station, since FROM running_transactions ORDER BY since, digest, station")
	list, err := collect(rows, err, func(row scanner) (o warden.Owned, err error) {
		var digest []byte
		if err := row.Scan(&digest, &o.Station, instant{&o.Since}); err != nil {
			return o, err
		}
		if len(digest) != len(o.Transaction) {
			return o, fmt.Errorf("digest of a transaction of station %q has %d bytes", o.Station, len(digest))
		}
		o.Transaction = warden.Transaction(digest)
		return o, nil
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the running transactions: %w", explain(s.path, err))
	}
	return list, nil
}

// PutTransactions stores those that began and deletes those that ended, whose
// Since is zero; then what began before a time, and all but the newest most.
func (s *Store) PutTransactions(ctx context.Context, changed []warden.Owned, before time.Time, most int) error {
	return s.write(ctx, func(t *tx) error {
		for _, o := range changed {
			query, args := "DELETE FROM running_transactions WHERE digest = ? AND station = ?", []any{o.Transaction[:], o.Station}
			if !o.Since.IsZero() {
				query = "INSERT INTO running_transactions (digest, station, since) VALUES (?, ?, ?) ON CONFLICT (digest, station) DO UPDATE SET since = excluded.since"
				args = append(args, millis(o.Since))
			}
			if _, err := t.exec(query, args...); err != nil {
				return fmt.Errorf("couldn't store a transaction of station %q: %w", o.Station, err)
			}
		}
		if _, err := t.exec(`DELETE FROM running_transactions WHERE since < ?
			OR since < (SELECT since FROM running_transactions ORDER BY since DESC LIMIT 1 OFFSET ?)`, millis(before), most-1); err != nil {
			return fmt.Errorf("couldn't delete old transactions: %w", err)
		}
		return nil
	})
}
