package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"bollard/fleet"
	"bollard/ledger"
)

const orderColumns = "id, station, csr, csr_hash, type, request_id, wire, state, serial, reason, created_at, updated_at, secc, root"

// AddOrder stores a new order of a known station.
func (s *Store) AddOrder(ctx context.Context, order fleet.Order, events ...ledger.Event) error {
	return s.writeAgain(ctx, func(t *tx) error { return t.addOrder(order, events...) })
}

func (t *tx) addOrder(order fleet.Order, events ...ledger.Event) error {
	// Values, and not a SELECT, so that SQLite needs no journal for what it may have to
	// undo, nor a table for what it read: no station is a station that is NULL.
	added, err := t.exec("INSERT INTO orders (position, "+orderColumns+`)
		VALUES ((SELECT COALESCE(MAX(position), 0) + 1 FROM orders), ?, (SELECT station FROM stations WHERE station = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO NOTHING`, orderArgs(order)...)
	if err == nil && added == 1 {
		return t.record(events...)
	}
	var known int
	switch failed := t.row("SELECT COUNT(*) FROM stations WHERE station = ?", order.Station).Scan(&known); {
	case failed != nil:
		return fmt.Errorf("couldn't look for the station of order %s: %w", order.ID, errors.Join(err, failed))
	case known == 0:
		return fmt.Errorf("couldn't add order %s: station %q: %w", order.ID, order.Station, fleet.ErrUnknownStation)
	case err != nil:
		return fmt.Errorf("couldn't add order %s: %w", order.ID, err)
	}
	return fmt.Errorf("couldn't add order %s: it exists already", order.ID)
}

// OrderByCSR returns the newest order of the station for this CSR.
func (s *Store) OrderByCSR(ctx context.Context, station, csrHash string) (fleet.Order, bool, error) {
	order, err := lookUp(ctx, s, orderByCSR, scanOrder, csrHash, station)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fleet.Order{}, false, nil
	case err != nil:
		return fleet.Order{}, false, fmt.Errorf("couldn't read orders: %w", err)
	}
	return order, true, nil
}

// Order returns an order by its ID.
func (s *Store) Order(ctx context.Context, id string) (fleet.Order, bool, error) {
	order, err := lookUp(ctx, s, orderByID, scanOrder, id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fleet.Order{}, false, nil
	case err != nil:
		return fleet.Order{}, false, fmt.Errorf("couldn't read order %s: %w", id, err)
	}
	return order, true, nil
}

// Orders returns the station's orders for certificates of its own, newest first, at
// most limit; all for 0.
func (s *Store) Orders(ctx context.Context, station string, limit int) ([]fleet.Order, error) {
	return s.ordersBy(ctx, ordersOf, "own", station, limit)
}

// SECCOrders is Orders for its certificates toward cars.
func (s *Store) SECCOrders(ctx context.Context, station string, limit int) ([]fleet.Order, error) {
	return s.ordersBy(ctx, seccOrdersOf, "secc", station, limit)
}

// UnconfirmedOrder returns the station's order for a certificate of its own with this
// serial number that was issued or delivered.
func (s *Store) UnconfirmedOrder(ctx context.Context, station, serial string) (fleet.Order, bool, error) {
	order, err := lookUp(ctx, s, unconfirmedOrder, scanOrder, station, serial, fleet.OrderIssued, fleet.OrderDelivered)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fleet.Order{}, false, nil
	case err != nil:
		return fleet.Order{}, false, fmt.Errorf("couldn't read orders: %w", err)
	}
	return order, true, nil
}

// OpenOrders returns the station's orders of both sorts that were accepted or issued and
// nothing came of yet, newest first.
func (s *Store) OpenOrders(ctx context.Context, station string) ([]fleet.Order, error) {
	list, err := lookUpAll(ctx, s, openOrdersOf, scanOrder, station, fleet.OrderAccepted, fleet.OrderIssued)
	if err != nil {
		return nil, fmt.Errorf("couldn't read orders: %w", err)
	}
	return list, nil
}

func (s *Store) ordersBy(ctx context.Context, query, sort, station string, limit int) ([]fleet.Order, error) {
	if limit <= 0 {
		limit = -1 // SQLite's word for all
	}
	return remembered(ctx, s, &s.recentOrders, fmt.Sprintf("%s %d %s", sort, limit, station), slices.Clone[[]fleet.Order], func(ctx context.Context) ([]fleet.Order, error) {
		list, err := lookUpAll(ctx, s, query, scanOrder, station, limit)
		if err != nil {
			return nil, fmt.Errorf("couldn't read orders: %w", err)
		}
		return list, nil
	})
}

