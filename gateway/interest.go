package gateway

import (
	"sync"
	"sync/atomic"

	"bollard/ocpp"
)

// maxInterests bounds the cache: action names come from the wire.
const maxInterests = 1024

// interests remembers which actions the Guard wants to see. Reading it takes
// no lock; the map behind it is replaced, never changed.
type interests struct {
	guard Guard
	mu    sync.Mutex // serialises writers; guards turn
	turn  int        // how often the Guard was said to have changed its mind
	known atomic.Pointer[map[interest]bool]
}

type interest struct {
	version   ocpp.Version
	direction ocpp.Direction
	action    string
}

func newInterests(guard Guard) *interests {
	t := &interests{guard: guard}
	t.known.Store(&map[interest]bool{})
	return t
}

// wants says whether the Guard wants to see an action of one version.
func (t *interests) wants(v ocpp.Version, d ocpp.Direction, action string) bool {
	if wanted, ok := (*t.known.Load())[interest{v, d, action}]; ok {
		return wanted
	}
	return t.ask(v, d, action)
}

func (t *interests) ask(v ocpp.Version, d ocpp.Direction, action string) bool {
	t.mu.Lock()
	turn := t.turn
	t.mu.Unlock()
	wanted := t.guard.Interest(v, d, action)
	t.mu.Lock()
	defer t.mu.Unlock()
	old := *t.known.Load()
	if len(old) >= maxInterests || t.turn != turn {
		return wanted
	}
	grown := make(map[interest]bool, len(old)+1)
	for k, w := range old {
		grown[k] = w
	}
	grown[interest{v, d, string([]byte(action))}] = wanted // the name may point into a frame
	t.known.Store(&grown)
	return wanted
}

// forget has the Guard asked anew about every action.
func (t *interests) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn++ // what is being asked at this moment isn't remembered
	t.known.Store(&map[interest]bool{})
}
