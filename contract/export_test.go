package contract

import "context"

// Lock is for the test of waiting.
func (s *Service) Lock(ctx context.Context, id string) (unlock func(), err error) {
	return s.lock(ctx, id)
}

// SpendMaker uses a maker's day up but for some, and returns how much a day has.
func (s *Service) SpendMaker(maker string, left int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.makers.spend(maker, s.clock()) {
	}
	n := s.makers.made[maker]
	s.makers.made[maker] -= left
	return n
}
