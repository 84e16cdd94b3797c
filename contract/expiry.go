package contract

import (
	"context"
	"slices"
	"time"
)

// Expiring are the contracts in force whose newest certificate of an edition ends
// before a time, though they don't: their cars didn't come for the next one, which they
// get from 30 days before the end. Oldest first.
func (s *Service) Expiring(ctx context.Context, before time.Time) ([]Contract, error) {
	list, err := s.store.Expiring(ctx, before)
	now, last := s.clock(), before.Add(time.Minute) // certificates of a contract that ends are cut to whole seconds
	return slices.DeleteFunc(list, func(c Contract) bool {
		return !c.InForce(now) || !c.EndsAt.IsZero() && c.EndsAt.Before(last)
	}), err
}
