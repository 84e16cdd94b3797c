package fleet

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// Failures a source or an identity may make at once and per second before its
// passphrase checks go through the slow lane. A private APN hides a whole fleet
// behind one address, so a source has more. Over budget nothing is refused: a
// stranger must not be able to lock a station out (CVE-2026-24445 asks for a
// limit, not for a lock).
const (
	identityBurst  = 10
	identityRefill = 0.1
	sourceBurst    = 50
	sourceRefill   = 1
	budgetEntries  = 8192
)

// budget counts failed proofs in token buckets per identity and per source. It
// remembers a bounded number of each; the least recently used go first.
type budget struct {
	mu         sync.Mutex
	clock      func() time.Time
	identities *buckets
	sources    *buckets
}

func newBudget(clock func() time.Time) *budget {
	return &budget{
		clock:      clock,
		identities: newBuckets(identityBurst, identityRefill),
		sources:    newBuckets(sourceBurst, sourceRefill),
	}
}

// failed takes a token of both.
func (b *budget) failed(identity string, source netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	b.identities.take(identity, now)
	b.sources.take(sourceKey(source), now)
}

// over says whether the identity or the source has no token left.
func (b *budget) over(identity string, source netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	return b.identities.left(identity, now) < 1 || b.sources.left(sourceKey(source), now) < 1
}

// spent says whether both are without a token. Where over budget means refused,
// one alone doesn't count: a stranger's wrong passwords for a station, or the
// wrong ones of others behind its address, must not keep it out.
func (b *budget) spent(identity string, source netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	return b.identities.left(identity, now) < 1 && b.sources.left(sourceKey(source), now) < 1
}

// sourceKey folds an IPv6 address to its /64, which is what one host controls.
func sourceKey(a netip.Addr) string {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// buckets belong to a budget and its mutex.
type buckets struct {
	burst, refill float64
	byKey         map[string]*list.Element
	recent        *list.List // of *bucket, most recently used first
}

type bucket struct {
	key    string
	tokens float64
	at     time.Time
}

func newBuckets(burst, refill float64) *buckets {
	return &buckets{burst: burst, refill: refill, byKey: make(map[string]*list.Element), recent: list.New()}
}

func (b *buckets) left(key string, now time.Time) float64 {
	e, ok := b.byKey[key]
	if !ok {
		return b.burst
	}
	k := e.Value.(*bucket)
	if d := now.Sub(k.at); d > 0 {
		k.tokens = min(b.burst, k.tokens+d.Seconds()*b.refill)
	}
	k.at = now
	return k.tokens
}

func (b *buckets) take(key string, now time.Time) {
	left := b.left(key, now)
	e, ok := b.byKey[key]
	if !ok {
		if len(b.byKey) >= budgetEntries {
			oldest := b.recent.Back()
			delete(b.byKey, oldest.Value.(*bucket).key)
			b.recent.Remove(oldest)
		}
		e = b.recent.PushFront(&bucket{key: key, at: now})
		b.byKey[key] = e
	}
	b.recent.MoveToFront(e)
	e.Value.(*bucket).tokens = max(0, left-1)
}
