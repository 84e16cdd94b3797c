package gateway

import (
	"sync"
	"time"
)

// failure is why a proven station got no session.
type failure struct {
	reason string
	at     time.Time
}

// failures remembers the newest of each station: proven ones only, so there are
// no more than are enrolled.
type failures struct {
	mu sync.Mutex
	of map[string]failure // by station key
}

func (f *failures) note(key, reason string, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil {
		f.of = map[string]failure{}
	}
	f.of[key] = failure{reason, at}
}

func (f *failures) forget(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.of, key)
}

// LastFailure tells why a proven station got no session when it last tried,
// such as a back end that is down; zero if it has had one since.
func (g *Gateway) LastFailure(key string) (reason string, at time.Time) {
	g.failures.mu.Lock()
	defer g.failures.mu.Unlock()
	last := g.failures.of[key]
	return last.reason, last.at
}
