package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"bollard/fleet"
	"bollard/ledger"
)

const eventColumns = "position, station, type, sent_as, listed, critical, version, sent_at, received_at, tech_info"

// AddEvent stores a security event of a known station and, if there is one, its
// copy for the back end: both or neither. What is over the bounds of the station
// goes, the oldest first, and is counted.
func (s *Store) AddEvent(ctx context.Context, e fleet.SecurityEvent, parcel *fleet.Parcel, lost func(fleet.EventLosses) []ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		var known int
		if err := t.row("SELECT 1 FROM stations WHERE station = ?", e.Station).Scan(&known); err != nil {
			return unknownStation(e.Station, err)
		}
		position, err := t.position("security_events")
		if err != nil {
			return err
		}
		if _, err := t.exec("INSERT INTO security_events ("+eventColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			position, e.Station, e.Type, e.SentAs, number(e.Listed), number(e.Critical), e.Version, e.Timestamp,
			e.ReceivedAt.UnixMilli(), e.TechInfo); err != nil {
			return fmt.Errorf("couldn't store a security event of station %q: %w", e.Station, err)
		}
		t.saw(e.ReceivedAt)
		events, err := t.exec(`DELETE FROM security_events WHERE station = ? AND critical = ? AND position <=
			(SELECT position FROM security_events WHERE station = ? AND critical = ? ORDER BY position DESC LIMIT 1 OFFSET ?)`,
			e.Station, number(e.Critical), e.Station, number(e.Critical), fleet.EventsKept)
		if err != nil {
			return fmt.Errorf("couldn't drop the oldest security events of station %q: %w", e.Station, err)
		}
		copies := int64(0)
		if parcel != nil {
			if copies, err = t.addParcel(e.Station, parcel); err != nil {
				return err
			}
		}
		return t.countLosses(e.Station, events, copies, lost)
	})
}

// SecurityEvents returns a station's events, newest first, at most limit.
func (s *Store) SecurityEvents(ctx context.Context, station string, limit int) ([]fleet.SecurityEvent, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT "+eventColumns+" FROM security_events WHERE station = ? ORDER BY position DESC LIMIT ?", station, limit)
	list, err := collect(rows, err, scanEvent)
	if err != nil {
		return nil, fmt.Errorf("couldn't read security events: %w", explain(s.path, err))
	}
	return list, nil
}

// EventLosses returns how much of a station's events was given up so far.
func (s *Store) EventLosses(ctx context.Context, station string) (fleet.EventLosses, error) {
	db, err := s.reader()
	if err != nil {
		return fleet.EventLosses{}, err
	}
	losses := fleet.EventLosses{Station: station}
	err = db.QueryRowContext(ctx, "SELECT events, copies FROM event_losses WHERE station = ?", station).Scan(&losses.Events, &losses.Copies)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fleet.EventLosses{}, fmt.Errorf("couldn't read lost security events: %w", explain(s.path, err))
	}
	return losses, nil
}

// position takes the next one of a table.
func (t *tx) position(table string) (int64, error) {
	var position int64
	err := t.row("UPDATE event_positions SET position = position + 1 WHERE name = ? RETURNING position", table).Scan(&position)
	if err != nil {
		return 0, fmt.Errorf("couldn't take a position of %s: %w", table, err)
	}
	return position, nil
}

// countLosses adds to a station's losses and records what lost makes of it.
func (t *tx) countLosses(station string, events, copies int64, lost func(fleet.EventLosses) []ledger.Event) error {
	if events == 0 && copies == 0 {
		return nil
	}
	losses := fleet.EventLosses{Station: station, NewEvents: int(events), NewCopies: int(copies)}
	err := t.row(`INSERT INTO event_losses (station, events, copies) VALUES (?, ?, ?)
		ON CONFLICT (station) DO UPDATE SET events = events + excluded.events, copies = copies + excluded.copies
		RETURNING events, copies`, station, events, copies).Scan(&losses.Events, &losses.Copies)
	if err != nil {
		return fmt.Errorf("couldn't count lost security events of station %q: %w", station, err)
	}
	if lost == nil {
		return nil
	}
	return t.record(lost(losses)...)
}

func scanEvent(row scanner) (fleet.SecurityEvent, error) {
	var e fleet.SecurityEvent
	err := row.Scan(&e.ID, &e.Station, &e.Type, &e.SentAs, &e.Listed, &e.Critical, &e.Version, &e.Timestamp,
		instant{&e.ReceivedAt}, &e.TechInfo)
	return e, err
}
