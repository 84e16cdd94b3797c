package admin

import (
	"context"
	"time"

	"bollard/contract/pool"
)

// AddPoolToken lets an organisation use the pool.
type AddPoolToken struct {
	Name string   `json:"name"`
	Role string   `json:"role"`
	Only []string `json:"only,omitempty"`
}

// NewPoolToken tells the secret, once.
type NewPoolToken struct {
	PoolToken
	Secret string `json:"client_secret"`
}

// PoolTokenRef names one.
type PoolTokenRef struct {
	Name string `json:"name"`
}

// PoolToken is what an operator sees of one.
type PoolToken struct {
	Name      string     `json:"name"`
	Role      string     `json:"role"`
	Only      []string   `json:"only"`
	State     string     `json:"state"`
	CreatedAt time.Time  `json:"created_at"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

// PoolTokens is a list.
type PoolTokens struct {
	Tokens []PoolToken `json:"tokens"`
}

func (o *operations) registerPools(r *Registry) {
	Register(r, "pool.token.add", o.poolTokenAdd)
	Register(r, "pool.token.list", o.poolTokenList)
	Register(r, "pool.token.revoke", o.poolTokenRevoke)
}

func (o *operations) poolTokenAdd(ctx context.Context, in AddPoolToken) (NewPoolToken, error) {
	t, secret, err := o.cfg.Pool.Add(ctx, Actor(ctx), in.Name, pool.Role(in.Role), in.Only)
	switch {
	case err != nil && t.Name == "":
		return NewPoolToken{}, Usagef("`bollard pool token add --help` shows how", "%w", err)
	case err != nil:
		return NewPoolToken{}, err
	}
	return NewPoolToken{shownToken(&t), secret}, nil
}

func (o *operations) poolTokenList(ctx context.Context, _ None) (PoolTokens, error) {
	list, err := o.cfg.Pool.List(ctx)
	out := PoolTokens{Tokens: make([]PoolToken, len(list))}
	for i := range list {
		out.Tokens[i] = shownToken(&list[i])
	}
	return out, err
}

func (o *operations) poolTokenRevoke(ctx context.Context, in PoolTokenRef) (PoolToken, error) {
	t, err := o.cfg.Pool.Revoke(ctx, Actor(ctx), in.Name)
	return shownToken(&t), err
}

func shownToken(t *pool.Token) PoolToken {
	out := PoolToken{Name: t.Name, Role: string(t.Role), Only: t.Only, State: "active", CreatedAt: t.CreatedAt, RevokedAt: instant(t.RevokedAt)}
	if out.RevokedAt != nil {
		out.State = "revoked"
	}
	if out.Only == nil {
		out.Only = []string{}
	}
	return out
}
