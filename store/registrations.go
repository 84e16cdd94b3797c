package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"bollard/fleet"
	"bollard/ledger"
)

var _ fleet.EnrolmentStore = (*Store)(nil)

const registrationColumns = "station, salt, hash, created_at, expires_at, key_hash"

// Registration returns a station's one-time secret; ok is false without one.
func (s *Store) Registration(ctx context.Context, station string) (fleet.Registration, bool, error) {
	r, err := lookUp(ctx, s, s.byKey.registration, scanRegistration, station)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fleet.Registration{}, false, nil
	case err != nil:
		return fleet.Registration{}, false, fmt.Errorf("couldn't read the one-time secret of station %q: %w", station, err)
	}
	return r, true, nil
}

// PutRegistration replaces a station's one-time secret.
func (s *Store) PutRegistration(ctx context.Context, r fleet.Registration, events ...ledger.Event) error {
	return s.writeAgain(ctx, func(t *tx) error {
		var known int
		if err := t.row("SELECT 1 FROM stations WHERE station = ?", r.Station).Scan(&known); err != nil {
			return unknownStation(r.Station, err)
		}
		_, err := t.exec(`INSERT INTO registrations (`+registrationColumns+`) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (station) DO UPDATE SET salt = excluded.salt, hash = excluded.hash, created_at = excluded.created_at,
				expires_at = excluded.expires_at, key_hash = excluded.key_hash`,
			r.Station, nonNil(r.Salt), nonNil(r.Hash), millis(r.CreatedAt), millis(r.ExpiresAt), r.KeyHash)
		if err != nil {
			return fmt.Errorf("couldn't store the one-time secret of station %q: %w", r.Station, err)
		}
		return t.record(events...)
	})
}

// UseRegistration binds a station's one-time secret to a key; again to the
// same key changes nothing. fleet.ErrRegistrationUsed if it is bound to another
// key or isn't the station's any more.
func (s *Store) UseRegistration(ctx context.Context, station string, hash []byte, keyHash string, events ...ledger.Event) error {
	return s.writeAgain(ctx, func(t *tx) error { return t.useRegistration(station, hash, keyHash, events...) })
}

func (t *tx) useRegistration(station string, hash []byte, keyHash string, events ...ledger.Event) error {
	bound, err := t.exec("UPDATE registrations SET key_hash = ? WHERE station = ? AND hash = ? AND key_hash = ''", keyHash, station, hash)
	if err != nil {
		return fmt.Errorf("couldn't use the one-time secret of station %q: %w", station, err)
	}
	if bound == 1 {
		return t.record(events...)
	}
	var before int
	err = t.row("SELECT 1 FROM registrations WHERE station = ? AND hash = ? AND key_hash = ?", station, hash, keyHash).Scan(&before)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("station %q: %w", station, fleet.ErrRegistrationUsed)
	}
	if err != nil {
		return fmt.Errorf("couldn't use the one-time secret of station %q: %w", station, err)
	}
	return nil
}

// StationBySerial returns the station that answers to a serial number, its own
// or an alias; fleet.ErrUnknownStation if none does.
func (s *Store) StationBySerial(ctx context.Context, serial string) (fleet.Station, error) {
	return s.stationWhere(ctx, "station = (SELECT station FROM station_serials WHERE serial = ?)", serial)
}

// StationByFactory returns the station a maker's certificate is pinned to, by
// the SHA-256 of its DER; fleet.ErrUnknownStation if there is none.
func (s *Store) StationByFactory(ctx context.Context, hash string) (fleet.Station, error) {
	return s.stationWhere(ctx, "factory_hash = ? AND factory_hash <> '' ORDER BY station LIMIT 1", hash)
}

// StationByFactoryKey returns the station whose maker's certificate must have
// this public key, by the SHA-256 of its SubjectPublicKeyInfo.
func (s *Store) StationByFactoryKey(ctx context.Context, hash string) (fleet.Station, error) {
	return s.stationWhere(ctx, "factory_key = ? AND factory_key <> '' ORDER BY station LIMIT 1", hash)
}

// StationByEK returns the station that is known by a TPM, by the SHA-256 of its
// endorsement key.
func (s *Store) StationByEK(ctx context.Context, hash string) (fleet.Station, error) {
	return s.stationWhere(ctx, "ek = ? AND ek <> ''", hash)
}

func (s *Store) stationWhere(ctx context.Context, clause, value string) (fleet.Station, error) {
	db, err := s.reader()
	if err != nil {
		return fleet.Station{}, err
	}
	station, err := scanStation(db.QueryRowContext(ctx, "SELECT "+stationColumns+" FROM stations WHERE "+clause, value))
	if err != nil {
		return fleet.Station{}, unknownStation(value, explain(s.path, err))
	}
	return station, nil
}

func scanRegistration(row scanner) (fleet.Registration, error) {
	var r fleet.Registration
	err := row.Scan(&r.Station, &r.Salt, &r.Hash, instant{&r.CreatedAt}, instant{&r.ExpiresAt}, &r.KeyHash)
	return r, err
}
