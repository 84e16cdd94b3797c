package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"bollard/firmware/campaign"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/fleet"
	"bollard/ledger"
)

var (
	_ gate.Store     = (*Store)(nil)
	_ campaign.Store = (*Store)(nil)
)

// AddJob keeps a station's update and gives it its number; gate.ErrBusy while the
// station has one that isn't over.
func (s *Store) AddJob(ctx context.Context, j job.Job, events ...ledger.Event) (job.Job, error) {
	err := s.write(ctx, func(t *tx) error {
		var known int
		if err := t.row("SELECT 1 FROM stations WHERE station = ?", j.Station).Scan(&known); err != nil {
			return unknownStation(j.Station, err)
		}
		var busy string
		switch err := t.row("SELECT id FROM firmware_jobs WHERE station = ? AND over = 0", j.Station).Scan(&busy); {
		case err == nil:
			return fmt.Errorf("%w: %s", gate.ErrBusy, busy)
		case !errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("couldn't look for updates of station %q: %w", j.Station, err)
		}
		var err error
		if j.Number, err = t.position("firmware_jobs"); err != nil {
			return err
		}
		text, err := json.Marshal(j)
		if err != nil {
			return fmt.Errorf("couldn't encode an update of station %q: %w", j.Station, err)
		}
		if _, err := t.exec("INSERT INTO firmware_jobs (number, id, station, over, deadline, record) VALUES (?, ?, ?, ?, ?, ?)", j.Number, j.ID, j.Station, over(&j), millis(j.Deadline), string(text)); err != nil {
			return fmt.Errorf("couldn't store an update of station %q: %w", j.Station, err)
		}
		t.saw(j.CreatedAt, j.ChangedAt)
		return t.record(events...)
	})
	return j, err
}

func over(j *job.Job) int {
	if j.State.Open() {
		return 0
	}
	return 1
}

// UpdateJob reads, changes and writes an update in one transaction. One that is
// done raises the floor in it, one that is quarantined puts its station there.
func (s *Store) UpdateJob(ctx context.Context, id string, change func(*job.Job) ([]ledger.Event, error)) (job.Job, error) {
	var updated job.Job
	err := s.write(ctx, func(t *tx) (err error) {
		updated, err = t.updateJob(id, change)
		return err
	})
	return updated, err
}

// ReportJob is UpdateJob with a copy in the station's outbox. Of those that had to go
// for it, the count is kept.
func (s *Store) ReportJob(ctx context.Context, id string, c gate.Copy, change func(*job.Job) ([]ledger.Event, error)) (job.Job, error) {
	var updated job.Job
	err := s.write(ctx, func(t *tx) (err error) {
		if updated, err = t.updateJob(id, change); err != nil {
			return err
		}
		gone, err := t.addParcel(updated.Station, &fleet.Parcel{Action: c.Action, Payload: c.Payload, QueuedAt: c.At})
		if err != nil || gone == 0 {
			return err
		}
		return t.countLosses(updated.Station, 0, gone, func(fleet.EventLosses) []ledger.Event { return nil })
	})
	return updated, err
}

func (t *tx) updateJob(id string, change func(*job.Job) ([]ledger.Event, error)) (job.Job, error) {
	j, err := scanJSON[job.Job](t.row("SELECT record FROM firmware_jobs WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return j, fmt.Errorf("firmware update %.40q: %w", id, gate.ErrUnknown)
	}
	if err != nil {
		return j, fmt.Errorf("couldn't read firmware update %s: %w", id, err)
	}
	before := j.State
	events, err := change(&j)
	if err != nil {
		return j, err
	}
	if err := t.putJob(&j); err != nil {
		return j, err
	}
	if j.State == job.Done && before != job.Done {
		if err := t.raiseFloor(j.Station, j.Component, job.Floor{Sequence: j.Sequence, SecurityEpoch: j.SecurityEpoch}); err != nil {
			return j, err
		}
	}
	if j.State == job.Quarantined && before != job.Quarantined {
		if _, err := t.exec("INSERT INTO firmware_quarantine (station) VALUES (?) ON CONFLICT (station) DO NOTHING", j.Station); err != nil {
			return j, fmt.Errorf("couldn't put station %q into quarantine: %w", j.Station, err)
		}
	}
	return j, t.record(events...)
}

func (t *tx) putJob(j *job.Job) error {
	text, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("couldn't encode firmware update %s: %w", j.ID, err)
	}
	if _, err := t.exec("UPDATE firmware_jobs SET over = ?, deadline = ?, record = ? WHERE id = ?", over(j), millis(j.Deadline), string(text), j.ID); err != nil {
		return fmt.Errorf("couldn't store firmware update %s: %w", j.ID, err)
	}
	t.saw(j.ChangedAt)
	return nil
}

