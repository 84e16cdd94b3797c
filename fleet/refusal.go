package fleet

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"bollard/ledger"
)

// refusalPause is the shortest time between two records or log lines of
// refusals of one station: a stranger's tries must not cost a disk write each.
const refusalPause = time.Minute

// refusals remembers refused claims in memory until they are flushed. There is
// at most one note per enrolled station and one for all unknown identities.
type refusals struct {
	mu    sync.Mutex
	notes map[string]*refusalNote // by station key; "" for unknown identities
}

type refusalNote struct {
	reason    string
	at        time.Time
	count     int       // since the last flush
	flushedAt time.Time // zero: never
	loggedAt  time.Time
}

func newRefusals() *refusals { return &refusals{notes: make(map[string]*refusalNote)} }

// add counts one refusal and says whether it should be logged, and how many
// came before it unlogged.
func (r *refusals) add(key, reason string, now time.Time) (log bool, count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.notes[key]
	if n == nil {
		n = &refusalNote{}
		r.notes[key] = n
	}
	n.reason, n.at = reason, now
	n.count++
	if now.Sub(n.loggedAt) < refusalPause && !n.loggedAt.IsZero() {
		return false, n.count
	}
	n.loggedAt = now
	return true, n.count
}

// latest overlays what isn't flushed yet.
func (r *refusals) latest(st *Station) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.notes[keyOf(st)]; n != nil && n.at.After(st.RefusedAt) {
		st.LastRefusal, st.RefusedAt = n.reason, n.at
	}
}

// due takes the notes that may be written now.
func (r *refusals) due(now time.Time, all bool) map[string]refusalNote {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]refusalNote)
	for key, n := range r.notes {
		if n.count == 0 || !all && !n.flushedAt.IsZero() && now.Sub(n.flushedAt) < refusalPause {
			continue
		}
		out[key] = *n
		n.count, n.flushedAt = 0, now
	}
	return out
}

func (r *refusals) forget(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.notes, key)
}

// refuse records a refused claim and returns what the station is told. key is
// "" if the identity isn't enrolled.
func (s *Service) refuse(claim Claim, key, class, reason string, status int) *Refusal {
	s.count(class)
	s.refusedSign(claim, key, class)
	if log, count := s.refusals.add(key, reason, s.clock()); log {
		s.log.Warn("station refused", slog.String("station", capped(claim.Identity.Key())), slog.String("listener", claim.Listener),
			slog.String("source", claim.Source.String()), slog.String("reason", reason), slog.Int("refusals", count))
	}
	return &Refusal{Status: status, Reason: reason}
}

// flushRefusals writes what the last minute refused, one write per station.
func (s *Service) flushRefusals(ctx context.Context, all bool) {
	for key, n := range s.refusals.due(s.clock(), all) {
		event := ledger.Event{Kind: "claim.refused", Subject: key, Actor: "bollard", Data: map[string]string{
			"reason": fact(n.reason), "count": strconv.Itoa(n.count),
		}}
		var err error
		if key == "" {
			event.Subject = "unknown identities"
			event.Data = map[string]string{"count": strconv.Itoa(n.count)}
			err = s.record(ctx, event)
		} else {
			_, err = s.store.UpdateStation(ctx, key, func(st *Station) ([]ledger.Event, error) {
				st.LastRefusal, st.RefusedAt = n.reason, n.at
				return []ledger.Event{event}, nil
			})
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("couldn't record refused claims", slog.String("station", key), slog.Any("err", err))
		}
	}
}

// capped bounds a string that came over the wire before it is logged.
func capped(text string) string { return clip(text, 64) }

// fact makes a reason fit for the ledger, which takes no control characters and
// at most 1024 bytes: a long or odd error text must not cost the record.
func fact(text string) string {
	return clip(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text), 1000)
}

// clip cuts to at most n bytes of valid UTF-8.
func clip(text string, n int) string {
	if len(text) > n {
		text = text[:n]
	}
	return strings.ToValidUTF8(text, "")
}
