package store

import (
	"context"
	"fmt"
	"slices"

	"bollard/ca"
	"bollard/ledger"
)

// AddAnchor stores an outside root. Adding it again changes and records nothing.
func (s *Store) AddAnchor(ctx context.Context, anchor ca.TrustAnchor, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		added, err := t.exec(`INSERT INTO anchors (purpose, hash, subject, der, added_at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (purpose, hash) DO NOTHING`,
			anchor.Use, anchor.Hash, anchor.Subject, nonNil(anchor.DER), millis(anchor.AddedAt))
		if err != nil {
			return fmt.Errorf("couldn't store trust anchor %s: %w", anchor.Hash, err)
		}
		if added == 0 {
			return nil
		}
		return t.record(events...)
	})
}

// RemoveAnchor forgets an outside root; ca.ErrUnknownAnchor if there is none.
func (s *Store) RemoveAnchor(ctx context.Context, use, hash string, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		removed, err := t.exec("DELETE FROM anchors WHERE purpose = ? AND hash = ?", use, hash)
		if err != nil {
			return fmt.Errorf("couldn't remove trust anchor %s: %w", hash, err)
		}
		if removed == 0 {
			return fmt.Errorf("couldn't remove trust anchor %s for use %q: %w", hash, use, ca.ErrUnknownAnchor)
		}
		return t.record(events...)
	})
}

// Anchors returns the outside roots of one use, or all for "", by use and hash.
func (s *Store) Anchors(ctx context.Context, use string) ([]ca.TrustAnchor, error) {
	return remembered(ctx, s, &s.recentAnchors, use, slices.Clone[[]ca.TrustAnchor], func(ctx context.Context) ([]ca.TrustAnchor, error) {
		list, err := lookUpAll(ctx, s, anchorsFor, func(c *columns) ca.TrustAnchor {
			return ca.TrustAnchor{Use: c.text(), Hash: c.text(), Subject: c.text(), DER: c.blob(), AddedAt: c.instant()}
		}, use, use)
		if err != nil {
			return nil, fmt.Errorf("couldn't read trust anchors: %w", err)
		}
		return list, nil
	})
}

// nonNil keeps a missing value from becoming NULL where the schema forbids it.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
