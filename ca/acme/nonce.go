package acme

import (
	"crypto/rand"
	"encoding/base64"
	"sync"
)

// maxNonces bounds the nonces that are out. The oldest go first: a client whose
// nonce is gone is told badNonce with a new one and repeats itself (RFC 8555 §6.5).
const maxNonces = 8192

// nonces are those that were given out and not used. They don't outlast a restart:
// an old message can't be replayed after one.
type nonces struct {
	mu   sync.Mutex
	out  map[string]bool
	ring []string // as given, from next on
	next int
}

func newNonces() *nonces { return &nonces{out: map[string]bool{}, ring: make([]string, maxNonces)} }

func (n *nonces) make() string {
	nonce := randomOctets()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.out, n.ring[n.next])
	n.out[nonce] = true
	n.ring[n.next] = nonce
	n.next = (n.next + 1) % len(n.ring)
	return nonce
}

// take says whether a nonce is good, which it then is no more.
func (n *nonces) take(nonce string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	good := n.out[nonce]
	delete(n.out, nonce)
	return good
}

// randomID names what has no name. It never begins with "-": it is an argument of
// commands.
func randomID() string { return rand.Text() }

// randomOctets are 128 random bits in base64url (RFC 8555 §6.5.1, §8.1): clients decode
// them and encode them anew, so that it must be the one spelling.
func randomOctets() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw)
}
