package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bollard/fleet"
	"bollard/ledger"
)

const stationColumns = `station, identity, escaped, serial, aliases, vendor, model, wanted_profile, floor_profile, seen_profile,
	password_kind, password_salt, password_hash, password_set_at, factory_hash, leaf_serial, warn, allow_expired, renew_wanted,
	version, created_at, seen_at, last_refusal, refused_at, plan_note, pending, rotate_wanted, grouping, site, backend, seen_backend, lost_at, lost_reason, factory_key, lower_until,
	admitted, admitted_at, admissions, hardware, seccs, ek`

// stationKey is a station's primary key: its identity in lower case.
func stationKey(identity string) string { return strings.ToLower(identity) }

// AddStations adds all or none; fleet.ErrStationExists names the first clash
// of identity, escaped spelling, serial or alias.
func (s *Store) AddStations(ctx context.Context, stations []fleet.Station, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		for _, station := range stations {
			if err := t.addStation(station); err != nil {
				return err
			}
		}
		return t.record(events...)
	})
}

func (t *tx) addStation(station fleet.Station) error {
	key := stationKey(station.Identity)
	if key == "" {
		return errors.New("couldn't add a station without identity")
	}
	if err := t.checkEscaped(station, key); err != nil {
		return err
	}
	args, err := stationArgs(station)
	if err != nil {
		return err
	}
	added, err := t.exec("INSERT INTO stations ("+stationColumns+`)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (station) DO NOTHING`, args...)
	if err != nil {
		return fmt.Errorf("couldn't add station %q: %w", station.Identity, err)
	}
	if added == 0 {
		return fmt.Errorf("couldn't add station %q: identity: %w", station.Identity, fleet.ErrStationExists)
	}
	if err := t.addSECCs(station, key); err != nil {
		return err
	}
	return t.addSerials(station, key)
}

// checkEscaped looks for another station with the same escaped spelling.
func (t *tx) checkEscaped(station fleet.Station, key string) error {
	if station.Escaped == "" {
		return nil
	}
	var other string
	err := t.row("SELECT identity FROM stations WHERE escaped = ? AND escaped <> '' AND station <> ?", station.Escaped, key).Scan(&other)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("couldn't look for the spelling of station %q: %w", station.Identity, err)
	}
	return fmt.Errorf("couldn't store station %q: %q is spelled the same in the URL: %w", station.Identity, other, fleet.ErrStationExists)
}

// addSerials claims the station's serial number and aliases. A station may
// name one twice; two stations may not.
func (t *tx) addSerials(station fleet.Station, key string) error {
	for _, serial := range append([]string{station.Serial}, station.Aliases...) {
		if serial == "" {
			continue
		}
		var owner string
		err := t.row(`INSERT INTO station_serials (serial, station) VALUES (?, ?)
			ON CONFLICT (serial) DO UPDATE SET serial = excluded.serial RETURNING station`, serial, key).Scan(&owner)
		if err != nil {
			return fmt.Errorf("couldn't store serial number of station %q: %w", station.Identity, err)
		}
		if owner != key {
			return fmt.Errorf("couldn't store station %q: serial number %q belongs to station %q: %w", station.Identity, serial, owner, fleet.ErrStationExists)
		}
	}
	return nil
}

// SECCTaken says whether a station has an SECC identifier, in whatever case and with or
// without its separators.
func (s *Store) SECCTaken(ctx context.Context, secc string) (bool, error) {
	db, err := s.reader()
	if err != nil {
		return false, err
	}
	plain := strings.NewReplacer("*", "", "-", "").Replace(strings.ToLower(secc))
	var taken bool
	err = db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM station_seccs WHERE replace(replace(secc, '*', ''), '-', '') = ?)", plain).Scan(&taken)
	if err != nil {
		return false, fmt.Errorf("couldn't look for an SECC identifier: %w", explain(s.path, err))
	}
	return taken, nil
}

// addSECCs claims what cars know the station by, whatever its case.
func (t *tx) addSECCs(station fleet.Station, key string) error {
	for _, secc := range station.SECCs {
		var owner string
		err := t.row(`INSERT INTO station_seccs (secc, station) VALUES (?, ?)
			ON CONFLICT (secc) DO UPDATE SET secc = excluded.secc RETURNING station`, strings.ToLower(secc.ID), key).Scan(&owner)
		if err != nil {
			return fmt.Errorf("couldn't store an SECC identifier of station %q: %w", station.Identity, err)
		}
		if owner != key {
			return fmt.Errorf("couldn't store station %q: SECC identifier %q belongs to station %q: %w", station.Identity, secc.ID, owner, fleet.ErrStationExists)
		}
	}
	return nil
}

