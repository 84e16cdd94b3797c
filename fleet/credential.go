package fleet

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"
)

// Kinds of credentials.
const (
	kindGenerated = "generated"
	kindHuman     = "human"
)

// Passwords are 16 to 20 bytes in OCPP 1.6 (white paper §5, AuthorizationKey)
// and 16 to 40, by the errata up to 64 characters in 2.x (A00.FR.205, E201).
// The version of a station isn't known when it is enrolled, so the widest range
// is taken; what Bollard generates fits all of them.
const (
	minPassword       = 16
	maxPassword       = 64
	generatedPassword = 20
)

// argon2id with 19 MiB, two passes and one lane, the smallest setting OWASP's
// password storage sheet recommends: a passphrase is checked once per
// connection and the cache of verified secrets takes the repeats.
const (
	argonPasses  = 2
	argonMemory  = 19 * 1024 // KiB
	argonLanes   = 1
	argonKeySize = 32
)

// At most argonAtOnce slow hashes run at a time, so that password guessing
// costs two cores and 38 MiB and not more. Those beyond argonQueue waiting are
// told to come back. Sources over their budget share one slow lane.
const (
	argonAtOnce    = 2
	argonQueue     = 64
	argonSlowQueue = 8
)

var errBusy = errors.New("too many password checks are waiting")

// generatePassword returns 20 random letters and digits, 119 bits. Printable
// ASCII survives every reading a station makes of an AuthorizationKey, as text
// or as hex of bytes.
func generatePassword() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	const unbiased = 256 - 256%len(alphabet)
	out := make([]byte, 0, generatedPassword)
	buf := make([]byte, 2*generatedPassword)
	for len(out) < generatedPassword {
		_, _ = rand.Read(buf) // never fails (crypto/rand)
		for _, b := range buf {
			if int(b) < unbiased && len(out) < generatedPassword {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out)
}

// canonical folds the readings that real stations make of one 1.6 secret into
// one: hex text, upper- or lower-case, is the same secret as the bytes it spells
// (OCPP 1.6 security white paper §5: hex over OCPP, raw bytes in the Basic
// header; stations mix it up). Text shorter than 32 digits spells less than the
// 16 bytes a key has and stays text.
func canonical(password []byte) []byte {
	for len(password) >= 2*minPassword && len(password)%2 == 0 {
		decoded := make([]byte, len(password)/2)
		if _, err := hex.Decode(decoded, password); err != nil {
			break
		}
		password = decoded
	}
	return password
}

// givenCredential checks a password an operator gave and hashes it. "hex:" in
// front gives bytes, the way 1.6 back ends export AuthorizationKey.
func (v *verifier) givenCredential(ctx context.Context, password []byte, now time.Time) (*Credential, error) {
	kind := kindHuman
	if len(password) > 4 && string(password[:4]) == "hex:" {
		decoded := make([]byte, hex.DecodedLen(len(password)-4))
		if _, err := hex.Decode(decoded, password[4:]); err != nil {
			return nil, badInput(`password begins with "hex:" but is not an even number of hex digits behind it`)
		}
		password = decoded
		// Exported binary keys are random unless somebody typed them.
		if distinct(decoded) >= 8 {
			kind = kindGenerated
		}
	}
	if len(password) < minPassword || len(password) > maxPassword {
		return nil, badInput("password has %d bytes: give %d to %d (at most 20 for an OCPP 1.6 station)", len(password), minPassword, maxPassword)
	}
	return v.newCredential(ctx, kind, password, now)
}

func distinct(b []byte) int {
	seen := map[byte]bool{}
	for _, c := range b {
		seen[c] = true
	}
	return len(seen)
}

func (v *verifier) newCredential(ctx context.Context, kind string, password []byte, now time.Time) (*Credential, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	c := &Credential{Kind: kind, Salt: salt, SetAt: now}
	password = canonical(password)
	if kind == kindGenerated {
		c.Hash = v.fast(salt, password)
		return c, nil
	}
	hash, err := v.slow(ctx, salt, password, false)
	if err != nil {
		return nil, fmt.Errorf("couldn't hash the password: %w", err)
	}
	c.Hash = hash
	return c, nil
}

// verifier checks secrets with equal work for all who fail. Its counters let
// tests compare work without a clock.
type verifier struct {
	cacheKey [32]byte // random per process
	slots    chan struct{}
	waiting  chan struct{}
	slowLane chan struct{}
	slowWait chan struct{}

	mu        sync.Mutex
	verified  map[string][]byte // station key → keyed hash of the last passphrase that was right
	decoyKey  []byte            // nil: no passphrase is stored anywhere
	fastCount int
	slowCount int
}

func newVerifier() *verifier {
	v := &verifier{
		slots:    make(chan struct{}, argonAtOnce),
		waiting:  make(chan struct{}, argonQueue),
		slowLane: make(chan struct{}, 1),
		slowWait: make(chan struct{}, argonSlowQueue),
		verified: make(map[string][]byte),
	}
	_, _ = rand.Read(v.cacheKey[:]) // never fails (crypto/rand)
	return v
}

// learn takes note of the oldest passphrase stored, nil without one. While a passphrase is stored,
// unknown identities behave like one kind or the other by a keyed hash of
// their name. The key comes from the oldest passphrase's salt, which nobody
// outside knows and a restart doesn't change: a name that answered fast
// yesterday answers fast today.
func (v *verifier) learn(oldest *Credential) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.decoyKey = nil
	if oldest != nil {
		v.decoyKey = keyedHash(oldest.Salt, []byte("kind of an unknown identity"))
	}
}

