package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/ledger"
)

var _ contract.Store = (*Store)(nil)

// AddContract keeps a contract; contract.ErrExists while the account has an
// active one for the car, contract.ErrTooMany while the car has all it may have.
func (s *Store) AddContract(ctx context.Context, c contract.Contract, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		var known int
		switch err := t.row("SELECT 1 FROM contracts WHERE bare = ? AND pcid = ? AND active = 1", string(c.EMAID.Bare()), string(c.PCID)).Scan(&known); {
		case err == nil:
			return contract.ErrExists
		case !errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("couldn't look for a contract: %w", err)
		}
		if err := t.row("SELECT COUNT(*) FROM contracts WHERE pcid = ? AND active = 1", string(c.PCID)).Scan(&known); err != nil {
			return fmt.Errorf("couldn't count the contracts of a car: %w", err)
		}
		if known >= contract.MaxPerCar {
			return contract.ErrTooMany
		}
		text, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("couldn't encode contract %s: %w", c.ID, err)
		}
		if _, err := t.exec("INSERT INTO contracts (position, id, bare, pcid, active, record) VALUES ((SELECT COALESCE(MAX(position), 0) + 1 FROM contracts), ?, ?, ?, ?, ?)",
			c.ID, string(c.EMAID.Bare()), string(c.PCID), activeContract(&c), string(text)); err != nil {
			return fmt.Errorf("couldn't store contract %s: %w", c.ID, err)
		}
		t.saw(c.CreatedAt)
		return t.record(events...)
	})
}

func activeContract(c *contract.Contract) int {
	if c.State == contract.StateActive {
		return 1
	}
	return 0
}

// UpdateContract reads, changes and writes a contract in one transaction;
// contract.ErrUnknown if there is none.
func (s *Store) UpdateContract(ctx context.Context, id string, change func(*contract.Contract) ([]ledger.Event, error)) (contract.Contract, error) {
	var c contract.Contract
	err := s.write(ctx, func(t *tx) (err error) {
		c, err = t.changeContract(id, change)
		return err
	})
	return c, err
}

func (t *tx) changeContract(id string, change func(*contract.Contract) ([]ledger.Event, error)) (contract.Contract, error) {
	c, err := scanJSON[contract.Contract](t.row("SELECT record FROM contracts WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return c, contract.ErrUnknown
	}
	if err != nil {
		return c, fmt.Errorf("couldn't read contract %s: %w", id, err)
	}
	events, err := change(&c)
	if err != nil {
		return c, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return c, fmt.Errorf("couldn't encode contract %s: %w", id, err)
	}
	if _, err := t.exec("UPDATE contracts SET active = ?, begun = ?, record = ? WHERE id = ? AND record <> ?",
		activeContract(&c), min(len(c.Begun), 1), string(text), id, string(text)); err != nil {
		return c, fmt.Errorf("couldn't store contract %s: %w", id, err)
	}
	t.saw(c.CancelledAt)
	return c, t.record(events...)
}

// ContractsOf returns a car's active contracts and the newest others, oldest first.
func (s *Store) ContractsOf(ctx context.Context, pcid identifier.PCID) ([]contract.Contract, error) {
	return s.contracts(ctx, "WHERE position IN (SELECT position FROM contracts WHERE pcid = ? ORDER BY active DESC, position DESC LIMIT ?)", string(pcid), contract.ReadPerCar)
}

// EveryContractOf returns all contracts a car ever had, oldest first.
func (s *Store) EveryContractOf(ctx context.Context, pcid identifier.PCID) ([]contract.Contract, error) {
	return s.contracts(ctx, "WHERE pcid = ?", string(pcid))
}

// ContractsBy returns an account's contracts, oldest first.
func (s *Store) ContractsBy(ctx context.Context, bare identifier.EMAID) ([]contract.Contract, error) {
	return s.contracts(ctx, "WHERE bare = ?", string(bare))
}

// Contracts returns all contracts, oldest first.
func (s *Store) Contracts(ctx context.Context) ([]contract.Contract, error) {
	return s.contracts(ctx, "")
}

// Begun returns the contracts with certificates whose answers aren't kept.
func (s *Store) Begun(ctx context.Context) ([]contract.Contract, error) {
	return s.contracts(ctx, "WHERE begun = 1")
}

// Expiring returns the active contracts with a certificate in force of an edition and
// none that ends no earlier than before.
func (s *Store) Expiring(ctx context.Context, before time.Time) ([]contract.Contract, error) {
	profiles := ca.ContractProfiles()
	args := []any{len(contract.Reference) + 1, s.clock().UnixMilli(), before.UnixMilli(), ca.StateIssued}
	for _, name := range profiles {
		args = append(args, name)
	}
	return s.contracts(ctx, `WHERE active = 1 AND id IN (
		SELECT substr(ends.reference, ?) FROM certificates ends
		WHERE ends.not_after >= ? AND ends.not_after < ? AND ends.state = ? AND ends.profile IN (?`+strings.Repeat(", ?", len(profiles)-1)+`) AND NOT EXISTS (
			SELECT 1 FROM certificates other WHERE other.reference = ends.reference AND other.reference <> ''
			AND other.profile = ends.profile AND other.state = ends.state AND other.not_after >= ?))`,
		append(args, before.UnixMilli())...)
}

func (s *Store) contracts(ctx context.Context, where string, args ...any) ([]contract.Contract, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT record FROM contracts "+where+" ORDER BY position", args...)
	list, err := collect(rows, err, scanJSON[contract.Contract])
	if err != nil {
		return nil, fmt.Errorf("couldn't read the contracts: %w", explain(s.path, err))
	}
	return list, nil
}

// PutProvisioning keeps a car's provisioning certificate of an edition.
func (s *Store) PutProvisioning(ctx context.Context, p contract.Provisioning, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		text, err := json.Marshal(p)
		if err != nil {
			return fmt.Errorf("couldn't encode a provisioning certificate: %w", err)
		}
		if _, err := t.exec("INSERT INTO provisioning (pcid, protocol, record) VALUES (?, ?, ?) ON CONFLICT (pcid, protocol) DO UPDATE SET record = excluded.record",
			string(p.PCID), p.Protocol, string(text)); err != nil {
			return fmt.Errorf("couldn't store a provisioning certificate: %w", err)
		}
		t.saw(p.AddedAt)
		return t.record(events...)
	})
}

