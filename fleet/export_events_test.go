package fleet

import "context"

// SweepOutbox gives up old copies, as Run does on its ticker.
func SweepOutbox(ctx context.Context, s *Service) { s.sweepOutbox(ctx) }
