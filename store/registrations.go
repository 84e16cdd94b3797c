package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"bollard/fleet"
	"bollard/ledger"
)

var _ fleet.EnrolmentStore = (*Store)(nil)

const registrationColumns = "station, salt, hash, created_at, expires_at, key_hash"

// Applicant returns a station with its one-time secret, nil without one;
// fleet.ErrUnknownStation. It remembers the station and its plan, which are looked at
// next if the secret is right: three reads cost three times one.
func (s *Store) Applicant(ctx context.Context, station string) (fleet.Station, *fleet.Registration, error) {
	ages := [...]uint64{s.recentStations.epoch(), s.recentPlans.epoch()}
	a, err := lookUp(ctx, s, selectApplicant, scanApplicant, station)
	if err != nil {
		return fleet.Station{}, nil, unknownStation(station, err)
	}
	s.recentStations.put(station, a.station, ages[0])
	s.recentPlans.put(station, a.plan, ages[1])
	return cloneStation(a.station), a.registration, nil
}

// selectApplicant has what scanApplicant reads.
var selectApplicant = `SELECT registrations.station IS NOT NULL, salt, hash, registrations.created_at, expires_at, COALESCE(key_hash, ''),
	COALESCE((SELECT plan FROM plans WHERE plans.station = stations.station), ''), stations.` + strings.ReplaceAll(stationColumns, ", ", ", stations.") + `
	FROM stations LEFT JOIN registrations ON registrations.station = stations.station WHERE stations.station = +?`

type applicant struct {
	station      fleet.Station
	registration *fleet.Registration
	plan         string // "": none
}

func scanApplicant(c *columns) applicant {
	registered := c.truth()
	r := fleet.Registration{Salt: c.blob(), Hash: c.blob(), CreatedAt: c.instant(), ExpiresAt: c.instant(), KeyHash: c.text()}
	a := applicant{plan: c.text(), station: scanStation(c)}
	if registered {
		r.Station = stationKey(a.station.Identity)
		a.registration = &r
	}
	return a
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
	station, err := lookUp(ctx, s, "SELECT "+stationColumns+" FROM stations WHERE "+clause, scanStation, value)
	if err != nil {
		return fleet.Station{}, unknownStation(value, err)
	}
	return station, nil
}
