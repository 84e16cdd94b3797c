package store

import (
	"context"
	"encoding/json"
	"fmt"

	"bollard/contract"
	"bollard/iso15118/identifier"
	"bollard/ledger"
)

// PutKept keeps contract data of another provider, over what of the account is kept for
// the car in the edition; contract.ErrTooMany while the car has all it may have.
func (s *Store) PutKept(ctx context.Context, k contract.Kept, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		bare := string(k.EMAID.Bare())
		if _, err := t.exec("DELETE FROM kept_contracts WHERE pcid = ? AND (until <= ? OR bare = ? AND protocol = ?)", string(k.PCID), k.KeptAt.UnixMilli(), bare, k.Protocol); err != nil {
			return fmt.Errorf("couldn't make room for contract data: %w", err)
		}
		var known int
		if err := t.row("SELECT COUNT(*) FROM kept_contracts WHERE pcid = ?", string(k.PCID)).Scan(&known); err != nil {
			return fmt.Errorf("couldn't count what is kept for a car: %w", err)
		}
		if known >= contract.MaxPerCar {
			return contract.ErrTooMany
		}
		text, err := json.Marshal(k)
		if err != nil {
			return fmt.Errorf("couldn't encode contract data: %w", err)
		}
		if _, err := t.exec("INSERT INTO kept_contracts (position, id, bare, pcid, protocol, until, record) VALUES ((SELECT COALESCE(MAX(position), 0) + 1 FROM kept_contracts), ?, ?, ?, ?, ?, ?)",
			k.ID, bare, string(k.PCID), k.Protocol, k.Until.UnixMilli(), string(text)); err != nil {
			return fmt.Errorf("couldn't keep contract data: %w", err)
		}
		t.saw(k.KeptAt)
		return t.record(events...)
	})
}

// Kept returns contract data by its ID.
func (s *Store) Kept(ctx context.Context, id string) (contract.Kept, bool, error) {
	return readOne[contract.Kept](ctx, s, "contract data", "SELECT record FROM kept_contracts WHERE id = ?", id)
}

// KeptOf returns what is kept for a car, oldest first.
func (s *Store) KeptOf(ctx context.Context, pcid identifier.PCID) ([]contract.Kept, error) {
	return s.kept(ctx, "WHERE pcid = ?", string(pcid))
}

// KeptBy returns what of an account is kept, oldest first.
func (s *Store) KeptBy(ctx context.Context, bare identifier.EMAID) ([]contract.Kept, error) {
	return s.kept(ctx, "WHERE bare = ?", string(bare))
}

// AllKept returns all contract data of others, oldest first.
func (s *Store) AllKept(ctx context.Context) ([]contract.Kept, error) { return s.kept(ctx, "") }

func (s *Store) kept(ctx context.Context, where string, args ...any) ([]contract.Kept, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT record FROM kept_contracts "+where+" ORDER BY position", args...)
	list, err := collect(rows, err, scanJSON[contract.Kept])
	if err != nil {
		return nil, fmt.Errorf("couldn't read contract data of others: %w", explain(s.path, err))
	}
	return list, nil
}

// RemoveKept forgets contract data.
func (s *Store) RemoveKept(ctx context.Context, id string, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		gone, err := t.exec("DELETE FROM kept_contracts WHERE id = ?", id)
		if err != nil {
			return fmt.Errorf("couldn't forget contract data: %w", err)
		}
		if gone == 0 {
			return nil
		}
		return t.record(events...)
	})
}
