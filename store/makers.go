package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"bollard/firmware/catalogue"
	"bollard/firmware/tuf"
	"bollard/ledger"
)

// Paper returns a paper of a firmware release.
func (s *Store) Paper(ctx context.Context, release, name string) ([]byte, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	var content []byte
	err = db.QueryRowContext(ctx, "SELECT content FROM firmware_papers WHERE release = ? AND name = ?", release, name).Scan(&content)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%s of release %s: %w", name, release, catalogue.ErrUnknown)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read %s of firmware release %s: %w", name, release, explain(s.path, err))
	}
	return content, nil
}

// UpdateMaker reads, changes and writes what was seen of a manufacturer's metadata in
// one transaction.
func (s *Store) UpdateMaker(ctx context.Context, name string, change func(*tuf.Seen) (*tuf.Seen, []ledger.Event, error)) error {
	return s.write(ctx, func(t *tx) error {
		var before *tuf.Seen
		seen, err := scanJSON[tuf.Seen](t.row("SELECT record FROM firmware_makers WHERE name = ?", name))
		switch {
		case err == nil:
			before = &seen
		case !errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("couldn't read the metadata of %s: %w", name, err)
		}
		after, events, err := change(before)
		if err != nil {
			return err
		}
		text, err := json.Marshal(after)
		if err != nil {
			return fmt.Errorf("couldn't encode the metadata of %s: %w", name, err)
		}
		if _, err := t.exec("INSERT INTO firmware_makers (name, record) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET record = excluded.record", name, string(text)); err != nil {
			return fmt.Errorf("couldn't store the metadata of %s: %w", name, err)
		}
		return t.record(events...)
	})
}
