package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"bollard/contract/pool"
	"bollard/ledger"
)

var _ pool.TokenStore = (*Store)(nil)

// PoolTokens returns who may use the pool, by name.
func (s *Store) PoolTokens(ctx context.Context) ([]pool.Token, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT record FROM pool_tokens ORDER BY name")
	list, err := collect(rows, err, scanJSON[pool.Token])
	if err != nil {
		return nil, fmt.Errorf("couldn't read the pool's tokens: %w", explain(s.path, err))
	}
	return list, nil
}

// PoolToken returns one; ok is false without one.
func (s *Store) PoolToken(ctx context.Context, name string) (pool.Token, bool, error) {
	return readOne[pool.Token](ctx, s, "a token of the pool", "SELECT record FROM pool_tokens WHERE name = ?", name)
}

// UpdatePoolToken reads, changes and writes one in one transaction; change is given
// nil where there is none.
func (s *Store) UpdatePoolToken(ctx context.Context, name string, change func(*pool.Token) (*pool.Token, []ledger.Event, error)) error {
	return s.write(ctx, func(t *tx) error {
		var before *pool.Token
		known, err := scanJSON[pool.Token](t.row("SELECT record FROM pool_tokens WHERE name = ?", name))
		switch {
		case err == nil:
			before = &known
		case !errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("couldn't read token %s of the pool: %w", name, err)
		}
		after, events, err := change(before)
		if err != nil {
			return err
		}
		text, err := json.Marshal(after)
		if err != nil {
			return fmt.Errorf("couldn't encode token %s of the pool: %w", name, err)
		}
		if _, err := t.exec("INSERT INTO pool_tokens (name, record) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET record = excluded.record", name, string(text)); err != nil {
			return fmt.Errorf("couldn't store token %s of the pool: %w", name, err)
		}
		return t.record(events...)
	})
}
