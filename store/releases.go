package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"bollard/firmware/catalogue"
	"bollard/ledger"
)

var _ catalogue.Store = (*Store)(nil)

// AddRelease keeps a firmware release with its papers.
func (s *Store) AddRelease(ctx context.Context, e catalogue.Entry, papers map[string][]byte, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		var known int
		switch err := t.row("SELECT 1 FROM firmware_releases WHERE id = ?", e.Release.ID).Scan(&known); {
		case err == nil:
			return fmt.Errorf("%w: %s", catalogue.ErrExists, e.Release.ID)
		case !errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("couldn't look for firmware release %s: %w", e.Release.ID, err)
		}
		text, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("couldn't encode firmware release %s: %w", e.Release.ID, err)
		}
		if _, err := t.exec("INSERT INTO firmware_releases (id, position, record) VALUES (?, (SELECT COALESCE(MAX(position), 0) + 1 FROM firmware_releases), ?)",
			e.Release.ID, string(text)); err != nil {
			return fmt.Errorf("couldn't store firmware release %s: %w", e.Release.ID, err)
		}
		for _, name := range slices.Sorted(maps.Keys(papers)) {
			if _, err := t.exec("INSERT INTO firmware_papers (release, name, content) VALUES (?, ?, ?)", e.Release.ID, name, papers[name]); err != nil {
				return fmt.Errorf("couldn't store %s of firmware release %s: %w", name, e.Release.ID, err)
			}
		}
		return t.record(events...)
	})
}

const allReleases = "SELECT record FROM firmware_releases ORDER BY position DESC"

// Releases returns the firmware releases, newest first. Each decision about a station
// asks for them several times.
func (s *Store) Releases(ctx context.Context) ([]catalogue.Entry, error) {
	return remembered(ctx, s, &s.recentReleases, "", slices.Clone[[]catalogue.Entry], func(ctx context.Context) ([]catalogue.Entry, error) {
		list, err := lookUpAll(ctx, s, allReleases, jsonOf[catalogue.Entry])
		if err != nil {
			return nil, fmt.Errorf("couldn't read the firmware releases: %w", err)
		}
		return list, nil
	})
}

// UpdateReleases reads, changes and writes them in one transaction.
func (s *Store) UpdateReleases(ctx context.Context, change func([]*catalogue.Entry) ([]ledger.Event, error)) error {
	return s.write(ctx, func(t *tx) error {
		rows, err := t.rows(allReleases)
		list, err := collect(rows, err, scanJSON[*catalogue.Entry])
		if err != nil {
			return fmt.Errorf("couldn't read the firmware releases: %w", err)
		}
		events, err := change(list)
		if err != nil {
			return err
		}
		for _, e := range list {
			if err := t.putRelease(e); err != nil {
				return err
			}
		}
		return t.record(events...)
	})
}

func (t *tx) putRelease(e *catalogue.Entry) error {
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("couldn't encode firmware release %s: %w", e.Release.ID, err)
	}
	if _, err := t.exec("UPDATE firmware_releases SET record = ? WHERE id = ? AND record <> ?", string(text), e.Release.ID, string(text)); err != nil {
		return fmt.Errorf("couldn't store firmware release %s: %w", e.Release.ID, err)
	}
	return nil
}
