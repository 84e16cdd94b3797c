package store

import (
	"context"
	"fmt"
	"time"

	"bollard/ca"
	"bollard/ledger"
)

// Renumber gives an intended record the serial number, dates and hash of what a mount
// signed for it.
func (s *Store) Renumber(ctx context.Context, serial string, to ca.Intent, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		if state, err := t.certificateState(to.Serial); err == nil {
			return fmt.Errorf("couldn't give intent %s the serial number %s, which is %s: %w", serial, to.Serial, state, ca.ErrDuplicateSerial)
		}
		changed, err := t.exec("UPDATE certificates SET serial = ?, tbs_hash = ?, not_before = ?, not_after = ? WHERE serial = ? AND state = ?",
			to.Serial, to.TBSHash, millis(to.NotBefore), millis(to.NotAfter), serial, ca.StateIntended)
		if err != nil {
			return fmt.Errorf("couldn't give intent %s its serial number: %w", serial, err)
		}
		if changed == 0 {
			return fmt.Errorf("couldn't give certificate %s another serial number: it isn't intended", serial)
		}
		return t.record(events...)
	})
}

// GiveUp makes an intended record an orphaned one.
func (s *Store) GiveUp(ctx context.Context, serial string, at time.Time, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		changed, err := t.exec("UPDATE certificates SET state = ?, revoked_at = ?, reason = ? WHERE serial = ? AND state = ?",
			ca.StateOrphaned, millis(at), "unspecified", serial, ca.StateIntended)
		if err != nil {
			return fmt.Errorf("couldn't give up intent %s: %w", serial, err)
		}
		if changed == 0 {
			return fmt.Errorf("couldn't give up certificate %s: it isn't intended", serial)
		}
		t.saw(at)
		return t.record(events...)
	})
}

// PutFound records a certificate that a mount issued and nobody was given.
func (s *Store) PutFound(ctx context.Context, record ca.Record, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		added, err := t.insertCertificate(record)
		if err != nil {
			return err
		}
		if !added {
			return fmt.Errorf("couldn't record certificate %s: %w", record.Serial, ca.ErrDuplicateSerial)
		}
		t.saw(record.CreatedAt)
		return t.record(events...)
	})
}

// Replace keeps a request, and revokes the CA certificate of the one it replaces.
func (s *Store) Replace(ctx context.Context, r ca.Request, serial, reason string, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.setRevoked(serial, reason, r.CreatedAt); err != nil {
			return err
		}
		return t.putRequest(r, events...)
	})
}

// Intended returns an issuer's intended records of before a time.
func (s *Store) Intended(ctx context.Context, issuer string, before time.Time) ([]ca.Record, error) {
	return s.certificates(ctx, "WHERE state = ? AND state <> 'issued' AND issuer = ? AND created_at < ? ORDER BY position", ca.StateIntended, issuer, millis(before))
}

// Unsettled returns what of an issuer's a mount is to be told: revocations first, for
// orphans may have to wait.
func (s *Store) Unsettled(ctx context.Context, issuer string, most int) ([]ca.Record, error) {
	return s.certificates(ctx, `WHERE state IN (?, ?) AND state <> 'issued' AND issuer = ? AND external = 0
		AND NOT EXISTS (SELECT 1 FROM ca_settled WHERE ca_settled.serial = certificates.serial)
		ORDER BY CASE WHEN state = 'revoked' THEN 0 ELSE 1 END, position LIMIT ?`,
		ca.StateRevoked, ca.StateOrphaned, issuer, most)
}

// Settle notes that a mount knows of a record's end.
func (s *Store) Settle(ctx context.Context, serial string, at time.Time, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		added, err := t.exec("INSERT INTO ca_settled (serial, at) VALUES (?, ?) ON CONFLICT (serial) DO NOTHING", serial, millis(at))
		if err != nil {
			return fmt.Errorf("couldn't note that a mount knows of %s: %w", serial, err)
		}
		if added == 0 {
			return nil
		}
		return t.record(events...)
	})
}
