package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"bollard/fleet"
	"bollard/ledger"
)

const orderColumns = "id, station, csr, csr_hash, type, request_id, wire, state, serial, reason, created_at, updated_at"

// AddOrder stores a new order of a known station.
func (s *Store) AddOrder(ctx context.Context, order fleet.Order, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		var known int
		if err := t.row("SELECT COUNT(*) FROM stations WHERE station = ?", order.Station).Scan(&known); err != nil {
			return fmt.Errorf("couldn't look for the station of order %s: %w", order.ID, err)
		}
		if known == 0 {
			return fmt.Errorf("couldn't add order %s: station %q: %w", order.ID, order.Station, fleet.ErrUnknownStation)
		}
		added, err := t.exec("INSERT INTO orders (position, "+orderColumns+`)
			VALUES ((SELECT COALESCE(MAX(position), 0) + 1 FROM orders), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO NOTHING`, orderArgs(order)...)
		if err != nil {
			return fmt.Errorf("couldn't add order %s: %w", order.ID, err)
		}
		if added == 0 {
			return fmt.Errorf("couldn't add order %s: it exists already", order.ID)
		}
		return t.record(events...)
	})
}

// OrderByCSR returns the newest order of the station for this CSR.
func (s *Store) OrderByCSR(ctx context.Context, station, csrHash string) (fleet.Order, bool, error) {
	list, err := s.orders(ctx, "WHERE csr_hash = ? AND station = ? ORDER BY position DESC LIMIT 1", csrHash, station)
	if err != nil || len(list) == 0 {
		return fleet.Order{}, false, err
	}
	return list[0], true, nil
}

// Orders returns the station's orders, newest first, at most limit; all for 0.
func (s *Store) Orders(ctx context.Context, station string, limit int) ([]fleet.Order, error) {
	if limit <= 0 {
		limit = -1 // SQLite's word for all
	}
	return remembered(ctx, s, &s.recentOrders, fmt.Sprintf("%d %s", limit, station), slices.Clone[[]fleet.Order], func(ctx context.Context) ([]fleet.Order, error) {
		rows, err := s.byKey.orders.QueryContext(ctx, station, limit)
		list, err := collect(rows, err, scanOrder)
		if err != nil {
			return nil, fmt.Errorf("couldn't read orders: %w", explain(s.path, err))
		}
		return list, nil
	})
}

// UpdateOrder reads, changes and writes one order in one transaction;
// ErrUnknownOrder if there is none. change is bound as UpdateStation's; the
// order's id and station stay.
func (s *Store) UpdateOrder(ctx context.Context, id string, change func(*fleet.Order) ([]ledger.Event, error)) (fleet.Order, error) {
	var updated fleet.Order
	err := s.write(ctx, func(t *tx) error {
		order, err := scanOrder(t.row("SELECT "+orderColumns+" FROM orders WHERE id = ?", id))
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("couldn't change order %s: %w", id, ErrUnknownOrder)
		}
		if err != nil {
			return fmt.Errorf("couldn't read order %s: %w", id, err)
		}
		station := order.Station
		events, err := change(&order)
		if err != nil {
			return err
		}
		if order.ID != id || order.Station != station {
			return fmt.Errorf("couldn't change order %s: its id and station can't change", id)
		}
		if _, err := t.exec("UPDATE orders SET ("+orderColumns+") = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE id = ?",
			append(orderArgs(order), id)...); err != nil {
			return fmt.Errorf("couldn't store order %s: %w", id, err)
		}
		order.CreatedAt, order.UpdatedAt = cut(order.CreatedAt), cut(order.UpdatedAt)
		updated = order
		return t.record(events...)
	})
	if err != nil {
		return fleet.Order{}, err
	}
	return updated, nil
}

func (s *Store) orders(ctx context.Context, clause string, args ...any) ([]fleet.Order, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT "+orderColumns+" FROM orders "+clause, args...)
	list, err := collect(rows, err, scanOrder)
	if err != nil {
		return nil, fmt.Errorf("couldn't read orders: %w", explain(s.path, err))
	}
	return list, nil
}

// orderArgs are the values of orderColumns.
func orderArgs(o fleet.Order) []any {
	var request any
	if o.RequestID != nil {
		request = *o.RequestID
	}
	return []any{
		o.ID, o.Station, o.CSR, o.CSRHash, o.Type, request, o.Wire, o.State, o.Serial, o.Reason,
		millis(o.CreatedAt), millis(o.UpdatedAt),
	}
}

func scanOrder(row scanner) (fleet.Order, error) {
	var o fleet.Order
	err := row.Scan(&o.ID, &o.Station, &o.CSR, &o.CSRHash, &o.Type, &o.RequestID, &o.Wire, &o.State, &o.Serial, &o.Reason,
		instant{&o.CreatedAt}, instant{&o.UpdatedAt})
	return o, err
}
