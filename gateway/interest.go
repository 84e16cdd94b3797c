package gateway

import (
	"maps"
	"sync"
	"sync/atomic"

	"bollard/ocpp"
)

// maxInterests bounds the cache: action names come from the wire. The standard's own
// always have room beside those that a station has made up.
const maxInterests = 1024

// interests remembers which actions the Guard wants to see. Reading it takes
// no lock; a map behind it is replaced, never changed.
type interests struct {
	guard Guard
	mu    sync.Mutex // serialises writers; guards turn and size
	turn  int        // how often the Guard was said to have changed its mind
	size  int        // of all maps
	known [ocpp.V21 + 1][ocpp.FromCSMS + 1]atomic.Pointer[map[string]bool]
}

func newInterests(guard Guard) *interests {
	t := &interests{guard: guard}
	t.forget()
	return t
}

// wants says whether the Guard wants to see an action of one version.
func (t *interests) wants(v ocpp.Version, d ocpp.Direction, action string) bool {
	if wanted, ok := (*t.known[v][d].Load())[action]; ok {
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
	old := *t.known[v][d].Load()
	if _, listed := ocpp.FindAction(action); t.turn != turn || t.size >= maxInterests && !listed {
		return wanted
	}
	grown := make(map[string]bool, len(old)+1)
	maps.Copy(grown, old)
	grown[action] = wanted
	t.size += len(grown) - len(old) // another may have asked meanwhile
	t.known[v][d].Store(&grown)
	return wanted
}

// forget has the Guard asked anew about every action.
func (t *interests) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn++ // what is being asked at this moment isn't remembered
	t.size = 0
	for v := range t.known {
		for d := range t.known[v] {
			t.known[v][d].Store(&map[string]bool{})
		}
	}
}
