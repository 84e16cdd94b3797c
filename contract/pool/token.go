package pool

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"bollard/iso15118/identifier"
	"bollard/ledger"
)

// Role says what a token is for.
type Role string

// Who uses a pool.
const (
	RoleOEM Role = "oem" // a manufacturer: brings the provisioning certificates of its cars
	RoleMO  Role = "mo"  // a provider: has contracts made for its accounts
	RoleCPO Role = "cpo" // an operator of charging stations: asks for the cars there
)

// Token lets one organisation use the pool: OAuth's client ID and secret.
type Token struct {
	Name string // the client ID
	Role Role
	// Only bounds what it may touch: an OEM's is the first characters of its cars' PCIDs
	// (WMI), an MO's its providers. A CPO's is whose SECC identifiers it may enrol, by
	// country and operator; its questions for cars know no bound.
	Only      []string
	Salt      []byte
	Hash      []byte // fast: the secret has 192 random bits
	CreatedAt time.Time
	RevokedAt time.Time // zero: in force
}

// Errors callers branch on.
var (
	ErrUnknownToken = errors.New("no such token")
	ErrTokenExists  = errors.New("there is a token of that name in force")
)

// TokenStore keeps tokens. Writes are durable, with their ledger events, before the
// methods return. Methods are safe for concurrent use.
type TokenStore interface {
	PoolTokens(ctx context.Context) ([]Token, error) // by name
	PoolToken(ctx context.Context, name string) (t Token, ok bool, err error)
	// UpdatePoolToken reads, changes and writes one in one transaction; change is given
	// nil where there is none.
	UpdatePoolToken(ctx context.Context, name string, change func(*Token) (*Token, []ledger.Event, error)) error
	Record(ctx context.Context, events ...ledger.Event) error
}

// Tokens are those of one pool.
type Tokens struct {
	Store TokenStore
	Clock func() time.Time
}

// tokenName fits ledger and log, and an access token.
var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$`)

// Add makes a token and tells its secret, this once. A revoked one of the name is
// replaced.
func (t *Tokens) Add(ctx context.Context, actor, name string, role Role, only []string) (Token, string, error) {
	if !tokenName.MatchString(name) {
		return Token{}, "", errors.New("a token's name has up to 32 letters, digits, dashes and _")
	}
	only, err := scope(role, only)
	if err != nil {
		return Token{}, "", err
	}
	raw := make([]byte, 24+16)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	secret := base64.RawURLEncoding.EncodeToString(raw[:24])
	out := Token{Name: name, Role: role, Only: only, Salt: raw[24:], CreatedAt: t.Clock().UTC()}
	out.Hash = hashed(out.Salt, secret)
	err = t.Store.UpdatePoolToken(ctx, name, func(before *Token) (*Token, []ledger.Event, error) {
		if before != nil && before.RevokedAt.IsZero() {
			return nil, nil, ErrTokenExists
		}
		return &out, []ledger.Event{{Kind: "pool.token-added", Subject: name, Actor: actor, Data: map[string]string{"role": string(role), "only": strings.Join(only, " ")}}}, nil
	})
	return out, secret, err
}

// scope reads what a token may touch.
func scope(role Role, only []string) ([]string, error) {
	var list []string
	for _, text := range only {
		switch role {
		case RoleMO:
			provider, err := identifier.ParseProvider(text)
			if err != nil {
				return nil, err
			}
			list = append(list, string(provider))
		case RoleCPO:
			operator := plainSECC(text)
			if !operatorID.MatchString(operator) {
				return nil, errors.New("an operator of charging stations is named by its country and its ID, such as DE*ABC")
			}
			list = append(list, operator)
		default:
			text = strings.ToUpper(text)
			if len(text) < 3 || len(text) > 11 || strings.Trim(text, "ABCDEFGHJKLMNPRSTUVWXYZ0123456789") != "" {
				return nil, errors.New("a manufacturer is named by the first three characters of its cars' PCIDs up to eleven (WMI and VDS), without I, O, Q: more would name cars")
			}
			list = append(list, text)
		}
	}
	switch role {
	case RoleCPO:
	case RoleMO, RoleOEM:
		if len(list) == 0 {
			return nil, fmt.Errorf("a token of the role %s needs to be bound: say whose accounts (mo) or cars (oem) it is for", role)
		}
	default:
		return nil, fmt.Errorf("no role %q; there are oem, mo and cpo", role)
	}
	if len(list) > 16 {
		return nil, errors.New("a token is bound to 16 providers, manufacturers or operators at most")
	}
	return list, nil
}

// operatorID is country and operator of an EVSEID or SECCID, without separators.
var operatorID = regexp.MustCompile(`^[A-Z]{2}[A-Z0-9]{3}$`)

// plainSECC is a SECC identifier to be compared: capitals, without separators.
func plainSECC(text string) string {
	return strings.NewReplacer("*", "", "-", "").Replace(strings.ToUpper(text))
}

// Revoke ends a token, and every access token that was given for it.
func (t *Tokens) Revoke(ctx context.Context, actor, name string) (Token, error) {
	var out Token
	err := t.Store.UpdatePoolToken(ctx, name, func(before *Token) (*Token, []ledger.Event, error) {
		if before == nil || !before.RevokedAt.IsZero() {
			return nil, nil, ErrUnknownToken
		}
		before.RevokedAt, before.Hash = t.Clock().UTC(), nil
		out = *before
		return before, []ledger.Event{{Kind: "pool.token-revoked", Subject: name, Actor: actor}}, nil
	})
	return out, err
}

// List returns the tokens by name, without what proves them.
func (t *Tokens) List(ctx context.Context) ([]Token, error) {
	list, err := t.Store.PoolTokens(ctx)
	for i := range list {
		list[i].Salt, list[i].Hash = nil, nil
	}
	return list, err
}

// prove returns the token whose secret this is; ok is false for any other.
func (t *Tokens) prove(ctx context.Context, name, secret string) (Token, bool, error) {
	known, ok, err := t.Store.PoolToken(ctx, name)
	if err != nil {
		return Token{}, false, err
	}
	right := subtle.ConstantTimeCompare(hashed(known.Salt, secret), known.Hash) == 1
	return known, ok && right && known.RevokedAt.IsZero(), nil
}

func hashed(salt []byte, secret string) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte(secret))
	return h.Sum(nil)
}

// may tells whether what a token is bound to includes an account or a car.
func (t *Token) may(text string) bool {
	return slices.ContainsFunc(t.Only, func(only string) bool { return strings.HasPrefix(text, only) })
}
