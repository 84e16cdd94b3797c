package acme

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"bollard/ca"
	"bollard/ledger"
)

// Token lets whoever has it make one account (RFC 8555 §7.3.4): key identifier and
// MAC key of an external account binding.
type Token struct {
	ID        string
	Sealed    []byte   // the MAC key, encrypted; nil once used or voided
	Only      []string // names its account may order
	CreatedAt time.Time
	ExpiresAt time.Time
	Account   string // made with it; "": none yet
}

// TokenStore keeps tokens. AddToken is durable when it returns.
type TokenStore interface {
	AddACMEToken(ctx context.Context, t Token, events ...ledger.Event) error
	// VoidACMEToken forgets the key of a token. ErrUnknownToken; ErrTokenUsed, also of one
	// that is void already.
	VoidACMEToken(ctx context.Context, id string, events ...ledger.Event) error
}

// Bounds of a token's validity.
const (
	shortestToken = time.Minute
	longestToken  = 90 * 24 * time.Hour
)

// SealName is what the key of a token is sealed under.
func SealName(token string) string { return "acme-token:" + token }

// NewToken makes a token and tells its MAC key, base64url as clients want it, this
// once.
func NewToken(ctx context.Context, store TokenStore, seal func(name string, secret []byte) ([]byte, error), now time.Time, actor string, only []string, valid time.Duration) (Token, string, error) {
	if valid < shortestToken || valid > longestToken {
		return Token{}, "", fmt.Errorf("a token can't be valid for %s: give 1m to 2160h (90 days)", valid)
	}
	for i, name := range only {
		normal, err := ca.HostName(name)
		if err != nil {
			return Token{}, "", fmt.Errorf("%.64q is no host name: %w", name, err)
		}
		only[i] = normal
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	t := Token{ID: randomID(), Only: only, CreatedAt: now.UTC(), ExpiresAt: now.Add(valid).UTC()}
	var err error
	if t.Sealed, err = seal(SealName(t.ID), secret); err != nil {
		return t, "", err
	}
	event := ledger.Event{Kind: "acme.token", Subject: t.ID, Actor: actor, Data: map[string]string{"until": t.ExpiresAt.Format(time.RFC3339)}}
	for i, name := range only {
		event.Data[fmt.Sprintf("name-%d", i+1)] = name
	}
	if err := store.AddACMEToken(ctx, t, event); err != nil {
		return t, "", err
	}
	return t, base64.RawURLEncoding.EncodeToString(secret), nil
}

// VoidToken ends a token that no account was made with: one that leaked, or isn't wanted.
func VoidToken(ctx context.Context, store TokenStore, actor, id string) error {
	return store.VoidACMEToken(ctx, id, ledger.Event{Kind: "acme.token-voided", Subject: id, Actor: actor})
}

// bind verifies a new account's binding to a token.
func (d *Door) bind(m *message, a *Account, binding json.RawMessage) error {
	if len(binding) == 0 || string(binding) == "null" {
		return problem(externalAccountRequired, "an account needs a token here: ask the operator (bollard acme token)")
	}
	kid, err := bindingKID(binding)
	if err != nil {
		return err
	}
	// An unknown token, a used one and a wrong key are answered alike.
	refused := func(reason string) error {
		return Unauthorized("externalAccountBinding isn't by a token that may be used here", reason)
	}
	t, ok, err := d.cfg.Store.ACMEToken(m.Context(), kid)
	switch {
	case err != nil:
		return err
	case !ok:
		return refused("unknown token")
	case t.Account != "":
		return refused("token " + t.ID + " was used: `bollard acme token` makes another")
	case t.Sealed == nil:
		return refused("token " + t.ID + " was voided: `bollard acme token` makes another")
	case !d.cfg.Clock().Before(t.ExpiresAt):
		return refused("token " + t.ID + " expired: `bollard acme token` makes another")
	}
	secret, err := d.cfg.Open(SealName(t.ID), t.Sealed)
	if err != nil {
		return err
	}
	if err := bindingIs(binding, m.signed.url, t.ID, secret, m.key); err != nil {
		return err
	}
	a.Token, a.Only = t.ID, t.Only
	return nil
}

// unbound tells what another request was faster with.
func unbound(err error) error {
	switch {
	case errors.Is(err, ErrTokenUsed):
		return Unauthorized("externalAccountBinding isn't by a token that may be used here", "the token was used meanwhile")
	case errors.Is(err, ErrKeyTaken):
		return &Problem{Type: malformed, Detail: "the key is an account's already", Status: 409}
	}
	return err
}
