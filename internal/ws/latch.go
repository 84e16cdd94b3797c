package ws

import "sync/atomic"

// Latch is a channel that is closed once and made only for those who wait: an
// idle session has several, and hardly ever somebody who does. Its zero value is
// shut; it must not be copied.
type Latch struct{ ch atomic.Pointer[chan struct{}] }

// opened is what every open latch has.
var opened = func() *chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return &ch
}()

// Open opens it, if it isn't open.
func (l *Latch) Open() {
	if ch := l.ch.Swap(opened); ch != nil && ch != opened {
		close(*ch)
	}
}

// Opened returns a channel that is closed once the latch is open.
func (l *Latch) Opened() <-chan struct{} {
	if ch := l.ch.Load(); ch != nil {
		return *ch
	}
	ch := make(chan struct{})
	if l.ch.CompareAndSwap(nil, &ch) {
		return ch
	}
	return *l.ch.Load()
}
