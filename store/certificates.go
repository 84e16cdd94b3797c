package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"bollard/ca"
	"bollard/ledger"
)

const certificateColumns = `serial, issuer, profile, station, requester, reference, tbs_hash, key_hash, subject,
	not_before, not_after, created_at, state, der, issued_at, revoked_at, reason, external, attested`

// PutIntent stores the first phase's record; ca.ErrDuplicateSerial if the
// serial number exists in any state.
func (s *Store) PutIntent(ctx context.Context, intent ca.Intent, events ...ledger.Event) error {
	return s.writeAgain(ctx, func(t *tx) error { return t.putIntent(intent, events...) })
}

func (t *tx) putIntent(intent ca.Intent, events ...ledger.Event) error {
	added, err := t.insertCertificate(ca.Record{Intent: intent, State: ca.StateIntended})
	if err != nil {
		return err
	}
	if !added {
		return fmt.Errorf("couldn't store intent %s: %w", intent.Serial, ca.ErrDuplicateSerial)
	}
	t.saw(intent.CreatedAt)
	return t.record(events...)
}

// PutIssued turns an intended record into an issued one and fails in every
// other state.
func (s *Store) PutIssued(ctx context.Context, serial string, der []byte, at time.Time, events ...ledger.Event) error {
	return s.writeAgain(ctx, func(t *tx) error { return t.putIssued(serial, der, at, events...) })
}

func (t *tx) putIssued(serial string, der []byte, at time.Time, events ...ledger.Event) error {
	changed, err := t.exec("UPDATE certificates SET state = ?, der = ?, issued_at = ? WHERE serial = ? AND state = ?",
		ca.StateIssued, nonNil(der), millis(at), serial, ca.StateIntended)
	if err != nil {
		return fmt.Errorf("couldn't store certificate %s: %w", serial, err)
	}
	if changed == 0 {
		state, err := t.certificateState(serial)
		if err != nil {
			return fmt.Errorf("couldn't store certificate %s: %w", serial, err)
		}
		return fmt.Errorf("couldn't store certificate %s: its record is %s, not intended", serial, state)
	}
	t.saw(at)
	return t.record(events...)
}

// PutExternal records a certificate another CA issued. Recording it again
// changes and records nothing; another certificate under a known serial number
// is ca.ErrDuplicateSerial. Its times are another's word and don't count for
// NewestTime.
func (s *Store) PutExternal(ctx context.Context, record ca.Record, events ...ledger.Event) error {
	record.External = true
	if record.State == "" {
		record.State = ca.StateIssued
	}
	return s.write(ctx, func(t *tx) error {
		added, err := t.insertCertificate(record)
		if err != nil {
			return err
		}
		if added {
			return t.record(events...)
		}
		known, err := t.certificate(record.Serial)
		if err != nil {
			return fmt.Errorf("couldn't record outside certificate %s: %w", record.Serial, err)
		}
		if !known.External || !bytes.Equal(known.DER, record.DER) {
			return fmt.Errorf("couldn't record outside certificate %s: %w", record.Serial, ca.ErrDuplicateSerial)
		}
		return nil
	})
}

// SetRevoked revokes an issued record. One that is revoked or orphaned already
// stays as it is, and nothing is recorded.
func (s *Store) SetRevoked(ctx context.Context, serial, reason string, at time.Time, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error { return t.setRevoked(serial, reason, at, events...) })
}

func (t *tx) setRevoked(serial, reason string, at time.Time, events ...ledger.Event) error {
	changed, err := t.exec("UPDATE certificates SET state = ?, reason = ?, revoked_at = ? WHERE serial = ? AND state = ?",
		ca.StateRevoked, reason, millis(at), serial, ca.StateIssued)
	if err != nil {
		return fmt.Errorf("couldn't revoke certificate %s: %w", serial, err)
	}
	if changed == 0 {
		state, err := t.certificateState(serial)
		if err != nil {
			return fmt.Errorf("couldn't revoke certificate %s: %w", serial, err)
		}
		if state == ca.StateIntended {
			return fmt.Errorf("couldn't revoke certificate %s: it is not issued yet", serial)
		}
		return nil
	}
	t.saw(at)
	return t.record(events...)
}

