package fleet

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// sightingPause is the shortest time between two writes of when stations were
// seen: a fleet that reconnects must not wait for the disk once a station.
const sightingPause = 30 * time.Second

// sightings are when stations were seen that proved nothing new, until they are
// written in one go. Losing some in a crash loses no more than that time: what a
// session changes is written before it begins.
type sightings struct {
	mu      sync.Mutex
	at      map[string]time.Time // by station key
	written time.Time
}

func (g *sightings) add(key string, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.at == nil {
		g.at = make(map[string]time.Time)
	}
	if at.After(g.at[key]) {
		g.at[key] = at
	}
}

// latest overlays what isn't written yet.
func (g *sightings) latest(st *Station) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at := g.at[keyOf(st)]; at.After(st.SeenAt) {
		st.SeenAt = at
	}
}

// take returns what is to be written now; all of it for the zero time.
func (g *sightings) take(now time.Time) map[string]time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.at) == 0 || !now.IsZero() && now.Sub(g.written) < sightingPause {
		return nil
	}
	taken := g.at
	g.at, g.written = nil, now
	return taken
}

// flushSightings writes them, and keeps what the disk didn't take.
func (s *Service) flushSightings(ctx context.Context, now time.Time) {
	taken := s.sightings.take(now)
	if len(taken) == 0 {
		return
	}
	if err := s.store.Sighted(ctx, taken); err != nil {
		for key, at := range taken {
			s.sightings.add(key, at)
		}
		if ctx.Err() == nil {
			s.log.Warn("couldn't record when stations were seen; it is tried again", slog.Int("stations", len(taken)), slog.Any("err", err))
		}
	}
}