// forget drops the remembered secret of a station.
func (v *verifier) forget(key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.verified, key)
}

// verify says whether password is the station's. A nil credential does the work
// of a wrong password and is never right. slowly sends a passphrase check
// through the lane of sources over their budget; a passphrase that was right
// before is found without it. The error is errBusy or the context's.
func (v *verifier) verify(ctx context.Context, key string, c *Credential, password []byte, slowly bool) (bool, error) {
	decoy := c == nil
	if decoy {
		c = v.decoy(key)
	}
	password = canonical(password)
	if c.Kind != kindHuman {
		right := subtle.ConstantTimeCompare(v.fast(c.Salt, password), c.Hash) == 1
		return right && !decoy, nil
	}
	mark := v.fast(v.cacheKey[:], append(append([]byte(nil), c.Hash...), password...))
	v.mu.Lock()
	known := v.verified[key]
	v.mu.Unlock()
	if subtle.ConstantTimeCompare(mark, known) == 1 && !decoy {
		return true, nil
	}
	hash, err := v.slow(ctx, c.Salt, password, slowly)
	if err != nil {
		return false, err
	}
	if subtle.ConstantTimeCompare(hash, c.Hash) != 1 || decoy {
		return false, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.verified[key] = mark
	return true, nil
}

// decoy is the credential an identity without one is measured against.
func (v *verifier) decoy(key string) *Credential {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := &Credential{Kind: kindGenerated, Salt: make([]byte, 16), Hash: make([]byte, sha256.Size)}
	if v.decoyKey != nil && keyedHash(v.decoyKey, []byte(key))[0]&1 == 1 {
		c.Kind = kindHuman
	}
	return c
}

func (v *verifier) fast(key, data []byte) []byte {
	v.mu.Lock()
	v.fastCount++
	v.mu.Unlock()
	return keyedHash(key, data)
}

func keyedHash(key, data []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(data)
	return m.Sum(nil)
}

func (v *verifier) slow(ctx context.Context, salt, password []byte, slowly bool) ([]byte, error) {
	queue := v.waiting
	if slowly {
		queue = v.slowWait
	}
	select {
	case queue <- struct{}{}:
		defer func() { <-queue }()
	default:
		return nil, errBusy
	}
	if slowly {
		if err := acquire(ctx, v.slowLane); err != nil {
			return nil, err
		}
		defer func() { <-v.slowLane }()
	}
	if err := acquire(ctx, v.slots); err != nil {
		return nil, err
	}
	defer func() { <-v.slots }()
	v.mu.Lock()
	v.slowCount++
	v.mu.Unlock()
	return argon2.IDKey(password, salt, argonPasses, argonMemory, argonLanes, argonKeySize), nil
}

func acquire(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
