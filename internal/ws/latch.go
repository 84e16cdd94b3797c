package ws

import "sync"

// Latch is a channel that is closed once and made only for those who wait: an
// idle session has several, and hardly ever somebody who does. Its zero value is
// shut; it must not be copied.
type Latch struct {
	mu   sync.Mutex
	open bool
	ch   chan struct{}
}

// Open opens it, if it isn't open.
func (l *Latch) Open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open {
		return
	}
	l.open = true
	if l.ch != nil {
		close(l.ch)
	}
}

// Opened returns a channel that is closed once the latch is open.
func (l *Latch) Opened() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ch == nil {
		l.ch = make(chan struct{})
		if l.open {
			close(l.ch)
		}
	}
	return l.ch
}
