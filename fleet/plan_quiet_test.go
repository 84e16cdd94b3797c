package fleet_test

import (
	"context"
	"sync/atomic"
	"testing"

	"bollard/fleet"
	"bollard/ocpp"
)

// counted counts what is read of a station's orders.
type counted struct {
	fleet.Store
	orders, open atomic.Int64
}

func (c *counted) Orders(ctx context.Context, key string, limit int) ([]fleet.Order, error) {
	c.orders.Add(1)
	return c.Store.Orders(ctx, key, limit)
}

func (c *counted) SECCOrders(ctx context.Context, key string, limit int) ([]fleet.Order, error) {
	c.orders.Add(1)
	return c.Store.SECCOrders(ctx, key, limit)
}

func (c *counted) OpenOrders(ctx context.Context, key string) ([]fleet.Order, error) {
	c.open.Add(1)
	return c.Store.OpenOrders(ctx, key)
}

// A station of which nothing is wanted costs no look at what it was given.
func TestPlanWithNothingDueReadsNoOldOrders(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	disk := &counted{}
	r.wrap = func(s fleet.Store) fleet.Store { disk.Store = s; return disk }
	r.start()
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	s := r.open(r.admit(withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-1")...)), ocpp.V201)
	disk.orders.Store(0)
	s.booted("Accepted")
	s.wg.Wait()
	if disk.open.Load() == 0 {
		t.Error("nothing was looked at")
	}
	if n := disk.orders.Load(); n != 0 {
		t.Errorf("old orders were read %d times", n)
	}
}
