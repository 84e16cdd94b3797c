package gate

import "context"

// Resume is what Run begins with.
func (g *Gate) Resume(ctx context.Context) error { return g.resume(ctx) }
