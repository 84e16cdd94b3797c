package admin

import (
	"context"
	"errors"
	"slices"
	"time"

	"bollard/ca"
	"bollard/ca/acme"
	"bollard/ledger"
)

// ACMEStore is what the operations read and write of ACME. *store.Store is one.
type ACMEStore interface {
	acme.TokenStore
	ACMEAccounts(ctx context.Context) ([]acme.Account, error) // newest first
	UpdateACMEAccount(ctx context.Context, id string, change func(*acme.Account) ([]ledger.Event, error)) (acme.Account, error)
}

// ACMEToken asks for a token.
type ACMEToken struct {
	Names []string      `json:"names,omitempty"`
	Valid time.Duration `json:"valid"`
}

// ACMETokenRef names a token.
type ACMETokenRef struct {
	ID string `json:"id"`
}

// NewACMEToken tells the key of a token, once.
type NewACMEToken struct {
	ID    string    `json:"eab_kid"`
	Key   string    `json:"eab_hmac_key"`
	Names []string  `json:"names"`
	Until time.Time `json:"valid_until"`
}

// ACMEAccountRef names an account.
type ACMEAccountRef struct {
	ID string `json:"id"`
}

// ACMEAccount is what an operator sees of one.
type ACMEAccount struct {
	ID        string    `json:"id"`
	Door      string    `json:"door"`
	State     string    `json:"state"`
	Names     []string  `json:"names"`
	Token     string    `json:"token,omitempty"`
	Issued    bool      `json:"issued"`
	CreatedAt time.Time `json:"created_at"`
}

// ACMEAccounts is a list.
type ACMEAccounts struct {
	Accounts []ACMEAccount `json:"accounts"`
}

func (o *operations) registerACME(r *Registry) {
	Register(r, "acme.token", o.acmeToken)
	Register(r, "acme.void", o.acmeVoid)
	Register(r, "acme.accounts", o.acmeAccounts)
	Register(r, "acme.revoke", o.acmeRevoke)
}

func (o *operations) acmeToken(ctx context.Context, in ACMEToken) (NewACMEToken, error) {
	if err := o.mayOrder(in.Names); err != nil {
		return NewACMEToken{}, err
	}
	t, key, err := acme.NewToken(ctx, o.cfg.ACME, o.cfg.Seal, o.cfg.Clock(), Actor(ctx), in.Names, in.Valid)
	switch {
	case err != nil && t.ID == "":
		return NewACMEToken{}, Usagef("`bollard acme token --help` shows how", "%w", err)
	case err != nil:
		return NewACMEToken{}, err
	}
	out := NewACMEToken{ID: t.ID, Key: key, Names: t.Only, Until: t.ExpiresAt}
	if out.Names == nil {
		out.Names = []string{}
	}
	return out, nil
}

// mayOrder refuses names for a token that its account couldn't order: they would be found
// wrong by whoever has the token. What isn't a host name is judged elsewhere.
func (o *operations) mayOrder(names []string) error {
	if err := o.notOwn(names); err != nil {
		return err
	}
	var listed []string
	for _, entry := range o.cfg.Names {
		if name, err := ca.AllowHost(entry); err == nil {
			listed = append(listed, name)
		}
	}
	for _, name := range names {
		if normal, err := ca.HostName(name); err == nil && !ca.HostListed(listed, normal) {
			return Refusedf("list it there, and restart a running server", "acme.names in bollard.yaml doesn't have %s: it couldn't be ordered", normal)
		}
	}
	return nil
}

// notOwn refuses Bollard's own names. The names below one (*.example.com) may have one
// among them: that is refused where it is asked for.
func (o *operations) notOwn(names []string) error {
	for _, name := range names {
		if normal, err := ca.HostName(name); err == nil && slices.Contains(o.cfg.OwnNames, normal) {
			return Usagef("give others: whoever had a certificate for it could pose as Bollard to every station", "%s is Bollard's own name (host and public in bollard.yaml)", normal)
		}
	}
	return nil
}

func (o *operations) acmeVoid(ctx context.Context, in ACMETokenRef) (ACMETokenRef, error) {
	err := acme.VoidToken(ctx, o.cfg.ACME, Actor(ctx), in.ID)
	switch {
	case errors.Is(err, acme.ErrUnknownToken):
		return in, Refusedf("it is what `bollard acme token` printed as kid", "%w", err)
	case errors.Is(err, acme.ErrTokenUsed):
		return in, Refusedf("`bollard acme accounts` says by which account, and `bollard acme revoke` ends that", "%w", err)
	}
	return in, err
}

func (o *operations) acmeAccounts(ctx context.Context, _ None) (ACMEAccounts, error) {
	list, err := o.cfg.ACME.ACMEAccounts(ctx)
	out := ACMEAccounts{Accounts: make([]ACMEAccount, len(list))}
	for i := range list {
		out.Accounts[i] = shownACMEAccount(&list[i])
	}
	return out, err
}

func (o *operations) acmeRevoke(ctx context.Context, in ACMEAccountRef) (ACMEAccount, error) {
	a, err := o.cfg.ACME.UpdateACMEAccount(ctx, in.ID, func(a *acme.Account) ([]ledger.Event, error) {
		a.State = acme.AccountRevoked
		return []ledger.Event{{Kind: "acme.account-revoked", Subject: acme.Requester(a.ID), Actor: Actor(ctx)}}, nil
	})
	if errors.Is(err, acme.ErrUnknownAccount) {
		return ACMEAccount{}, Refusedf("`bollard acme accounts` lists them", "%w", err)
	}
	return shownACMEAccount(&a), err
}

func shownACMEAccount(a *acme.Account) ACMEAccount {
	out := ACMEAccount{ID: a.ID, Door: a.Door, State: string(a.State), Names: a.Only, Token: a.Token, Issued: a.Issued, CreatedAt: a.CreatedAt}
	if out.Names == nil {
		out.Names = []string{}
	}
	return out
}
