package fleet

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"
)

// VerdictKeySize is the number of bytes of Config.VerdictKey.
const VerdictKeySize = 32

// verdictScheme is what a MAC says.
const verdictScheme = "bollard verdict 1\nstation certificate verified under its issuing CA\n"

// verdictPause is how long verdicts wait for a quiet second at most.
const verdictPause = time.Minute

// verdicts outlive the process: that crypto/x509 found a leaf good under the issuing CA
// it was presented with, at a time when both were valid (verified.under), is kept as a
// MAC beside the certificate's record. Who can write the database alone can't make one, and one of
// another certificate, issuer, key or version is none. It says nothing about
// time, the issuer's own standing, revocation or the station.
type verdicts struct {
	key []byte // nil: none is kept

	mu      sync.Mutex
	pending map[string][]byte // to be written, by serial number
	since   time.Time         // of the oldest
	noted   bool              // one came since the last look
}

// of is the MAC (HMAC-SHA256, RFC 2104) for a leaf and its issuer.
func (v *verdicts) of(presented []*x509.Certificate) []byte {
	mac := hmac.New(sha256.New, v.key)
	// Another crypto/x509 may judge otherwise: what it found counts for the version of Go it came with.
	mac.Write([]byte(verdictScheme + runtime.Version() + "\n"))
	for _, cert := range presented[:2] {
		sum := sha256.Sum256(cert.Raw)
		mac.Write(sum[:])
	}
	return mac.Sum(nil)
}

// holds says that the verdict on record is the one on this leaf under this issuer.
func (v *verdicts) holds(presented []*x509.Certificate, recorded func() []byte) bool {
	if v.key == nil {
		return false
	}
	kept := recorded()
	return kept != nil && hmac.Equal(kept, v.of(presented))
}

// note has the verdict on a leaf that was found good kept, later.
func (v *verdicts) note(presented []*x509.Certificate, serial string, now time.Time) {
	if v.key == nil {
		return
	}
	mac := v.of(presented)
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.pending) >= maxVerified {
		return // the next visit after a start finds it out again
	}
	if v.pending == nil {
		v.pending, v.since = make(map[string][]byte), now
	}
	v.pending[serial], v.noted = mac, true
}

// take returns what is to be written: all of it once no more came since the last look,
// or after a pause; for the zero time, at once.
func (v *verdicts) take(now time.Time) map[string][]byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	wait := v.noted && !now.IsZero() && now.Sub(v.since) < verdictPause
	v.noted = false
	if wait {
		return nil
	}
	taken := v.pending
	v.pending = nil
	return taken
}

// flushVerdicts writes them. What the disk doesn't take is found out again, after the
// next start.
func (s *Service) flushVerdicts(ctx context.Context, now time.Time) {
	taken := s.verdicts.take(now)
	for serials := range slices.Chunk(slices.Sorted(maps.Keys(taken)), sightedBatch) {
		batch := make(map[string][]byte, len(serials))
		for _, serial := range serials {
			batch[serial] = taken[serial]
		}
		if err := s.store.PutVerdicts(ctx, batch); err != nil {
			if ctx.Err() == nil {
				s.log.Warn("couldn't keep that certificates' signatures are good: they are verified again after the next start",
					slog.Int("certificates", len(taken)), slog.Any("err", err))
			}
			return
		}
	}
}