// Station returns the record of a key, or fleet.ErrUnknownStation.
func (s *Store) Station(ctx context.Context, key string) (fleet.Station, error) {
	return remembered(ctx, s, &s.recentStations, key, cloneStation, func(ctx context.Context) (fleet.Station, error) {
		station, err := lookUp(ctx, s, stationByKey, scanStation, key)
		if err != nil {
			return fleet.Station{}, unknownStation(key, err)
		}
		return station, nil
	})
}

// cloneStation lets the caller change what it gets.
func cloneStation(st fleet.Station) fleet.Station {
	st.Aliases, st.Warn, st.SECCs = slices.Clone(st.Aliases), slices.Clone(st.Warn), slices.Clone(st.SECCs)
	if st.Password != nil {
		password := *st.Password
		st.Password = &password
	}
	if st.Pending != nil {
		pending := *st.Pending
		st.Pending = &pending
	}
	return st
}

func unknownStation(key string, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("station %q: %w", key, fleet.ErrUnknownStation)
	}
	return fmt.Errorf("couldn't read station %q: %w", key, err)
}

// Stations returns all stations by key.
func (s *Store) Stations(ctx context.Context) ([]fleet.Station, error) {
	list, err := readAll(ctx, s, "SELECT "+stationColumns+" FROM stations ORDER BY station", scanStation)
	if err != nil {
		return nil, fmt.Errorf("couldn't read stations: %w", err)
	}
	return list, nil
}

// UpdateStation reads, changes and writes one record in one transaction. An
// error of change leaves everything as it was. change runs in the writer: it
// must not call the store, nor wait for anything. The identity's spelling may
// change, its key not.
func (s *Store) UpdateStation(ctx context.Context, key string, change func(*fleet.Station) ([]ledger.Event, error)) (fleet.Station, error) {
	var updated fleet.Station
	err := s.write(ctx, func(t *tx) error {
		var events []ledger.Event
		var err error
		if updated, events, err = t.changeStation(key, change); err != nil {
			return err
		}
		return t.record(events...)
	})
	if err != nil {
		return fleet.Station{}, err
	}
	return stored(updated), nil
}

// UpdateStationAndPlan is UpdateStation with the station's plan, which is written
// in the same transaction.
func (s *Store) UpdateStationAndPlan(ctx context.Context, key string, change func(*fleet.Station, *fleet.Plan) ([]ledger.Event, error)) (fleet.Station, error) {
	var updated fleet.Station
	err := s.write(ctx, func(t *tx) error {
		plan, err := t.plan(key)
		if err != nil {
			return err
		}
		var events []ledger.Event
		updated, events, err = t.changeStation(key, func(st *fleet.Station) ([]ledger.Event, error) { return change(st, &plan) })
		if err != nil {
			return err
		}
		if err := t.putPlan(key, &plan); err != nil {
			return err
		}
		return t.record(events...)
	})
	if err != nil {
		return fleet.Station{}, err
	}
	return stored(updated), nil
}

func (t *tx) changeStation(key string, change func(*fleet.Station) ([]ledger.Event, error)) (fleet.Station, []ledger.Event, error) {
	station, err := see(t, stationByKey, scanStation, key)
	if err != nil {
		return fleet.Station{}, nil, unknownStation(key, err)
	}
	serial, aliases, seccs, ek := station.Serial, slices.Clone(station.Aliases), slices.Clone(station.SECCs), station.EK
	events, err := change(&station)
	if err != nil {
		return fleet.Station{}, nil, err
	}
	if stationKey(station.Identity) != key {
		return fleet.Station{}, nil, fmt.Errorf("couldn't change identity of station %q to %q: add it as a new station", key, station.Identity)
	}
	if err := t.checkEscaped(station, key); err != nil {
		return fleet.Station{}, nil, err
	}
	args, err := stationArgs(station)
	if err != nil {
		return fleet.Station{}, nil, err
	}
	if _, err := t.exec("UPDATE stations SET ("+stationColumns+`) =
		(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE station = ?`, append(args, key)...); err != nil {
		return fleet.Station{}, nil, fmt.Errorf("couldn't store station %q: %w", key, err)
	}
	if serial != station.Serial || !slices.Equal(aliases, station.Aliases) {
		if _, err := t.exec("DELETE FROM station_serials WHERE station = ?", key); err != nil {
			return fleet.Station{}, nil, fmt.Errorf("couldn't store serial numbers of station %q: %w", key, err)
		}
		if err := t.addSerials(station, key); err != nil {
			return fleet.Station{}, nil, err
		}
	}
	if !slices.Equal(seccs, station.SECCs) {
		if _, err := t.exec("DELETE FROM station_seccs WHERE station = ?", key); err != nil {
			return fleet.Station{}, nil, fmt.Errorf("couldn't store SECC identifiers of station %q: %w", key, err)
		}
		if err := t.addSECCs(station, key); err != nil {
			return fleet.Station{}, nil, err
		}
	}
	if ek != "" && ek != station.EK {
		// What the TPM before showed says nothing of this one.
		if _, err := t.exec("DELETE FROM quotes WHERE station = ?", key); err != nil {
			return fleet.Station{}, nil, fmt.Errorf("couldn't forget the quote of station %q: %w", key, err)
		}
	}
	return station, events, nil
}

