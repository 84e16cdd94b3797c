package fleet

import "context"

// LookLogs and SweepLogs do what Run does by the clock.
func LookLogs(ctx context.Context, s *Service)  { s.lookLogs(ctx) }
func SweepLogs(ctx context.Context, s *Service) { s.sweepLogs(ctx) }

// HandOnDue is what HandOnLogs does each time.
func HandOnDue(ctx context.Context, s *Service, h *HandOn) (bool, error) { return s.handOnDue(ctx, h) }
