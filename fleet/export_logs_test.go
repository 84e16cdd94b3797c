package fleet

import "context"

// LookLogs and SweepLogs do what Run does by the clock.
func LookLogs(ctx context.Context, s *Service)  { s.lookLogs(ctx) }
func SweepLogs(ctx context.Context, s *Service) { s.sweepLogs(ctx) }

// HandOnDue is what HandOnLogs does each time, with all of it.
func HandOnDue(ctx context.Context, s *Service, h *HandOn) error {
	c := &courier{busy: map[string]bool{}}
	defer c.all.Wait()
	return s.handOnDue(ctx, h, c)
}