// OrphanIntents marks every intent created before the given time orphaned,
// revoked as of now, records "certificate.orphaned" for each and returns them.
func (s *Store) OrphanIntents(ctx context.Context, before time.Time) ([]ca.Intent, error) {
	var orphans []ca.Intent
	err := s.write(ctx, func(t *tx) error {
		now := t.w.clock()
		list, err := seeAll(t, "SELECT "+certificateColumns+" FROM certificates WHERE state = ? AND created_at < ? ORDER BY position", scanCertificate,
			ca.StateIntended, before.UnixMilli())
		if err != nil {
			return fmt.Errorf("couldn't read unfinished intents: %w", err)
		}
		for _, r := range list {
			if _, err := t.exec("UPDATE certificates SET state = ?, revoked_at = ?, reason = ? WHERE serial = ?",
				ca.StateOrphaned, millis(now), "unspecified", r.Serial); err != nil {
				return fmt.Errorf("couldn't orphan intent %s: %w", r.Serial, err)
			}
			if err := t.record(ledger.Event{
				Kind: "certificate.orphaned", Subject: r.Serial, Actor: "bollard",
				Data: map[string]string{"issuer": r.Issuer, "profile": r.Profile},
			}); err != nil {
				return err
			}
			orphans = append(orphans, r.Intent)
		}
		if len(list) > 0 { // else nothing is written: a full disk keeps no server from starting
			t.saw(now)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return orphans, nil
}

// Certificate returns the record of a serial number or ca.ErrUnknownSerial.
func (s *Store) Certificate(ctx context.Context, serial string) (ca.Record, error) {
	same := func(r ca.Record) ca.Record { return r } // its DER is only read
	return remembered(ctx, s, &s.recentCertificates, serial, same, func(ctx context.Context) (ca.Record, error) {
		record, err := lookUp(ctx, s, certificateBySerial, scanJudged, serial)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return ca.Record{}, fmt.Errorf("certificate %q: %w", serial, ca.ErrUnknownSerial)
		case err != nil:
			return ca.Record{}, fmt.Errorf("couldn't read certificates: %w", err)
		}
		return record, nil
	})
}

// PutVerdicts keeps what fleet says of the signatures of certificates, by serial number;
// what isn't on record is left out. It is no change of the records: who has read one
// without may go on with it.
func (s *Store) PutVerdicts(ctx context.Context, verdicts map[string][]byte) error {
	return s.write(ctx, func(t *tx) error {
		for serial, mac := range verdicts {
			if _, err := t.exec(`INSERT INTO certificate_verdicts (serial, mac) SELECT serial, ? FROM certificates WHERE serial = ?
				ON CONFLICT (serial) DO UPDATE SET mac = excluded.mac`, nonNil(mac), serial); err != nil {
				return fmt.Errorf("couldn't keep the verdict on certificate %s: %w", serial, err)
			}
		}
		return nil
	})
}

// CertificatesEpoch changes with every write to the records of certificates,
// before it returns.
func (s *Store) CertificatesEpoch() uint64 { return s.recentCertificates.epoch() }

// Certificates returns the records a filter selects, newest first.
func (s *Store) Certificates(ctx context.Context, f ca.Filter) ([]ca.Record, error) {
	var (
		terms []string
		args  []any
	)
	where := func(term string, arg ...any) {
		terms = append(terms, term)
		args = append(args, arg...)
	}
	if f.Station != "" {
		// The second term lets the partial index be used.
		where("station = ? AND station <> ''", f.Station)
	}
	if f.Profile != "" {
		where("profile = ?", f.Profile)
	}
	if f.State != "" {
		where("state = ?", f.State)
	}
	if !f.ExpiringBefore.IsZero() {
		where("not_after < ? AND not_after >= ?", f.ExpiringBefore.UnixMilli(), s.clock().UnixMilli())
	}
	clause := "ORDER BY position DESC"
	if len(terms) > 0 {
		clause = "WHERE " + strings.Join(terms, " AND ") + " " + clause
	}
	if f.Limit > 0 {
		clause += " LIMIT ?"
		args = append(args, f.Limit)
	}
	return s.certificates(ctx, clause, args...)
}

// CertificateByReference returns the newest record of a certificate that was issued for a
// requester's reference, and may be revoked since; ok is false without one.
func (s *Store) CertificateByReference(ctx context.Context, reference string) (ca.Record, bool, error) {
	list, err := s.certificates(ctx, "WHERE reference = ? AND reference <> '' AND state IN (?, ?) ORDER BY position DESC LIMIT 1",
		reference, ca.StateIssued, ca.StateRevoked)
	if err != nil || len(list) == 0 {
		return ca.Record{}, false, err
	}
	return list[0], true, nil
}

// CertificatesByKey returns every record of a public key in any state, newest first.
func (s *Store) CertificatesByKey(ctx context.Context, keyHash string) ([]ca.Record, error) {
	list, err := lookUpAll(ctx, s, certificatesByKey, scanCertificate, keyHash)
	if err != nil {
		return nil, fmt.Errorf("couldn't read certificates: %w", err)
	}
	return list, nil
}

// Revoked returns all revoked and orphaned records of an issuer of Bollard's
// own, for its CRL, in the order of recording.
func (s *Store) Revoked(ctx context.Context, issuer string) ([]ca.Record, error) {
	return s.certificates(ctx, "WHERE state IN (?, ?) AND state <> 'issued' AND issuer = ? AND external = 0 ORDER BY position",
		ca.StateRevoked, ca.StateOrphaned, issuer)
}

// ActiveSerials returns the serial numbers of an issuer of Bollard's own that
// are neither revoked nor expired, in the order of recording.
func (s *Store) ActiveSerials(ctx context.Context, issuer string, at time.Time) ([]string, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, `SELECT serial FROM certificates
		WHERE issuer = ? AND external = 0 AND state = ? AND not_after > ? ORDER BY position`,
		issuer, ca.StateIssued, at.UnixMilli())
	list, err := collect(rows, err, func(row scanner) (string, error) {
		var serial string
		err := row.Scan(&serial)
		return serial, err
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the certificates of %s: %w", issuer, explain(s.path, err))
	}
	return list, nil
}

// NextCRLNumber returns a number never returned before for the issuer. It is
// at least the Unix time in seconds, and after a restored backup at least that
// of the restore in milliseconds: it rises over what was published since the
// backup was made.
func (s *Store) NextCRLNumber(ctx context.Context, issuer string, events ...ledger.Event) (*big.Int, error) {
	var number int64
	err := s.write(ctx, func(t *tx) error {
		floor, restored := t.w.clock().Unix(), int64(0)
		if err := t.row("SELECT COALESCE(MAX(value), 0) FROM meta WHERE name = ?", metaCRLFloor).Scan(&restored); err != nil {
			return fmt.Errorf("couldn't read the lowest CRL number: %w", err)
		}
		err := t.row(`INSERT INTO crl_numbers (issuer, number) VALUES (?, ?)
			ON CONFLICT (issuer) DO UPDATE SET number =
				CASE WHEN crl_numbers.number >= excluded.number THEN crl_numbers.number + 1 ELSE excluded.number END
			RETURNING number`, issuer, max(floor, restored, 1)).Scan(&number)
		if err != nil {
			return fmt.Errorf("couldn't take a CRL number for %s: %w", issuer, err)
		}
		return t.record(events...)
	})
	if err != nil {
		return nil, err
	}
	return big.NewInt(number), nil
}

// NewestTime is the latest time any own certificate record or ledger entry
// carries; zero for an empty database.
func (s *Store) NewestTime(context.Context) (time.Time, error) {
	if _, err := s.reader(); err != nil {
		return time.Time{}, err
	}
	newest := s.newest.Load()
	if newest == 0 {
		return time.Time{}, nil
	}
	return time.UnixMilli(newest).UTC(), nil
}

// AcceptClock takes the clock for right although something recorded is later: it is the
// newest time from then on. Nobody else writes meanwhile.
func (s *Store) AcceptClock(ctx context.Context, events ...ledger.Event) error {
	before := s.newest.Load()
	err := s.write(ctx, func(t *tx) error {
		now := t.w.clock().UnixMilli()
		if _, err := t.exec("UPDATE meta SET value = ? WHERE name = 'newest' AND value > ?", now, now); err != nil {
			return fmt.Errorf("couldn't record the newest time: %w", err)
		}
		s.newest.Store(min(before, now))
		return t.record(events...)
	})
	if err != nil {
		s.newest.Store(before)
	}
	return err
}

func (s *Store) certificates(ctx context.Context, clause string, args ...any) ([]ca.Record, error) {
	list, err := readAll(ctx, s, "SELECT "+certificateColumns+" FROM certificates "+clause, scanCertificate, args...)
	if err != nil {
		return nil, fmt.Errorf("couldn't read certificates: %w", err)
	}
	return list, nil
}

// insertCertificate reports false if the serial number exists. Who asked is
// stored as the ledger names people.
func (t *tx) insertCertificate(r ca.Record) (bool, error) {
	requester, err := ledger.ActorWithPseudonyms(r.Requester, t.pseudonym)
	if err != nil {
		return false, err
	}
	added, err := t.exec("INSERT INTO certificates (position, "+certificateColumns+`)
		VALUES ((SELECT COALESCE(MAX(position), 0) + 1 FROM certificates), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (serial) DO NOTHING`,
		r.Serial, r.Issuer, r.Profile, r.Station, requester, r.Reference, r.TBSHash, r.KeyHash, r.Subject,
		millis(r.NotBefore), millis(r.NotAfter), millis(r.CreatedAt), r.State, r.DER, millis(r.IssuedAt), millis(r.RevokedAt),
		r.Reason, number(r.External), r.Attested)
	if err != nil {
		return false, fmt.Errorf("couldn't store certificate record %s: %w", r.Serial, err)
	}
	return added == 1, nil
}

func (t *tx) certificate(serial string) (ca.Record, error) {
	return see(t, "SELECT "+certificateColumns+" FROM certificates WHERE serial = ?", scanCertificate, serial)
}

func (t *tx) certificateState(serial string) (ca.State, error) {
	var state ca.State
	err := t.row("SELECT state FROM certificates WHERE serial = ?", serial).Scan(&state)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ca.ErrUnknownSerial
	}
	return state, err
}

func scanCertificate(c *columns) ca.Record {
	var r ca.Record
	r.Serial, r.Issuer, r.Profile, r.Station, r.Requester, r.Reference = c.text(), c.text(), c.text(), c.text(), c.text(), c.text()
	r.TBSHash, r.KeyHash, r.Subject = c.text(), c.text(), c.text()
	r.NotBefore, r.NotAfter, r.CreatedAt = c.instant(), c.instant(), c.instant()
	r.State, r.DER, r.IssuedAt, r.RevokedAt, r.Reason = ca.State(c.text()), c.blob(), c.instant(), c.instant(), c.text()
	r.External, r.Attested = c.truth(), c.text()
	return r
}

// scanJudged scans certificateColumns and the verdict.
func scanJudged(c *columns) ca.Record {
	r := scanCertificate(c)
	r.Verdict = c.blob()
	return r
}

// number is a truth value in a column both databases have.
func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
