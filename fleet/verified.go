package fleet

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"sync"
	"time"

	"bollard/ca"
)

// maxVerified bounds the chains remembered, at about 80 bytes each.
const maxVerified = 16 << 10

// maxIssuers bounds the issuing CAs remembered. There are one or two at a time.
const maxIssuers = 16

// verified remembers which presented chains led to a trusted root, so that a
// station that comes back costs no verification of signatures that can't have
// changed. It says nothing about revocation, the station or the expiry of what
// isn't in the chain: those are judged at every connection.
type verified struct {
	mu     sync.Mutex
	pools  ca.Pools // what the chains were found with: other pools, other verdicts
	chains map[[sha256.Size]byte]period
	// issuers are own CAs that a chain was found with before, right above the leaf,
	// and how long they and what is above them are valid: of another station's chain
	// only the leaf is new.
	issuers map[[sha256.Size]byte]period
}

// period is how long all certificates of a chain are valid, in seconds since 1970,
// which is as exact as certificates are (RFC 5280 §4.1.2.5).
type period struct {
	from, until int64
	own         bool
}

// periodOf is the time in which all of them are valid.
func periodOf(chain []*x509.Certificate) period {
	p := period{from: chain[0].NotBefore.Unix(), until: chain[0].NotAfter.Unix()}
	for _, c := range chain[1:] {
		p = p.and(c)
	}
	return p
}

// and is the part of it in which another certificate is valid, too.
func (p period) and(c *x509.Certificate) period {
	p.from, p.until = max(p.from, c.NotBefore.Unix()), min(p.until, c.NotAfter.Unix())
	return p
}

func (p period) holds(at time.Time) bool {
	return !at.Before(time.Unix(p.from, 0)) && !at.After(time.Unix(p.until, 0))
}

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
	v.at(pools)
	p, ok := v.chains[key]
	return p.own, ok && p.holds(at)
}

// at forgets what was found with other pools. The caller holds mu.
func (v *verified) at(pools ca.Pools) {
	if v.pools != pools {
		v.pools, v.chains, v.issuers = pools, nil, nil
	}
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

// under verifies a chain whose issuing CA is remembered: its leaf alone. kept says that
// the verdict on its signature is at hand; fresh, that it wasn't.
func (v *verified) under(pools ca.Pools, presented []*x509.Certificate, trust []string, at time.Time, kept func() bool) (p period, fresh, ok bool) {
	if len(presented) < 2 {
		return period{}, false, false
	}
	v.mu.Lock()
	v.at(pools)
	above, ok := v.issuers[chainKey(presented[1:2], trust)]
	v.mu.Unlock()
	if !ok || !above.holds(at) {
		return period{}, false, false
	}
	// The period is all that crypto/x509 judges by the clock.
	if p = above.and(presented[0]); p.holds(at) && kept() {
		return p, false, true
	}
	issuer := x509.NewCertPool()
	issuer.AddCert(presented[1])
	found, err := presented[0].Verify(x509.VerifyOptions{Roots: issuer, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil || len(found[0]) != 2 {
		return period{}, false, false // the whole chain tells why
	}
	return p, true, true
}

// learn remembers the issuing CA of a chain that was found with the own pools. How
// deep a path may be was judged with it; names and policies were not, so that a chain in which a
// CA constrains them (RFC 5280 §4.2.1.10, §4.2.1.11) is verified whole each time.
func (v *verified) learn(pools ca.Pools, presented, chain []*x509.Certificate, trust []string) {
	if len(presented) < 2 || len(chain) < 2 || !chain[1].Equal(presented[1]) || slices.ContainsFunc(chain[1:], constrains) {
		return
	}
	p := periodOf(chain[1:])
	p.own = true
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.pools != pools {
		return
	}
	if v.issuers == nil || len(v.issuers) >= maxIssuers {
		v.issuers = make(map[[sha256.Size]byte]period)
	}
	v.issuers[chainKey(presented[1:2], trust)] = p
}

// constrains says that a CA limits names or policies below it.
func constrains(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 30}) || e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 36}) {
			return true
		}
	}
	return false
}