// Provisioning returns a car's provisioning certificate of an edition.
func (s *Store) Provisioning(ctx context.Context, pcid identifier.PCID, p message.Protocol) (contract.Provisioning, bool, error) {
	return readOne[contract.Provisioning](ctx, s, "a provisioning certificate", "SELECT record FROM provisioning WHERE pcid = ? AND protocol = ?", string(pcid), p)
}

// RemoveProvisioning removes a car's provisioning certificates.
func (s *Store) RemoveProvisioning(ctx context.Context, pcid identifier.PCID, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec("DELETE FROM provisioning WHERE pcid = ?", string(pcid)); err != nil {
			return fmt.Errorf("couldn't remove a provisioning certificate: %w", err)
		}
		return t.record(events...)
	})
}

// PutBundle keeps a contract's answer of an edition for one key, with which its
// certificate isn't begun any more.
func (s *Store) PutBundle(ctx context.Context, b contract.Bundle, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		text, err := json.Marshal(b)
		if err != nil {
			return fmt.Errorf("couldn't encode the answer of contract %s: %w", b.Contract, err)
		}
		if _, err := t.exec("INSERT INTO contract_answers (contract, protocol, receiver, record) VALUES (?, ?, ?, ?) ON CONFLICT (contract, protocol, receiver) DO UPDATE SET record = excluded.record",
			b.Contract, b.Protocol, b.Receiver, string(text)); err != nil {
			return fmt.Errorf("couldn't store the answer of contract %s: %w", b.Contract, err)
		}
		_, err = t.changeContract(b.Contract, func(c *contract.Contract) ([]ledger.Event, error) {
			c.Begun = slices.DeleteFunc(c.Begun, func(serial string) bool { return serial == b.Serial })
			return events, nil
		})
		return err
	})
}

// Bundle returns a contract's answer of an edition for one key.
func (s *Store) Bundle(ctx context.Context, id string, p message.Protocol, receiver string) (contract.Bundle, bool, error) {
	return readOne[contract.Bundle](ctx, s, "the answer of a contract", "SELECT record FROM contract_answers WHERE contract = ? AND protocol = ? AND receiver = ?", id, p, receiver)
}

// readOne reads a row of JSON; ok is false without one.
func readOne[T any](ctx context.Context, s *Store, what, query string, args ...any) (value T, ok bool, err error) {
	db, err := s.reader()
	if err != nil {
		return value, false, err
	}
	value, err = scanJSON[T](db.QueryRowContext(ctx, query, args...))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return value, false, nil
	case err != nil:
		return value, false, fmt.Errorf("couldn't read %s: %w", what, explain(s.path, err))
	}
	return value, true, nil
}
