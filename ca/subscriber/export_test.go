package subscriber

import "context"

// Renew is one look of Run.
func (s *Subscriber) Renew(ctx context.Context) error { return s.renew(ctx) }
