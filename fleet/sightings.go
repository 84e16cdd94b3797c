package fleet

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// sightingPause is the shortest time between two writes of when stations were
// seen: a fleet that reconnects must not wait for the disk once a station.
const sightingPause = 30 * time.Second

// sightedBatch is how many stations are written in one transaction: what else
// is to be written waits for no more.
const sightedBatch = 512

// Sighting is that a station was let in as ever.
type Sighting struct {
	At         time.Time // the newest time
	Admissions int       // how often by the way of its record's Admitted
}

// sightings are those of stations that proved nothing new, until they are
// written in one go. Losing some in a crash loses no more than that time: what a
// session changes is written before it begins.
type sightings struct {
	mu      sync.Mutex
	of      map[string]Sighting // by station key
	written time.Time
}

func (g *sightings) add(key string, s Sighting) {
	if s == (Sighting{}) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.of == nil {
		g.of = make(map[string]Sighting)
	}
	known := g.of[key]
	if s.At.Before(known.At) {
		s.At = known.At
	}
	s.Admissions += known.Admissions
	g.of[key] = s
}

// latest overlays what isn't written yet.
func (g *sightings) latest(st *Station) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at := g.of[keyOf(st)].At; at.After(st.SeenAt) {
		st.SeenAt = at
	}
}

// drop takes one station's out.
func (g *sightings) drop(key string) Sighting {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.of[key]
	delete(g.of, key)
	return s
}

// take returns what is to be written now; all of it for the zero time.
func (g *sightings) take(now time.Time) map[string]Sighting {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.of) == 0 || !now.IsZero() && now.Sub(g.written) < sightingPause {
		return nil
	}
	taken := g.of
	g.of, g.written = nil, now
	return taken
}

// flushSightings writes them, and keeps what the disk didn't take.
func (s *Service) flushSightings(ctx context.Context, now time.Time) {
	taken := s.sightings.take(now)
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(taken)), sightedBatch) {
		batch := make(map[string]Sighting, len(keys))
		for _, key := range keys {
			batch[key] = taken[key]
		}
		err := s.store.Sighted(ctx, batch)
		if err == nil {
			continue
		}
		for key, sighting := range batch {
			s.sightings.add(key, sighting)
		}
		if ctx.Err() == nil {
			s.log.Warn("couldn't record when stations were seen; it is tried again", slog.Int("stations", len(batch)), slog.Any("err", err))
		}
	}
}
