package fleet

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"

	"bollard/ca"
)

// maxVerified bounds the chains remembered, at about 100 bytes each.
const maxVerified = 16 << 10

// verified remembers which presented chains led to a trusted root, so that a
// station that comes back costs no verification of signatures that can't have
// changed. It says nothing about revocation, the station or the expiry of what
// isn't in the chain: those are judged at every connection.
type verified struct {
	mu     sync.Mutex
	pools  ca.Pools // what the chains were found with: other pools, other verdicts
	chains map[[sha256.Size]byte]period
}

// period is how long all certificates of a chain are valid.
type period struct {
	own         bool
	from, until time.Time
}

func (p *period) holds(at time.Time) bool { return !at.Before(p.from) && !at.After(p.until) }

// chainKey is the hash of everything a verdict depends on beside pools and time.
func chainKey(presented []*x509.Certificate, trust []string) (key [sha256.Size]byte) {
	h := sha256.New()
	for _, cert := range presented { // DER tells where it ends
		h.Write(cert.Raw)
	}
	for _, root := range trust {
		h.Write([]byte(root))
		h.Write([]byte{0})
	}
	h.Sum(key[:0])
	return key
}

func (v *verified) lookup(pools ca.Pools, key [sha256.Size]byte, at time.Time) (own, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.pools != pools {
		v.pools, v.chains = pools, nil
	}
	p, ok := v.chains[key]
	return p.own, ok && p.holds(at)
}

func (v *verified) remember(pools ca.Pools, key [sha256.Size]byte, p period) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.pools != pools {
		return
	}
	if v.chains == nil || len(v.chains) >= maxVerified {
		v.chains = make(map[[sha256.Size]byte]period)
	}
	v.chains[key] = p
}