// UpdateStations changes many records in one transaction; unknown ones are left out.
func (s *Store) UpdateStations(ctx context.Context, keys []string, change func(*fleet.Station) ([]ledger.Event, error)) error {
	return s.write(ctx, func(t *tx) error {
		for _, key := range keys {
			_, events, err := t.changeStation(key, change)
			switch {
			case errors.Is(err, fleet.ErrUnknownStation):
				continue
			case err != nil:
				return err
			}
			if err := t.record(events...); err != nil {
				return err
			}
		}
		return nil
	})
}

// Sighted moves SeenAt of the named stations forward and adds to their Admissions.
func (s *Store) Sighted(ctx context.Context, stations map[string]fleet.Sighting) error {
	return s.write(ctx, func(t *tx) error {
		for key, seen := range stations {
			at := int64(0) // leaves it as it is
			if !seen.At.IsZero() {
				at = seen.At.UnixMilli()
			}
			if _, err := t.exec("UPDATE stations SET seen_at = NULLIF(MAX(COALESCE(seen_at, 0), ?), 0), admissions = admissions + ? WHERE station = ?",
				at, seen.Admissions, key); err != nil {
				return fmt.Errorf("couldn't store when station %q was seen: %w", key, err)
			}
		}
		return nil
	})
}

// Unsummed names the stations with admissions whose last sum is not after until.
func (s *Store) Unsummed(ctx context.Context, until time.Time) ([]string, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT station FROM stations WHERE admissions > 0 AND COALESCE(admitted_at, 0) <= ? ORDER BY station", until.UnixMilli())
	list, err := collect(rows, err, func(row scanner) (key string, err error) { return key, row.Scan(&key) })
	if err != nil {
		return nil, fmt.Errorf("couldn't read which stations were let in: %w", explain(s.path, err))
	}
	return list, nil
}

// OldestSecret returns the password of that kind that was set first, nil without one.
func (s *Store) OldestSecret(ctx context.Context, kind string) (*fleet.Credential, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	c := fleet.Credential{Kind: kind}
	err = db.QueryRowContext(ctx, "SELECT password_salt, password_hash, password_set_at FROM stations WHERE password_kind = ? ORDER BY password_set_at, station LIMIT 1", kind).
		Scan(&c.Salt, &c.Hash, instant{&c.SetAt})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("couldn't read the oldest password of kind %s: %w", kind, explain(s.path, err))
	}
	return &c, nil
}

// stored is a station as Station would return it: times in whole milliseconds.
func stored(s fleet.Station) fleet.Station {
	for _, at := range []*time.Time{&s.AllowExpired, &s.CreatedAt, &s.SeenAt, &s.RefusedAt, &s.LostAt, &s.LowerUntil, &s.AdmittedAt} {
		*at = cut(*at)
	}
	if s.Password != nil {
		p := *s.Password
		p.SetAt = cut(p.SetAt)
		s.Password = &p
	}
	return s
}

// RemoveStation deletes the record and its open orders; certificates and
// closed orders stay. last says what is recorded of it, in the same transaction: it
// must not call the store, nor wait for anything.
func (s *Store) RemoveStation(ctx context.Context, key string, last func(*fleet.Station) []ledger.Event) error {
	return s.write(ctx, func(t *tx) error { return t.removeStation(key, last) })
}

func (t *tx) removeStation(key string, last func(*fleet.Station) []ledger.Event) error {
	station, err := see(t, stationByKey, scanStation, key)
	if err != nil {
		return unknownStation(key, err)
	}
	if _, err := t.exec("DELETE FROM stations WHERE station = ?", key); err != nil { // and its serials
		return fmt.Errorf("couldn't remove station %q: %w", key, err)
	}
	if _, err := t.exec("DELETE FROM orders WHERE station = ? AND state IN (?, ?, ?)",
		key, fleet.OrderAccepted, fleet.OrderIssued, fleet.OrderDelivered); err != nil {
		return fmt.Errorf("couldn't remove orders of station %q: %w", key, err)
	}
	if _, err := t.exec("DELETE FROM running_transactions WHERE station = ?", key); err != nil {
		return fmt.Errorf("couldn't remove transactions of station %q: %w", key, err)
	}
	return t.record(last(&station)...)
}