// Jobs returns the newest updates of a station, of all with "", newest first.
func (s *Store) Jobs(ctx context.Context, station string, limit int) ([]job.Job, error) {
	if station == "" {
		return s.jobs(ctx, "ORDER BY number DESC LIMIT ?", limit)
	}
	return s.jobsOf(ctx, latestJobsOf, station, limit)
}

// OpenJobs returns the updates that aren't over, of a station, of all with "".
func (s *Store) OpenJobs(ctx context.Context, station string) ([]job.Job, error) {
	if station == "" {
		return s.jobs(ctx, "WHERE over = 0 ORDER BY number")
	}
	return s.jobsOf(ctx, openJobsOf, station)
}

// Deadlines returns until when the updates that aren't over wait, by their IDs.
func (s *Store) Deadlines(ctx context.Context) (map[string]time.Time, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	type open struct {
		id       string
		deadline time.Time
	}
	rows, err := db.QueryContext(ctx, "SELECT id, deadline FROM firmware_jobs WHERE over = 0")
	list, err := collect(rows, err, func(row scanner) (o open, err error) {
		err = row.Scan(&o.id, instant{&o.deadline})
		return o, err
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the deadlines of firmware updates: %w", explain(s.path, err))
	}
	out := make(map[string]time.Time, len(list))
	for _, o := range list {
		out[o.id] = o.deadline
	}
	return out, nil
}

// Unverified returns the updates whose stations verified nothing of a version that they
// may run for it, however the update ended: but where they ran that before, or got it
// signed since.
func (s *Store) Unverified(ctx context.Context) ([]job.Job, error) {
	return s.jobs(ctx, `WHERE json_extract(record, '$.unsigned') AND json_extract(record, '$.sent_sha256') IS NOT NULL
		AND (json_extract(record, '$.state') = 'done' OR coalesce(json_extract(record, '$.before'), '') <> json_extract(record, '$.version'))
		AND NOT EXISTS (SELECT 1 FROM firmware_jobs later WHERE later.station = firmware_jobs.station AND later.number > firmware_jobs.number
			AND json_extract(later.record, '$.state') = 'done' AND json_extract(later.record, '$.unsigned') IS NULL
			AND json_extract(later.record, '$.version') = json_extract(firmware_jobs.record, '$.version')) ORDER BY number`)
}

// Publications returns what local controllers offer, by their own word.
func (s *Store) Publications(ctx context.Context) ([]job.Job, error) {
	return s.jobs(ctx, "WHERE json_extract(record, '$.state') = 'published' ORDER BY number DESC")
}

// CondemnedJobs returns the updates whose stations called a release's signature invalid.
func (s *Store) CondemnedJobs(ctx context.Context, release string) ([]job.Job, error) {
	return s.jobs(ctx, "WHERE json_extract(record, '$.release') = ? AND json_extract(record, '$.condemned_at') IS NOT NULL ORDER BY number", release)
}

// Visits returns the updates whose stations download elsewhere, where it is to be looked at
// what is there.
func (s *Store) Visits(ctx context.Context) ([]job.Job, error) {
	return s.jobs(ctx, "WHERE json_extract(record, '$.visit') IS NOT NULL ORDER BY number")
}

func (s *Store) jobs(ctx context.Context, where string, args ...any) ([]job.Job, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT record FROM firmware_jobs "+where, args...)
	list, err := collect(rows, err, scanJSON[job.Job])
	if err != nil {
		return nil, fmt.Errorf("couldn't read firmware updates: %w", explain(s.path, err))
	}
	return list, nil
}

func (s *Store) jobsOf(ctx context.Context, query string, key ...any) ([]job.Job, error) {
	list, err := lookUpAll(ctx, s, query, jsonOf[job.Job], key...)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the firmware updates of a station: %w", err)
	}
	return list, nil
}

