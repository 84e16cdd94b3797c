package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"bollard/approval/docket"
	"bollard/ledger"
)

var _ docket.Store = (*Store)(nil)

const matterColumns = "record, used_at"

// AddMatter keeps a request for approval.
func (s *Store) AddMatter(ctx context.Context, m docket.Matter, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		text, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("couldn't encode approval %s: %w", m.Nonce, err)
		}
		if _, err := t.exec("INSERT INTO approvals (nonce, position, record) VALUES (?, (SELECT COALESCE(MAX(position), 0) + 1 FROM approvals), ?)", m.Nonce, string(text)); err != nil {
			return fmt.Errorf("couldn't store approval %s: %w", m.Nonce, err)
		}
		return t.record(events...)
	})
}

// Matters returns all requests for approval, newest first.
func (s *Store) Matters(ctx context.Context) ([]docket.Matter, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT "+matterColumns+" FROM approvals ORDER BY position DESC")
	list, err := collect(rows, err, scanMatter)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the approvals: %w", explain(s.path, err))
	}
	return list, nil
}

// UpdateMatter reads, changes and writes a request in one transaction, under the
// conditions of UpdateStation.
func (s *Store) UpdateMatter(ctx context.Context, nonce string, change func(*docket.Matter) ([]ledger.Event, error)) (docket.Matter, error) {
	var updated docket.Matter
	err := s.write(ctx, func(t *tx) error {
		m, err := scanMatter(t.row("SELECT "+matterColumns+" FROM approvals WHERE nonce = ?", nonce))
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("approval %q: %w", nonce, docket.ErrUnknown)
		}
		if err != nil {
			return fmt.Errorf("couldn't read approval %s: %w", nonce, err)
		}
		events, err := change(&m)
		if err != nil {
			return err
		}
		text, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("couldn't encode approval %s: %w", nonce, err)
		}
		if _, err := t.exec("UPDATE approvals SET record = ? WHERE nonce = ?", string(text), nonce); err != nil {
			return fmt.Errorf("couldn't store approval %s: %w", nonce, err)
		}
		updated = m
		return t.record(events...)
	})
	if err != nil {
		return docket.Matter{}, err
	}
	return updated, nil
}

// spend uses an approval up, in the write of what was approved.
func (t *tx) spend(nonce string) error {
	changed, err := t.exec("UPDATE approvals SET used_at = ? WHERE nonce = ? AND used_at IS NULL", t.w.clock().UnixMilli(), nonce)
	if err != nil {
		return fmt.Errorf("couldn't use approval %s: %w", nonce, err)
	}
	if changed == 0 {
		return fmt.Errorf("approval %.40q: %w", nonce, docket.ErrUsed)
	}
	return nil
}

// withdrawOpen closes every request that wasn't used.
func (t *tx) withdrawOpen(at time.Time) error {
	rows, err := t.rows("SELECT " + matterColumns + " FROM approvals WHERE used_at IS NULL")
	list, err := collect(rows, err, scanMatter)
	if err != nil {
		return fmt.Errorf("couldn't read the approvals: %w", err)
	}
	for _, m := range list {
		if !m.WithdrawnAt.IsZero() {
			continue
		}
		m.WithdrawnAt = at
		text, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("couldn't encode approval %s: %w", m.Nonce, err)
		}
		if _, err := t.exec("UPDATE approvals SET record = ? WHERE nonce = ?", string(text), m.Nonce); err != nil {
			return fmt.Errorf("couldn't withdraw approval %s: %w", m.Nonce, err)
		}
	}
	return nil
}

// scanMatter takes when it was used from its own column alone.
func scanMatter(row scanner) (docket.Matter, error) {
	var (
		m    docket.Matter
		text []byte
		used time.Time
	)
	if err := row.Scan(&text, instant{&used}); err != nil {
		return docket.Matter{}, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return docket.Matter{}, fmt.Errorf("unreadable approval: %w", err)
	}
	m.UsedAt = used
	return m, nil
}
