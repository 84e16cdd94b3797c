package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"bollard/ca"
	"bollard/ledger"
)

// Names of meta's rows about a restored backup: when it was made and restored,
// in milliseconds since 1970, and the lowest CRL number from then on.
const (
	metaBackedUp = "backed_up_at"
	metaRestored = "restored_at"
	metaCRLFloor = "crl_floor"
)

// Snapshot writes a consistent copy of the database, whole and on disk, to a
// path that must not exist, and returns the ledger's tree in it. Reading and
// writing go on meanwhile.
func (s *Store) Snapshot(ctx context.Context, path string) (*ledger.Tree, error) {
	if _, err := s.reader(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("couldn't make the copy of the database: %w", err)
	}
	// SQLite fills an empty file and keeps its mode.
	tree, err := s.snapshot(ctx, path)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("couldn't copy the database: %w", errors.Join(err, os.Remove(path)))
	}
	return tree, nil
}

func (s *Store) snapshot(ctx context.Context, path string) (*ledger.Tree, error) {
	db, err := sql.Open("sqlite3", dsn(s.path, url.Values{"mode": {"ro"}, "_busy_timeout": {"5000"}}))
	if err != nil {
		return nil, err
	}
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", path)
	if err = errors.Join(explain(s.path, err), db.Close()); err != nil {
		return nil, err
	}
	copied, err := sql.Open("sqlite3", dsn(path, url.Values{"mode": {"ro"}, "immutable": {"1"}}))
	if err != nil {
		return nil, err
	}
	// What the copy has is a state of the ledger, whatever came since.
	var size int64
	err = copied.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq), 0) FROM ledger").Scan(&size)
	if err = errors.Join(explain(path, err), copied.Close()); err != nil {
		return nil, err
	}
	return ledger.LoadTree(uint64(size), s.TreeHashes(ctx))
}

// CheckIntegrity reads the whole database and compares every index with its
// table. It takes minutes for a large one.
func (s *Store) CheckIntegrity(ctx context.Context) error {
	db, err := s.reader()
	if err != nil {
		return err
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil {
		return fmt.Errorf("couldn't check the database: %w", explain(s.path, err))
	}
	if verdict != "ok" {
		return corrupt(s.path, errors.New(verdict))
	}
	return nil
}

// MarkRestored notes that this database is a backup put in place again. CRL
// numbers rise over every one that may have been used since it was made: they
// were at most the seconds since 1970 and go on at the milliseconds, and after
// a further restore at its own milliseconds, later ones. Approvals that were open
// are withdrawn: what was used since the backup would be open again. So it is with
// one-time secrets, and with rollouts, which are halted.
func (s *Store) MarkRestored(ctx context.Context, r ca.Restoration, events ...ledger.Event) (ended Ended, err error) {
	err = s.write(ctx, func(t *tx) error {
		for name, at := range map[string]time.Time{metaBackedUp: r.BackedUp, metaRestored: r.Restored, metaCRLFloor: r.Restored} {
			// The window of a backup made after an earlier restore stays as
			// wide as that one's: its certificates may still be missing.
			keep := "MAX"
			if name == metaBackedUp {
				keep = "MIN"
			}
			if _, err := t.exec("INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = "+keep+"(meta.value, excluded.value)", name, at.UnixMilli()); err != nil {
				return fmt.Errorf("couldn't mark the database as restored: %w", err)
			}
		}
		// The ledger's new epoch begins with events.
		if err := t.record(events...); err != nil {
			return err
		}
		if err := t.withdrawOpen(r.Restored); err != nil {
			return err
		}
		var err error
		if ended.Rollouts, err = t.haltRunning(r.Restored); err != nil {
			return err
		}
		ended.Secrets, err = t.voidSecrets(r.Restored)
		return err
	})
	return ended, err
}

// Restoration says when this database was backed up and restored; false if it
// never was.
func (s *Store) Restoration(ctx context.Context) (ca.Restoration, bool, error) {
	db, err := s.reader()
	if err != nil {
		return ca.Restoration{}, false, err
	}
	var backedUp, restored int64
	err = db.QueryRowContext(ctx, `SELECT b.value, r.value FROM meta b, meta r WHERE b.name = ? AND r.name = ?`, metaBackedUp, metaRestored).Scan(&backedUp, &restored)
	if errors.Is(err, sql.ErrNoRows) {
		return ca.Restoration{}, false, nil
	}
	if err != nil {
		return ca.Restoration{}, false, fmt.Errorf("couldn't read whether the database was restored: %w", explain(s.path, err))
	}
	return ca.Restoration{BackedUp: time.UnixMilli(backedUp).UTC(), Restored: time.UnixMilli(restored).UTC()}, true, nil
}

// PutRecovered records an own certificate that was issued after the backup
// this database comes from. ca.ErrDuplicateSerial if its serial number is known.
func (s *Store) PutRecovered(ctx context.Context, record ca.Record, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		added, err := t.insertCertificate(record)
		if err != nil {
			return err
		}
		if !added {
			return fmt.Errorf("couldn't record certificate %s again: %w", record.Serial, ca.ErrDuplicateSerial)
		}
		t.saw(record.CreatedAt)
		return t.record(events...)
	})
}
