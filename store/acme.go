package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"bollard/ca/acme"
	"bollard/ledger"
)

var _ acme.Store = (*Store)(nil)

// ACMEToken returns a token; ok is false without one.
func (s *Store) ACMEToken(ctx context.Context, id string) (acme.Token, bool, error) {
	return readOne[acme.Token](ctx, s, "an ACME token", "SELECT record FROM acme_tokens WHERE id = ?", id)
}

// AddACMEToken adds a token.
func (s *Store) AddACMEToken(ctx context.Context, token acme.Token, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		if err := putJSON(t, "INSERT INTO acme_tokens (record, id) VALUES (?, ?)", token, token.ID); err != nil {
			return fmt.Errorf("couldn't store an ACME token: %w", err)
		}
		return t.record(events...)
	})
}

// VoidACMEToken forgets the key of a token that no account was made with.
func (s *Store) VoidACMEToken(ctx context.Context, id string, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		token, err := scanJSON[acme.Token](t.row("SELECT record FROM acme_tokens WHERE id = ?", id))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return acme.ErrUnknownToken
		case err != nil:
			return fmt.Errorf("couldn't read an ACME token: %w", err)
		case token.Sealed == nil:
			return acme.ErrTokenUsed
		}
		token.Sealed = nil
		if err := putJSON(t, "UPDATE acme_tokens SET record = ? WHERE id = ?", token, id); err != nil {
			return fmt.Errorf("couldn't void an ACME token: %w", err)
		}
		return t.record(events...)
	})
}

// putJSON runs a statement whose first argument is a record as JSON.
func putJSON(t *tx, query string, record any, args ...any) error {
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	_, err = t.exec(query, append([]any{string(text)}, args...)...)
	return err
}

// AddACMEAccount adds an account and uses up the token it was made with.
func (s *Store) AddACMEAccount(ctx context.Context, a acme.Account, before time.Time, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		if a.Token != "" {
			token, err := scanJSON[acme.Token](t.row("SELECT record FROM acme_tokens WHERE id = ?", a.Token))
			switch {
			case errors.Is(err, sql.ErrNoRows) || err == nil && token.Sealed == nil:
				return acme.ErrTokenUsed
			case err != nil:
				return fmt.Errorf("couldn't read an ACME token: %w", err)
			}
			token.Account, token.Sealed = a.ID, nil
			if err := putJSON(t, "UPDATE acme_tokens SET record = ? WHERE id = ?", token, token.ID); err != nil {
				return fmt.Errorf("couldn't use up an ACME token: %w", err)
			}
		}
		if _, err := t.exec("DELETE FROM acme_accounts WHERE token = '' AND issued = 0 AND created_at < ?", before.UnixMilli()); err != nil {
			return fmt.Errorf("couldn't forget ACME accounts: %w", err)
		}
		if err := t.freeKey(a.Door, a.Thumbprint, a.ID); err != nil {
			return err
		}
		err := putJSON(t, "INSERT INTO acme_accounts (record, id, door, thumbprint, token, issued, created_at) VALUES (?, ?, ?, ?, ?, 0, ?)",
			a, a.ID, a.Door, a.Thumbprint, a.Token, a.CreatedAt.UnixMilli())
		if err != nil {
			return fmt.Errorf("couldn't store an ACME account: %w", err)
		}
		return t.record(events...)
	})
}

// freeKey is ErrKeyTaken if another account of the door has the key.
func (t *tx) freeKey(door, thumbprint, id string) error {
	var other string
	err := t.row("SELECT id FROM acme_accounts WHERE door = ? AND thumbprint = ? AND id <> ?", door, thumbprint, id).Scan(&other)
	switch {
	case err == nil:
		return acme.ErrKeyTaken
	case errors.Is(err, sql.ErrNoRows):
		return nil
	}
	return fmt.Errorf("couldn't look for an ACME account's key: %w", err)
}

// ACMEAccount returns one; ok is false without one.
func (s *Store) ACMEAccount(ctx context.Context, id string) (acme.Account, bool, error) {
	return readOne[acme.Account](ctx, s, "an ACME account", "SELECT record FROM acme_accounts WHERE id = ?", id)
}

// ACMEAccountByKey returns the account of a door that has a key.
func (s *Store) ACMEAccountByKey(ctx context.Context, door, thumbprint string) (acme.Account, bool, error) {
	return readOne[acme.Account](ctx, s, "an ACME account", "SELECT record FROM acme_accounts WHERE door = ? AND thumbprint = ?", door, thumbprint)
}

