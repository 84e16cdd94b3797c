package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"bollard/fleet"
	"bollard/ledger"
)

const logColumns = "station, request, kind, backend, state, asked_at, note, file, size, sha256, arrived_at, target, tries, try_at, handed_at"

// AddLog adds the record of a security log; of the station's the newest
// fleet.LogsKept stay of Bollard's own, and as many of back ends'. What goes and was
// still to be handed on is an entry.
func (s *Store) AddLog(ctx context.Context, l fleet.StationLog, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		var known int
		if err := t.row("SELECT 1 FROM stations WHERE station = ?", l.Station).Scan(&known); err != nil {
			return unknownStation(l.Station, err)
		}
		position, err := t.position("station_logs")
		if err != nil {
			return err
		}
		if _, err := t.exec("INSERT INTO station_logs (position, "+logColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			position, l.Station, l.Request, l.Kind, l.Backend, string(l.State), l.AskedAt.UnixMilli(), l.Note, l.File, l.Size, l.SHA256, millis(l.ArrivedAt), l.Target, l.Tries, millis(l.TryAt), millis(l.HandedAt)); err != nil {
			return fmt.Errorf("couldn't record a security log of station %q: %w", l.Station, err)
		}
		t.saw(l.AskedAt, l.ArrivedAt)
		err = t.dropLogs("newer ones took its place", `station = ?1 AND (backend = '') = (?2 = '') AND position <=
			(SELECT position FROM station_logs WHERE station = ?1 AND (backend = '') = (?2 = '') ORDER BY position DESC LIMIT 1 OFFSET ?3)`, l.Station, l.Backend, fleet.LogsKept)
		if err != nil {
			return fmt.Errorf("couldn't drop the oldest security logs of station %q: %w", l.Station, err)
		}
		return t.record(events...)
	})
}

// UpdateLog reads, changes and writes a record in one transaction; ok is false
// without it.
func (s *Store) UpdateLog(ctx context.Context, station string, request int, change func(*fleet.StationLog) ([]ledger.Event, error)) (ok bool, err error) {
	err = s.write(ctx, func(t *tx) error {
		l, err := scanLog(t.row("SELECT "+logColumns+" FROM station_logs WHERE station = ? AND request = ?", station, request))
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("couldn't read a security log of station %q: %w", station, err)
		}
		ok = true
		events, err := change(&l)
		if err != nil {
			return err
		}
		if _, err := t.exec("UPDATE station_logs SET state = ?, note = ?, file = ?, size = ?, sha256 = ?, arrived_at = ?, target = ?, tries = ?, try_at = ?, handed_at = ? WHERE station = ? AND request = ?",
			string(l.State), l.Note, l.File, l.Size, l.SHA256, millis(l.ArrivedAt), l.Target, l.Tries, millis(l.TryAt), millis(l.HandedAt), station, request); err != nil {
			return fmt.Errorf("couldn't record a security log of station %q: %w", station, err)
		}
		t.saw(l.ArrivedAt, l.HandedAt)
		return t.record(events...)
	})
	return ok && err == nil, err
}

// Logs returns a station's security logs, newest first.
func (s *Store) Logs(ctx context.Context, station string) ([]fleet.StationLog, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT "+logColumns+" FROM station_logs WHERE station = ? ORDER BY position DESC", station)
	list, err := collect(rows, err, scanLog)
	if err != nil {
		return nil, fmt.Errorf("couldn't read security logs: %w", explain(s.path, err))
	}
	return list, nil
}

// LogsToHandOn returns those that are here and due: of each back end the one that waited
// longest. What is to wait until after ahead was put off by a clock that was ahead.
func (s *Store) LogsToHandOn(ctx context.Context, now, ahead time.Time) ([]fleet.StationLog, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT "+logColumns+` FROM station_logs WHERE position IN (SELECT position FROM
		(SELECT position, row_number() OVER (PARTITION BY backend ORDER BY try_at, position) AS place FROM station_logs WHERE target IS NOT NULL AND file <> '' AND (try_at <= ? OR try_at > ?))
		WHERE place = 1) ORDER BY try_at`, now.UnixMilli(), ahead.UnixMilli())
	list, err := collect(rows, err, scanLog)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the logs to hand on: %w", explain(s.path, err))
	}
	return list, nil
}

// DropLogs removes what was asked for before a time, and returns the files of
// all that is left.
func (s *Store) DropLogs(ctx context.Context, before time.Time) ([]string, error) {
	var files []string
	err := s.write(ctx, func(t *tx) error {
		if err := t.dropLogs("it is kept no longer", "asked_at < ?", before.UnixMilli()); err != nil {
			return fmt.Errorf("couldn't drop old security logs: %w", err)
		}
		rows, err := t.rows("SELECT file FROM station_logs WHERE file <> ''")
		files, err = collect(rows, err, func(row scanner) (string, error) {
			var name string
			return name, row.Scan(&name)
		})
		if err != nil {
			return fmt.Errorf("couldn't list the security logs: %w", err)
		}
		return nil
	})
	return files, err
}

// dropLogs removes those that a condition is true of, and records which of them were
// still to be handed on.
func (t *tx) dropLogs(why, where string, args ...any) error {
	rows, err := t.rows("DELETE FROM station_logs WHERE "+where+" RETURNING "+logColumns, args...)
	list, err := collect(rows, err, scanLog)
	if err != nil {
		return err
	}
	var events []ledger.Event
	for _, l := range list {
		if l.Target != nil {
			events = append(events, l.NotHandedOn("", errors.New(why)))
		}
	}
	return t.record(events...)
}

func scanLog(row scanner) (fleet.StationLog, error) {
	var l fleet.StationLog
	err := row.Scan(&l.Station, &l.Request, &l.Kind, &l.Backend, &l.State, instant{&l.AskedAt}, &l.Note, &l.File, &l.Size, &l.SHA256, instant{&l.ArrivedAt}, &l.Target, &l.Tries, instant{&l.TryAt}, instant{&l.HandedAt})
	return l, err
}
