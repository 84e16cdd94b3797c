package store

import (
	"context"
	"fmt"

	"bollard/ca"
	"bollard/ledger"
)

// Requests returns the keys that others are, or were, asked to certify for a hierarchy,
// the newest generation first.
func (s *Store) Requests(ctx context.Context, kind ca.Kind) ([]ca.Request, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT generation, profile, key_uri, key_hash, created_at, waiting FROM ca_requests WHERE kind = ? ORDER BY generation DESC", string(kind))
	list, err := collect(rows, err, func(row scanner) (ca.Request, error) {
		r := ca.Request{Kind: kind}
		return r, row.Scan(&r.Generation, &r.Profile, &r.KeyURI, &r.KeyHash, instant{&r.CreatedAt}, &r.Waiting)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the requests of %s: %w", kind, explain(s.path, err))
	}
	return list, nil
}

// PutRequest keeps the one request a generation of a hierarchy has.
func (s *Store) PutRequest(ctx context.Context, r ca.Request, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error { return t.putRequest(r, events...) })
}

func (t *tx) putRequest(r ca.Request, events ...ledger.Event) error {
	added, err := t.exec("INSERT INTO ca_requests (kind, generation, profile, key_uri, key_hash, created_at, waiting) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, generation) DO NOTHING",
		string(r.Kind), r.Generation, r.Profile, r.KeyURI, r.KeyHash, millis(r.CreatedAt), number(r.Waiting))
	if err != nil {
		return fmt.Errorf("couldn't store the request of %s: %w", r.Kind, err)
	}
	if added == 0 {
		return fmt.Errorf("couldn't store the request of %s: %w", r.Kind, ca.ErrHierarchyExists)
	}
	t.saw(r.CreatedAt)
	return t.record(events...)
}

// SetRequestKey notes the key that was made for a request.
func (s *Store) SetRequestKey(ctx context.Context, r ca.Request, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		changed, err := t.exec("UPDATE ca_requests SET key_hash = ?, waiting = ? WHERE kind = ? AND generation = ? AND (key_hash <> ? OR waiting <> ?)",
			r.KeyHash, number(r.Waiting), string(r.Kind), r.Generation, r.KeyHash, number(r.Waiting))
		if err != nil {
			return fmt.Errorf("couldn't store the key of a request of %s: %w", r.Kind, err)
		}
		if changed == 0 {
			return nil
		}
		return t.record(events...)
	})
}

// OutsideChains returns the chains others made for CAs of a hierarchy, newest first.
func (s *Store) OutsideChains(ctx context.Context, kind ca.Kind) ([]ca.OutsideChain, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT hash, chain, added_at FROM ca_chains WHERE kind = ? ORDER BY position DESC", string(kind))
	list, err := collect(rows, err, func(row scanner) (ca.OutsideChain, error) {
		c := ca.OutsideChain{Kind: kind}
		return c, row.Scan(&c.Hash, &c.DER, instant{&c.AddedAt})
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the chains of %s: %w", kind, explain(s.path, err))
	}
	return list, nil
}

// AddOutsideChain keeps one, as the newest; one that is known stays where it is.
func (s *Store) AddOutsideChain(ctx context.Context, c ca.OutsideChain, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		added, err := t.exec(`INSERT INTO ca_chains (hash, position, kind, chain, added_at)
			SELECT ?, (SELECT COALESCE(MAX(position), 0) + 1 FROM ca_chains), ?, ?, ? WHERE true ON CONFLICT (hash) DO NOTHING`,
			c.Hash, string(c.Kind), c.DER, millis(c.AddedAt))
		if err != nil {
			return fmt.Errorf("couldn't store a chain of %s: %w", c.Kind, err)
		}
		if added == 0 {
			return nil
		}
		t.saw(c.AddedAt)
		return t.record(events...)
	})
}

// RemoveOutsideChain forgets one; one that isn't there is no error.
func (s *Store) RemoveOutsideChain(ctx context.Context, kind ca.Kind, hash string, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		gone, err := t.exec("DELETE FROM ca_chains WHERE kind = ? AND hash = ?", string(kind), hash)
		if err != nil {
			return fmt.Errorf("couldn't remove a chain of %s: %w", kind, err)
		}
		if gone == 0 {
			return nil
		}
		return t.record(events...)
	})
}
