package ws

import "sync"

// signal is a channel that is closed once, made only for those who wait: a
// stream has three, and hardly ever somebody who does.
type signal struct {
	mu    sync.Mutex
	given bool
	ch    chan struct{}
}

// give closes the channel.
func (s *signal) give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given {
		return
	}
	s.given = true
	if s.ch != nil {
		close(s.ch)
	}
}

// wait returns the channel.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
		if s.given {
			close(s.ch)
		}
	}
	return s.ch
}
