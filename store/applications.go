package store

import (
	"context"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ledger"
)

// Recorder returns what records an application in the transactions of its
// certificate.
func (s *Store) Recorder(a fleet.Application) ca.Recorder { return &recorder{s, a} }

type recorder struct {
	store *Store
	fleet.Application
}

// PutIntent is Store's with the use of the one-time secret and the order.
func (r *recorder) PutIntent(ctx context.Context, intent ca.Intent, events ...ledger.Event) error {
	return r.store.writeAgain(ctx, func(t *tx) error {
		if r.Secret != nil {
			if err := t.useRegistration(r.Order.Station, r.Secret, intent.KeyHash, r.Used); err != nil {
				return err
			}
		}
		if !r.Known {
			if err := t.addOrder(r.Order, r.Accepted); err != nil {
				return err
			}
		}
		return t.putIntent(intent, events...)
	})
}

// PutIssued is Store's with what becomes of the order.
func (r *recorder) PutIssued(ctx context.Context, serial string, der []byte, at time.Time, events ...ledger.Event) error {
	return r.store.writeAgain(ctx, func(t *tx) error {
		if err := t.putIssued(serial, der, at, events...); err != nil {
			return err
		}
		return t.changeKnownOrder(r.Order, func(o *fleet.Order) ([]ledger.Event, error) { return r.Issued(o, serial), nil })
	})
}
