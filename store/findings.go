package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"bollard/alert"
	"bollard/detect"
	"bollard/ledger"
)

var _ alert.Store = (*Store)(nil)

const findingColumns = "name, criticality, COALESCE(station, ''), source, count, again, first_at, last_at, reason"

// KeepFinding stores a finding, over an older telling of the same episode, and
// queues its alerts: all or nothing. A finding about a station that isn't
// enrolled any more is dropped.
func (s *Store) KeepFinding(ctx context.Context, f detect.Finding, alerts []alert.Alert, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		var station any // NULL without one
		if f.Station != "" {
			station = f.Station
			var known int
			err := t.row("SELECT 1 FROM stations WHERE station = ?", f.Station).Scan(&known)
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			if err != nil {
				return unknownStation(f.Station, err)
			}
		}
		if err := t.putFinding(&f, station); err != nil {
			return fmt.Errorf("couldn't store finding %s: %w", f.Name, err)
		}
		for i := range alerts {
			if err := t.queueAlert(&alerts[i]); err != nil {
				return fmt.Errorf("couldn't queue an alert for %q: %w", alerts[i].Receiver, err)
			}
		}
		return t.record(events...)
	})
}

func (t *tx) putFinding(f *detect.Finding, station any) error {
	// The source may have changed from one telling to the next where the
	// finding is about a station.
	if _, err := t.exec(`DELETE FROM findings WHERE name = ? AND reason = ? AND first_at = ? AND station IS ? AND (station IS NOT NULL OR source = ?)`,
		f.Name, f.Reason, f.First.UnixMilli(), station, f.Source); err != nil {
		return err
	}
	position, err := t.position("findings")
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO findings (position, name, criticality, station, source, count, again, first_at, last_at, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		position, f.Name, string(f.Criticality), station, f.Source, f.Count, number(f.Again), f.First.UnixMilli(), f.Last.UnixMilli(), f.Reason); err != nil {
		return err
	}
	t.saw(f.Last)
	if station != nil {
		if _, err := t.exec(`DELETE FROM findings WHERE station = ? AND position <=
			(SELECT position FROM findings WHERE station = ? ORDER BY position DESC LIMIT 1 OFFSET ?)`, station, station, alert.StationFindings); err != nil {
			return err
		}
	}
	_, err = t.exec(`DELETE FROM findings WHERE position <= (SELECT position FROM findings ORDER BY position DESC LIMIT 1 OFFSET ?)`, alert.FindingsKept)
	return err
}

func (t *tx) queueAlert(a *alert.Alert) error {
	position, err := t.position("alerts")
	if err != nil {
		return err
	}
	if _, err := t.exec("INSERT INTO alerts (position, receiver, body, queued_at, tries) VALUES (?, ?, ?, ?, ?)",
		position, a.Receiver, a.Body, a.QueuedAt.UnixMilli(), a.Tries); err != nil {
		return err
	}
	t.saw(a.QueuedAt)
	gone, err := t.exec(`DELETE FROM alerts WHERE receiver = ? AND position <=
		(SELECT position FROM alerts WHERE receiver = ? ORDER BY position DESC LIMIT 1 OFFSET ?)`, a.Receiver, a.Receiver, alert.AlertsKept)
	if err != nil {
		return err
	}
	return t.loseAlerts(a.Receiver, gone)
}

func (t *tx) loseAlerts(receiver string, n int64) error {
	if n == 0 {
		return nil
	}
	_, err := t.exec(`INSERT INTO alert_losses (receiver, alerts) VALUES (?, ?)
		ON CONFLICT (receiver) DO UPDATE SET alerts = alerts + excluded.alerts`, receiver, n)
	return err
}

// Findings returns the newest first, at most limit; of one station if it isn't "".
func (s *Store) Findings(ctx context.Context, station string, limit int) ([]detect.Finding, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT "+findingColumns+" FROM findings WHERE ? = '' OR station = ? ORDER BY position DESC LIMIT ?", station, station, limit)
	list, err := collect(rows, err, func(row scanner) (detect.Finding, error) {
		var f detect.Finding
		err := row.Scan(&f.Name, &f.Criticality, &f.Station, &f.Source, &f.Count, &f.Again, instant{&f.First}, instant{&f.Last}, &f.Reason)
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read findings: %w", explain(s.path, err))
	}
	return list, nil
}

// Alerts returns a receiver's queue, oldest first, at most limit.
func (s *Store) Alerts(ctx context.Context, receiver string, limit int) ([]alert.Alert, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT position, receiver, body, queued_at, tries FROM alerts WHERE receiver = ? ORDER BY position LIMIT ?", receiver, limit)
	list, err := collect(rows, err, func(row scanner) (alert.Alert, error) {
		var a alert.Alert
		err := row.Scan(&a.ID, &a.Receiver, &a.Body, instant{&a.QueuedAt}, &a.Tries)
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read alerts: %w", explain(s.path, err))
	}
	return list, nil
}

// RemoveAlert takes a delivered alert out of its queue. One that is gone
// already is no error.
func (s *Store) RemoveAlert(ctx context.Context, id int64) error {
	return s.changeAlert(ctx, id, "DELETE FROM alerts WHERE position = ?")
}

// TriedAlert counts an answer that was no acceptance.
func (s *Store) TriedAlert(ctx context.Context, id int64) error {
	return s.changeAlert(ctx, id, "UPDATE alerts SET tries = tries + 1 WHERE position = ?")
}

func (s *Store) changeAlert(ctx context.Context, id int64, statement string) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(statement, id); err != nil {
			return fmt.Errorf("couldn't change alert %d: %w", id, err)
		}
		return nil
	})
}

// LoseAlert gives an alert up and counts it.
func (s *Store) LoseAlert(ctx context.Context, id int64) error {
	return s.write(ctx, func(t *tx) error {
		var receiver string
		err := t.row("DELETE FROM alerts WHERE position = ? RETURNING receiver", id).Scan(&receiver)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			err = t.loseAlerts(receiver, 1)
		}
		if err != nil {
			return fmt.Errorf("couldn't give up alert %d: %w", id, err)
		}
		return nil
	})
}

// KeepReceivers drops the queues of all receivers but these.
func (s *Store) KeepReceivers(ctx context.Context, receivers []string) error {
	return s.write(ctx, func(t *tx) error {
		args := make([]any, len(receivers))
		marks := "''"
		for i, name := range receivers {
			args[i] = name
			marks += ", ?"
		}
		for _, table := range []string{"alerts", "alert_losses"} {
			if _, err := t.exec("DELETE FROM "+table+" WHERE receiver NOT IN ("+marks+")", args...); err != nil {
				return fmt.Errorf("couldn't drop the alerts of former receivers: %w", err)
			}
		}
		return nil
	})
}

// AlertQueues returns the state of every queue that has something to tell.
func (s *Store) AlertQueues(ctx context.Context) ([]alert.Queue, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, `SELECT names.receiver, COUNT(alerts.position), MIN(alerts.queued_at), COALESCE(MAX(alert_losses.alerts), 0)
		FROM (SELECT receiver FROM alerts UNION SELECT receiver FROM alert_losses) names
		LEFT JOIN alerts ON alerts.receiver = names.receiver LEFT JOIN alert_losses ON alert_losses.receiver = names.receiver
		GROUP BY names.receiver ORDER BY names.receiver`)
	list, err := collect(rows, err, func(row scanner) (alert.Queue, error) {
		var q alert.Queue
		err := row.Scan(&q.Receiver, &q.Waiting, instant{&q.Oldest}, &q.Lost)
		return q, err
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the queues of alerts: %w", explain(s.path, err))
	}
	return list, nil
}
