package store

import (
	"context"
	"encoding/json"
	"fmt"

	"bollard/fleet"
	"bollard/ledger"
)

// Plan returns what is recorded of a station's plan, the zero Plan if nothing is.
func (s *Store) Plan(ctx context.Context, station string) (fleet.Plan, error) {
	same := func(text string) string { return text }
	text, err := remembered(ctx, s, &s.recentPlans, station, same, func(ctx context.Context) (string, error) {
		return orNone(lookUp(ctx, s, planOf, (*columns).text, station))
	})
	if err != nil {
		return fleet.Plan{}, fmt.Errorf("couldn't read the plan of station %q: %w", station, err)
	}
	return readPlan(station, text)
}

// Plans returns what is recorded of all stations' plans, by station.
func (s *Store) Plans(ctx context.Context) (map[string]fleet.Plan, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	type row struct {
		station string
		plan    fleet.Plan
	}
	rows, err := db.QueryContext(ctx, "SELECT station, plan FROM plans")
	list, err := collect(rows, err, func(from scanner) (row, error) {
		var r row
		var text string
		if err := from.Scan(&r.station, &text); err != nil {
			return r, err
		}
		var err error
		r.plan, err = readPlan(r.station, text)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the plans: %w", explain(s.path, err))
	}
	plans := make(map[string]fleet.Plan, len(list))
	for _, r := range list {
		plans[r.station] = r.plan
	}
	return plans, nil
}

// UpdatePlan reads, changes and writes a plan in one transaction, under the
// conditions of UpdateStation.
func (s *Store) UpdatePlan(ctx context.Context, station string, change func(*fleet.Plan) ([]ledger.Event, error)) (fleet.Plan, error) {
	var updated fleet.Plan
	err := s.write(ctx, func(t *tx) error {
		var known int
		if err := t.row("SELECT 1 FROM stations WHERE station = ?", station).Scan(&known); err != nil {
			return unknownStation(station, err)
		}
		plan, err := t.plan(station)
		if err != nil {
			return err
		}
		events, err := change(&plan)
		if err != nil {
			return err
		}
		if err := t.putPlan(station, &plan); err != nil {
			return err
		}
		updated = plan
		return t.record(events...)
	})
	if err != nil {
		return fleet.Plan{}, err
	}
	return updated, nil
}

func (t *tx) plan(station string) (fleet.Plan, error) {
	text, err := orNone(see(t, planOf, (*columns).text, station))
	if err != nil {
		return fleet.Plan{}, fmt.Errorf("couldn't read the plan of station %q: %w", station, err)
	}
	return readPlan(station, text)
}

func (t *tx) putPlan(station string, plan *fleet.Plan) error {
	text, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("couldn't encode the plan of station %q: %w", station, err)
	}
	if _, err := t.exec(`INSERT INTO plans (station, plan) VALUES (?, ?)
		ON CONFLICT (station) DO UPDATE SET plan = excluded.plan`, station, string(text)); err != nil {
		return fmt.Errorf("couldn't store the plan of station %q: %w", station, err)
	}
	return nil
}

func readPlan(station, text string) (plan fleet.Plan, err error) {
	if text == "" {
		return fleet.Plan{}, nil
	}
	if err := json.Unmarshal([]byte(text), &plan); err != nil {
		return fleet.Plan{}, fmt.Errorf("unreadable plan of station %q: %w", station, err)
	}
	return plan, nil
}