// stationArgs are the values of stationColumns.
func stationArgs(s fleet.Station) ([]any, error) {
	aliases, err := json.Marshal(s.Aliases)
	if err != nil {
		return nil, fmt.Errorf("couldn't encode aliases of station %q: %w", s.Identity, err)
	}
	warn, err := json.Marshal(s.Warn)
	if err != nil {
		return nil, fmt.Errorf("couldn't encode checks of station %q: %w", s.Identity, err)
	}
	seccs, err := json.Marshal(s.SECCs)
	if err != nil {
		return nil, fmt.Errorf("couldn't encode SECC identifiers of station %q: %w", s.Identity, err)
	}
	pending := []byte(nil)
	if s.Pending != nil {
		if pending, err = json.Marshal(s.Pending); err != nil {
			return nil, fmt.Errorf("couldn't encode the pending password of station %q: %w", s.Identity, err)
		}
	}
	var kind, salt, hash, setAt any
	if p := s.Password; p != nil {
		kind, salt, hash, setAt = p.Kind, nonNil(p.Salt), nonNil(p.Hash), millis(p.SetAt)
	}
	return []any{
		stationKey(s.Identity), s.Identity, s.Escaped, s.Serial, string(aliases), s.Vendor, s.Model,
		s.WantedProfile, s.FloorProfile, s.SeenProfile, kind, salt, hash, setAt, s.FactoryHash, s.LeafSerial,
		string(warn), millis(s.AllowExpired), number(s.RenewWanted), s.Version, millis(s.CreatedAt), millis(s.SeenAt),
		s.LastRefusal, millis(s.RefusedAt), s.PlanNote, string(pending), number(s.RotateWanted),
		s.Group, s.Site, s.Backend, s.SeenBackend, millis(s.LostAt), s.LostReason, s.FactoryKey, millis(s.LowerUntil),
		s.Admitted, millis(s.AdmittedAt), s.Admissions, s.Hardware, string(seccs), s.EK,
	}, nil
}

func scanStation(c *columns) fleet.Station {
	var s fleet.Station
	_ = c.text() // the key, which is the identity's
	s.Identity, s.Escaped, s.Serial = c.text(), c.text(), c.text()
	readList(c, "aliases", &s.Aliases)
	s.Vendor, s.Model = c.text(), c.text()
	s.WantedProfile, s.FloorProfile, s.SeenProfile = int(c.number()), int(c.number()), int(c.number())
	s.Password = scanPassword(c)
	s.FactoryHash, s.LeafSerial = c.text(), c.text()
	readList(c, "checks", &s.Warn)
	s.AllowExpired, s.RenewWanted, s.Version = c.instant(), c.truth(), c.text()
	s.CreatedAt, s.SeenAt, s.LastRefusal, s.RefusedAt, s.PlanNote = c.instant(), c.instant(), c.text(), c.instant(), c.text()
	if pending := c.blob(); len(pending) > 0 {
		s.Pending = &fleet.PendingPassword{}
		if err := json.Unmarshal(pending, s.Pending); err != nil {
			c.fail(fmt.Errorf("unreadable pending password: %w", err))
		}
	}
	s.RotateWanted, s.Group, s.Site, s.Backend, s.SeenBackend = c.truth(), c.text(), c.text(), c.text(), c.text()
	s.LostAt, s.LostReason, s.FactoryKey, s.LowerUntil = c.instant(), c.text(), c.text(), c.instant()
	s.Admitted, s.AdmittedAt, s.Admissions, s.Hardware = c.text(), c.instant(), int(c.number()), c.text()
	readList(c, "SECC identifiers", &s.SECCs)
	s.EK = c.text()
	return s
}

// scanPassword is nil where there is none.
func scanPassword(c *columns) *fleet.Credential {
	if c.null() {
		_, _, _ = c.blob(), c.blob(), c.instant()
		return nil
	}
	return &fleet.Credential{Kind: c.text(), Salt: c.blob(), Hash: c.blob(), SetAt: c.instant()}
}

// readList reads a list that most stations don't have, which is stored as null.
func readList[T any](c *columns, name string, list *[]T) {
	text := c.text()
	if text == "null" {
		return
	}
	if err := json.Unmarshal([]byte(text), list); err != nil {
		c.fail(fmt.Errorf("unreadable %s: %w", name, err))
	}
}
