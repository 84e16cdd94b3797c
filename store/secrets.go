package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"bollard/ledger"
)

// Secret returns a small encrypted value, such as an upstream password; ok is
// false if there is none of this name. The caller has the key.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, bool, error) {
	db, err := s.reader()
	if err != nil {
		return nil, false, err
	}
	var ciphertext []byte
	err = db.QueryRowContext(ctx, "SELECT ciphertext FROM secrets WHERE name = ?", name).Scan(&ciphertext)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("couldn't read secret %q: %w", name, explain(s.path, err))
	}
	return ciphertext, true, nil
}

// SetSecret stores an encrypted value in place of an earlier one; an empty one
// removes it.
func (s *Store) SetSecret(ctx context.Context, name string, ciphertext []byte, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		var err error
		if len(ciphertext) == 0 {
			_, err = t.exec("DELETE FROM secrets WHERE name = ?", name)
		} else {
			_, err = t.exec(`INSERT INTO secrets (name, ciphertext, set_at) VALUES (?, ?, ?)
				ON CONFLICT (name) DO UPDATE SET ciphertext = excluded.ciphertext, set_at = excluded.set_at`,
				name, ciphertext, t.w.clock().UnixMilli())
		}
		if err != nil {
			return fmt.Errorf("couldn't store secret %q: %w", name, err)
		}
		return t.record(events...)
	})
}