// InQuarantine says whether a station is kept from updates, also one that was
// removed and added again.
func (s *Store) InQuarantine(ctx context.Context, station string) (bool, error) {
	n, err := lookUp(ctx, s, quarantineOf, (*columns).number, station)
	if err != nil {
		return false, fmt.Errorf("couldn't look for station %q in quarantine: %w", station, err)
	}
	return n > 0, nil
}

// Quarantined returns the stations that are kept from updates, by name.
func (s *Store) Quarantined(ctx context.Context) ([]string, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT station FROM firmware_quarantine ORDER BY station")
	list, err := collect(rows, err, func(row scanner) (string, error) {
		var station string
		return station, row.Scan(&station)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the stations in quarantine: %w", explain(s.path, err))
	}
	return list, nil
}

// EndQuarantine lets a station out, and marks the updates that put it there.
func (s *Store) EndQuarantine(ctx context.Context, station string, at time.Time, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec("DELETE FROM firmware_quarantine WHERE station = ?", station); err != nil {
			return fmt.Errorf("couldn't let station %q out of quarantine: %w", station, err)
		}
		rows, err := t.rows("SELECT record FROM firmware_jobs WHERE station = ? AND over = 1", station)
		list, err := collect(rows, err, scanJSON[job.Job])
		if err != nil {
			return fmt.Errorf("couldn't read the updates of station %q: %w", station, err)
		}
		for _, j := range list {
			if j.State != job.Quarantined || !j.ClearedAt.IsZero() {
				continue
			}
			j.ClearedAt = at
			if err := t.putJob(&j); err != nil {
				return err
			}
		}
		t.saw(at)
		return t.record(events...)
	})
}

// Floor returns the least that may be installed on a station's component.
func (s *Store) Floor(ctx context.Context, station, component string) (job.Floor, error) {
	f, err := orNone(lookUp(ctx, s, floorOf, scanFloor, station, component))
	if err != nil {
		return f, fmt.Errorf("couldn't read a firmware floor: %w", err)
	}
	return f, nil
}

// RaiseFloor raises it, or leaves it where it is higher.
func (s *Store) RaiseFloor(ctx context.Context, station, component string, by job.Floor, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.raiseFloor(station, component, by); err != nil {
			return err
		}
		return t.record(events...)
	})
}

func (t *tx) raiseFloor(station, component string, by job.Floor) error {
	f, err := orNone(see(t, floorOf, scanFloor, station, component))
	if err != nil {
		return fmt.Errorf("couldn't read a firmware floor: %w", err)
	}
	if f = f.Raised(by); f.Sequence > math.MaxInt64 || f.SecurityEpoch > math.MaxInt64 {
		return fmt.Errorf("firmware floor %d, %d of station %q is too large", f.Sequence, f.SecurityEpoch, station)
	}
	_, err = t.exec("INSERT INTO firmware_floors (station, component, sequence, epoch) VALUES (?, ?, ?, ?) ON CONFLICT (station, component) DO UPDATE SET sequence = excluded.sequence, epoch = excluded.epoch",
		station, component, int64(f.Sequence), int64(f.SecurityEpoch)) //nolint:gosec // bounded above
	if err != nil {
		return fmt.Errorf("couldn't raise a firmware floor: %w", err)
	}
	return nil
}

func scanFloor(c *columns) job.Floor {
	return job.Floor{Sequence: uint64(c.number()), SecurityEpoch: uint64(c.number())} //nolint:gosec // never negative
}
