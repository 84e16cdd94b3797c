package contract

import "context"

// Lock is for the test of waiting.
func (s *Service) Lock(ctx context.Context, id string) (unlock func(), err error) {
	return s.lock(ctx, id)
}
