package fleet_test

import "sync"

// tasks are what runs beside a session. Unlike those of a sync.WaitGroup, more
// may begin while somebody waits for their end.
type tasks struct {
	mu      sync.Mutex
	running int
	ended   chan struct{} // closed once nothing runs; nil: nobody waits
}

func (w *tasks) Go(f func()) {
	w.mu.Lock()
	w.running++
	w.mu.Unlock()
	go func() {
		defer w.done()
		f()
	}()
}

func (w *tasks) done() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running--; w.running == 0 && w.ended != nil {
		close(w.ended)
		w.ended = nil
	}
}

func (w *tasks) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running == 0
}

// Wait returns once nothing ran for a moment.
func (w *tasks) Wait() {
	w.mu.Lock()
	if w.running == 0 {
		w.mu.Unlock()
		return
	}
	if w.ended == nil {
		w.ended = make(chan struct{})
	}
	ended := w.ended
	w.mu.Unlock()
	<-ended
}
