package fleet

import (
	"context"
	"crypto/x509"
	"net/netip"
	"strconv"
	"time"
)

// SetAfter replaces the timers of a service.
func SetAfter(s *Service, after func(d time.Duration, f func()) func() bool) { s.after = after }

// Hashes returns how many fast and slow hashes were computed.
func Hashes(s *Service) (fast, slow int) {
	s.secrets.mu.Lock()
	defer s.secrets.mu.Unlock()
	return s.secrets.fastCount, s.secrets.slowCount
}

// SameSource says whether failures of two addresses share one budget.
func SameSource(a, b netip.Addr) bool { return sourceKey(a) == sourceKey(b) }

// BudgetEntries fills the budget with n identities and returns how many it keeps.
func BudgetEntries(s *Service, n int) int {
	for i := range n {
		s.budget.failed(strconv.Itoa(i), netip.Addr{})
	}
	return len(s.budget.identities.byKey)
}

// FlushRefusals writes what was refused, as Run does each second.
func FlushRefusals(ctx context.Context, s *Service) { s.flushRefusals(ctx, false) }

// FlushOverruled writes what back ends were refused, as Run does each second.
func FlushOverruled(ctx context.Context, s *Service) { s.flushOverruled(ctx, false) }

// HoldSlow takes every place where a passphrase could be hashed.
func HoldSlow(s *Service) (release func()) {
	for range cap(s.secrets.slots) {
		s.secrets.slots <- struct{}{}
	}
	return func() {
		for range cap(s.secrets.slots) {
			<-s.secrets.slots
		}
	}
}

// FillSlowLane fills the lane of sources over their budget.
func FillSlowLane(s *Service) {
	for range cap(s.secrets.slowWait) {
		s.secrets.slowWait <- struct{}{}
	}
}

// Sweep and Poke do what Run does on its tickers.
func Sweep(ctx context.Context, s *Service) { s.sweep(ctx) }

func Poke(s *Service) {
	for _, l := range s.allLive() {
		l.poke(s)
	}
}

// Canonical is the form in which secrets are compared.
func Canonical(b []byte) []byte { return canonical(b) }

// FlushSightings writes when stations were seen, as Run does now and then.
func FlushSightings(ctx context.Context, s *Service) { s.flushSightings(ctx, s.clock()) }

// FlushEntrances and SumAdmissions write how often stations were let in, as Run does.
func FlushEntrances(ctx context.Context, s *Service, all bool) { s.flushEntrances(ctx, all) }

// FlushPutOffs writes how often stations were put off, as Run does each second.
func FlushPutOffs(ctx context.Context, s *Service, all bool) { s.flushPutOffs(ctx, all) }

// FlushDoubts writes how often certificates were doubted, as Run does each second.
func FlushDoubts(ctx context.Context, s *Service) { s.flushDoubts(ctx, false) }

func SumAdmissions(ctx context.Context, s *Service) { s.sumAdmissions(ctx) }

// RetrySeen repeats what the disk didn't take, as Run does each second.
func RetrySeen(ctx context.Context, s *Service) { s.retrySeen(ctx) }

// Standings returns how many certificates are remembered as issued.
func Standings(s *Service) int {
	s.standings.mu.Lock()
	defer s.standings.mu.Unlock()
	return len(s.standings.known)
}

// Remembered returns how many verified chains are.
func Remembered(s *Service) int {
	s.verified.mu.Lock()
	defer s.verified.mu.Unlock()
	return len(s.verified.chains)
}

// Issuers returns how many remembered issuing CAs there are.
func Issuers(s *Service) int {
	s.verified.mu.Lock()
	defer s.verified.mu.Unlock()
	return len(s.verified.issuers)
}

// Verify verifies a leaf by an issuing CA alone that is remembered for these trusted roots.
func Verify(s *Service, above []*x509.Certificate, leaf *x509.Certificate, trust ...string) bool {
	_, _, ok := s.verified.under(s.verified.pools, append([]*x509.Certificate{leaf}, above...), trust, s.clock(), func() bool { return false })
	return ok
}

// Learns reports whether the issuing CA of a chain that was found is remembered.
func Learns(s *Service, chain []*x509.Certificate) bool {
	s.verified.learn(s.verified.pools, chain, chain, nil)
	s.verified.mu.Lock()
	defer s.verified.mu.Unlock()
	_, ok := s.verified.issuers[chainKey(chain[1:2], nil)]
	return ok
}

// TakingTurns returns how many work on a station's orders, or wait to.
func TakingTurns(s *Service, key string) int { return s.turns.Queue(key) }

// NewOrderID makes an order's ID.
func NewOrderID(now time.Time) string { return newOrderID(now) }

// VerdictOf is what a service with this key keeps of a leaf under its issuer.
func VerdictOf(key []byte, chain []*x509.Certificate) []byte { return (&verdicts{key: key}).of(chain) }

// TakeVerdicts is one look at the verdicts to be written.
func TakeVerdicts(s *Service) map[string][]byte { return s.verdicts.take(s.clock()) }

// FlushVerdicts writes those whose time it is.
func FlushVerdicts(s *Service) { s.flushVerdicts(s.base, s.clock()) }
