package fleet

import (
	"context"
	"fmt"
	"sync"
)

// groupShelf has the groups as they are stored: they are asked for with single
// messages, and read once and after each change.
type groupShelf struct {
	mu    sync.Mutex
	known bool
	list  []Group
}

func (g *groupShelf) get(ctx context.Context, store Store) ([]Group, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.known {
		var err error
		if g.list, err = store.Groups(ctx); err != nil {
			return nil, fmt.Errorf("couldn't read the groups: %w", err)
		}
		g.known = true
	}
	return g.list, nil
}

// change lets nobody have them while they are changed.
func (g *groupShelf) change(write func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = false
	return write()
}