// UpdateOrder reads, changes and writes one order in one transaction;
// ErrUnknownOrder if there is none. change is bound as UpdateStation's; the
// order's id, station, request, purpose and time of creation stay.
func (s *Store) UpdateOrder(ctx context.Context, id string, change func(*fleet.Order) ([]ledger.Event, error)) (fleet.Order, error) {
	var updated fleet.Order
	err := s.write(ctx, func(t *tx) error {
		var err error
		updated, err = t.changeOrder(id, change)
		return err
	})
	if err != nil {
		return fleet.Order{}, err
	}
	return updated, nil
}

func (t *tx) changeOrder(id string, change func(*fleet.Order) ([]ledger.Event, error)) (fleet.Order, error) {
	was, err := see(t, orderByID, scanOrder, id)
	if errors.Is(err, sql.ErrNoRows) {
		return fleet.Order{}, fmt.Errorf("couldn't change order %s: %w", id, ErrUnknownOrder)
	}
	if err != nil {
		return fleet.Order{}, fmt.Errorf("couldn't read order %s: %w", id, err)
	}
	order, events, err := changedOrder(was, change)
	if err != nil {
		return fleet.Order{}, err
	}
	if _, err := t.exec(updateOrder, append(changing(order), id)...); err != nil {
		return fleet.Order{}, fmt.Errorf("couldn't store order %s: %w", id, err)
	}
	order.CreatedAt, order.UpdatedAt = cut(order.CreatedAt), cut(order.UpdatedAt)
	return order, t.record(events...)
}

// changeKnownOrder is changeOrder for who had the order last: it is read only if it has
// changed since.
func (t *tx) changeKnownOrder(was fleet.Order, change func(*fleet.Order) ([]ledger.Event, error)) error {
	order, events, err := changedOrder(was, change)
	if err != nil {
		return err
	}
	args := slices.Concat(changing(order), []any{was.ID}, changing(was))
	unchanged, err := t.exec(updateOrder+" AND type = ? AND request_id IS ? AND wire = ? AND state = ? AND serial = ? AND reason = ? AND updated_at IS ? AND root = ?", args...)
	if err != nil {
		return fmt.Errorf("couldn't store order %s: %w", was.ID, err)
	}
	if unchanged == 1 {
		return t.record(events...)
	}
	_, err = t.changeOrder(was.ID, change)
	return err
}

func changedOrder(was fleet.Order, change func(*fleet.Order) ([]ledger.Event, error)) (fleet.Order, []ledger.Event, error) {
	order := was
	events, err := change(&order)
	if err == nil && (order.ID != was.ID || order.Station != was.Station || order.CSRHash != was.CSRHash || order.SECC != was.SECC || !bytes.Equal(order.CSR, was.CSR) || !order.CreatedAt.Equal(was.CreatedAt)) {
		err = fmt.Errorf("couldn't change order %s: its id, station, request and time can't change", was.ID)
	}
	return order, events, err
}

// updateOrder leaves the columns of an index out: what is named is written anew there,
// changed or not.
const updateOrder = "UPDATE orders SET type = ?, request_id = ?, wire = ?, state = ?, serial = ?, reason = ?, updated_at = ?, root = ? WHERE id = ?"

// changing are the values updateOrder writes.
func changing(o fleet.Order) []any {
	return []any{o.Type, requestID(o), o.Wire, o.State, o.Serial, o.Reason, millis(o.UpdatedAt), o.Root}
}

// orderArgs are the values of orderColumns.
func orderArgs(o fleet.Order) []any {
	return []any{
		o.ID, o.Station, o.CSR, o.CSRHash, o.Type, requestID(o), o.Wire, o.State, o.Serial, o.Reason,
		millis(o.CreatedAt), millis(o.UpdatedAt), o.SECC, o.Root,
	}
}

func requestID(o fleet.Order) any {
	if o.RequestID == nil {
		return nil
	}
	return *o.RequestID
}

func scanOrder(c *columns) fleet.Order {
	var o fleet.Order
	o.ID, o.Station, o.CSR, o.CSRHash, o.Type = c.text(), c.text(), c.blob(), c.text(), c.text()
	if !c.null() {
		id := int(c.number())
		o.RequestID = &id
	}
	o.Wire, o.State, o.Serial, o.Reason = fleet.Wire(c.text()), fleet.OrderState(c.text()), c.text(), c.text()
	o.CreatedAt, o.UpdatedAt, o.SECC, o.Root = c.instant(), c.instant(), c.text(), c.text()
	return o
}
