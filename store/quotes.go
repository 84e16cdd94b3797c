package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"bollard/ca"
	"bollard/firmware/quote"
	"bollard/ledger"
)

var _ quote.Store = (*Store)(nil)

// Quote returns what is known of a station by its quotes, the zero Record if nothing is.
func (s *Store) Quote(ctx context.Context, station string) (quote.Record, error) {
	db, err := s.reader()
	if err != nil {
		return quote.Record{}, err
	}
	r, err := scanJSON[quote.Record](db.QueryRowContext(ctx, "SELECT record FROM quotes WHERE station = ?", station))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return r, fmt.Errorf("couldn't read the quote of station %q: %w", station, explain(s.path, err))
	}
	return r, nil
}

// Quotes returns what is known of all stations that quoted, or have to, by station.
func (s *Store) Quotes(ctx context.Context) (map[string]quote.Record, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	list := map[string]quote.Record{}
	rows, err := db.QueryContext(ctx, "SELECT station, record FROM quotes")
	_, err = collect(rows, err, func(row scanner) (struct{}, error) {
		var station string
		var text []byte
		if err := row.Scan(&station, &text); err != nil {
			return struct{}{}, err
		}
		var r quote.Record
		err := json.Unmarshal(text, &r)
		list[station] = r
		return struct{}{}, err
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the quotes of stations: %w", explain(s.path, err))
	}
	return list, nil
}

// UpdateQuote reads, changes and writes what is known of a station by its quotes, in one
// transaction; quote.ErrUnknown if there is no such station, quote.ErrOtherTPM if it isn't
// known by the TPM it is by.
func (s *Store) UpdateQuote(ctx context.Context, station string, by *quote.TPM, change func(*quote.Record) ([]ledger.Event, error)) (quote.Record, error) {
	var r quote.Record
	err := s.write(ctx, func(t *tx) error {
		var ek string
		switch err := t.row("SELECT ek FROM stations WHERE station = ?", station).Scan(&ek); {
		case errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("station %q: %w", station, quote.ErrUnknown)
		case err != nil:
			return fmt.Errorf("couldn't read station %q: %w", station, err)
		}
		if by != nil {
			if err := t.quotes(station, ek, by); err != nil {
				return err
			}
		}
		var err error
		if r, err = scanJSON[quote.Record](t.row("SELECT record FROM quotes WHERE station = ?", station)); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("couldn't read the quote of station %q: %w", station, err)
		}
		events, err := change(&r)
		if err != nil {
			return err
		}
		text, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("couldn't encode the quote of station %q: %w", station, err)
		}
		if _, err := t.exec("INSERT INTO quotes (station, record) VALUES (?, ?) ON CONFLICT (station) DO UPDATE SET record = excluded.record", station, string(text)); err != nil {
			return fmt.Errorf("couldn't store the quote of station %q: %w", station, err)
		}
		t.saw(r.At)
		return t.record(events...)
	})
	return r, err
}

// quotes is quote.ErrOtherTPM unless a TPM may quote for a station now, which is known by an
// endorsement key.
func (t *tx) quotes(station, ek string, by *quote.TPM) error {
	if by.EK != ek {
		return fmt.Errorf("station %q: %w", station, quote.ErrOtherTPM)
	}
	if by.Certificate == "" {
		return nil
	}
	var good int
	err := t.row("SELECT 1 FROM certificates WHERE serial = ? AND station = ? AND state = ?", by.Certificate, station, ca.StateIssued).Scan(&good)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("station %q: %w", station, quote.ErrOtherTPM)
	}
	if err != nil {
		return fmt.Errorf("couldn't read certificate %s: %w", by.Certificate, err)
	}
	return nil
}
