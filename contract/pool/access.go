package pool

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
	"sync"
	"time"
)

const (
	// accessTime is how long an access token lasts. It ends with its token at once.
	accessTime = time.Hour
	// maxAccess is how many one token has in force: the oldest goes.
	maxAccess = 8
)

// access is who may come in: access tokens, in memory alone. After a restart clients
// are refused once and fetch new ones.
type access struct {
	tokens *Tokens
	clock  func() time.Time

	mu    sync.Mutex
	given map[string][]pass // by the name of the token
}

// pass is an access token.
type pass struct {
	sum   [sha256.Size]byte // of its secret half
	until time.Time
	proof []byte // hash of the token it was given for: a token made anew has another
}

// give makes an access token for a token that was proven.
func (a *access) give(t *Token) string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	secret := hex.EncodeToString(raw)
	a.mu.Lock()
	defer a.mu.Unlock()
	list := append(a.given[t.Name], pass{sha256.Sum256([]byte(secret)), a.clock().Add(accessTime), t.Hash})
	if len(list) > maxAccess {
		list = list[len(list)-maxAccess:]
	}
	a.given[t.Name] = list
	return t.Name + "." + secret
}

// who returns the token an access token was given for, if both are in force.
func (a *access) who(ctx context.Context, text string) (Token, bool, error) {
	name, secret, _ := strings.Cut(text, ".")
	p, ok := a.find(name, sha256.Sum256([]byte(secret)))
	if !ok {
		return Token{}, false, nil
	}
	t, known, err := a.tokens.Store.PoolToken(ctx, name)
	return t, known && t.RevokedAt.IsZero() && subtle.ConstantTimeCompare(t.Hash, p.proof) == 1, err
}

func (a *access) find(name string, sum [sha256.Size]byte) (pass, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.given[name] {
		if subtle.ConstantTimeCompare(p.sum[:], sum[:]) == 1 && a.clock().Before(p.until) {
			return p, true
		}
	}
	return pass{}, false
}
