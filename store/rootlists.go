package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"bollard/ca"
	"bollard/ledger"
)

// TakeIn records issued certificates that an offline root signed, its newest revocation
// list, and the step of a root change that this is; both of them may be nil. Certificates
// that are known stay as they are; other ones under their serial numbers are
// ca.ErrDuplicateSerial.
func (s *Store) TakeIn(ctx context.Context, records []ca.Record, list *ca.RootList, next *ca.Rollover, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		for _, r := range records {
			added, err := t.insertCertificate(r)
			if err != nil {
				return err
			}
			if added {
				t.saw(r.IssuedAt)
				continue
			}
			known, err := t.certificate(r.Serial)
			if err != nil {
				return fmt.Errorf("couldn't record certificate %s: %w", r.Serial, err)
			}
			if known.State != ca.StateIssued || known.External || !bytes.Equal(known.DER, r.DER) {
				return fmt.Errorf("couldn't record certificate %s: %w", r.Serial, ca.ErrDuplicateSerial)
			}
		}
		if list != nil {
			if _, err := t.exec(`INSERT INTO ca_lists (issuer, list, next_update) VALUES (?, ?, ?)
				ON CONFLICT (issuer) DO UPDATE SET list = excluded.list, next_update = excluded.next_update`, list.Issuer, list.DER, millis(list.NextUpdate)); err != nil {
				return fmt.Errorf("couldn't store the revocation list of %s: %w", list.Issuer, err)
			}
		}
		if next != nil {
			if err := t.putRollover(*next); err != nil {
				return err
			}
		}
		return t.record(events...)
	})
}

// RootList returns the newest list that was taken in, the zero value without one.
func (s *Store) RootList(ctx context.Context, issuer string) (ca.RootList, error) {
	db, err := s.reader()
	if err != nil {
		return ca.RootList{}, err
	}
	l := ca.RootList{Issuer: issuer}
	err = db.QueryRowContext(ctx, "SELECT list, next_update FROM ca_lists WHERE issuer = ?", issuer).Scan(&l.DER, instant{&l.NextUpdate})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ca.RootList{}, nil
	case err != nil:
		return ca.RootList{}, fmt.Errorf("couldn't read the revocation list of %s: %w", issuer, explain(s.path, err))
	}
	return l, nil
}