// ACMEAccounts returns all of them, newest first.
func (s *Store) ACMEAccounts(ctx context.Context) ([]acme.Account, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT record FROM acme_accounts ORDER BY created_at DESC, id")
	list, err := collect(rows, err, scanJSON[acme.Account])
	if err != nil {
		return nil, fmt.Errorf("couldn't read the ACME accounts: %w", explain(s.path, err))
	}
	return list, nil
}

// UpdateACMEAccount reads, changes and writes one in one transaction.
func (s *Store) UpdateACMEAccount(ctx context.Context, id string, change func(*acme.Account) ([]ledger.Event, error)) (acme.Account, error) {
	var out acme.Account
	err := s.write(ctx, func(t *tx) error {
		a, err := scanJSON[acme.Account](t.row("SELECT record FROM acme_accounts WHERE id = ?", id))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return acme.ErrUnknownAccount
		case err != nil:
			return fmt.Errorf("couldn't read ACME account %s: %w", id, err)
		}
		events, err := change(&a)
		if err != nil {
			return err
		}
		if err := t.freeKey(a.Door, a.Thumbprint, id); err != nil {
			return err
		}
		issued := 0
		if a.Issued || a.State != acme.AccountValid { // what was ended stays so
			issued = 1
		}
		if err := putJSON(t, "UPDATE acme_accounts SET record = ?, thumbprint = ?, issued = ? WHERE id = ?", a, a.Thumbprint, issued, id); err != nil {
			return fmt.Errorf("couldn't store ACME account %s: %w", id, err)
		}
		out = a
		return t.record(events...)
	})
	return out, err
}

// AddACMEOrder adds one and forgets those that came to nothing.
func (s *Store) AddACMEOrder(ctx context.Context, o acme.Order, before time.Time, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec("DELETE FROM acme_orders WHERE serial = '' AND expires_at < ?", before.UnixMilli()); err != nil {
			return fmt.Errorf("couldn't forget ACME orders: %w", err)
		}
		err := putJSON(t, "INSERT INTO acme_orders (record, id, account, serial, expires_at) VALUES (?, ?, ?, ?, ?)", o, o.ID, o.Account, o.Serial, o.ExpiresAt.UnixMilli())
		if err != nil {
			return fmt.Errorf("couldn't store an ACME order: %w", err)
		}
		return t.record(events...)
	})
}

// ACMEOrder returns one; ok is false without one.
func (s *Store) ACMEOrder(ctx context.Context, id string) (acme.Order, bool, error) {
	return readOne[acme.Order](ctx, s, "an ACME order", "SELECT record FROM acme_orders WHERE id = ?", id)
}

// ACMEOrderBySerial returns the order a certificate came from.
func (s *Store) ACMEOrderBySerial(ctx context.Context, serial string) (acme.Order, bool, error) {
	return readOne[acme.Order](ctx, s, "an ACME order", "SELECT record FROM acme_orders WHERE serial = ? AND serial <> ''", serial)
}

// ACMEOrders returns the newest of an account.
func (s *Store) ACMEOrders(ctx context.Context, account string, limit int) ([]acme.Order, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT record FROM acme_orders WHERE account = ? ORDER BY expires_at DESC, id LIMIT ?", account, limit)
	list, err := collect(rows, err, scanJSON[acme.Order])
	if err != nil {
		return nil, fmt.Errorf("couldn't read ACME orders: %w", explain(s.path, err))
	}
	return list, nil
}

// UpdateACMEOrder reads, changes and writes one in one transaction.
func (s *Store) UpdateACMEOrder(ctx context.Context, id string, change func(*acme.Order) ([]ledger.Event, error)) (acme.Order, error) {
	var out acme.Order
	err := s.write(ctx, func(t *tx) error {
		o, err := scanJSON[acme.Order](t.row("SELECT record FROM acme_orders WHERE id = ?", id))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return acme.ErrUnknownOrder
		case err != nil:
			return fmt.Errorf("couldn't read ACME order %s: %w", id, err)
		}
		events, err := change(&o)
		if err != nil {
			return err
		}
		if err := putJSON(t, "UPDATE acme_orders SET record = ?, serial = ? WHERE id = ?", o, o.Serial, id); err != nil {
			return fmt.Errorf("couldn't store ACME order %s: %w", id, err)
		}
		out = o
		return t.record(events...)
	})
	return out, err
}
