package acme

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"bollard/internal/pace"
	"bollard/ledger"
)

// AccountState of an account.
type AccountState string

// The states (RFC 8555 §7.1.6). Revoked is the operator's doing.
const (
	AccountValid       AccountState = "valid"
	AccountDeactivated AccountState = "deactivated"
	AccountRevoked     AccountState = "revoked"
)

// Account is who may order at a door. Contacts aren't kept: nobody is written to.
type Account struct {
	ID         string
	Door       string
	Thumbprint string          // of Key (RFC 7638)
	Key        json.RawMessage // JWK
	State      AccountState
	Token      string   // it was made with; "" without
	Only       []string // names it may order, within the door's; empty: all of those
	Issued     bool     // it got a certificate once, or was about to
	CreatedAt  time.Time
}

// stranger says whether nothing is known of who has the account.
func (a *Account) stranger() bool { return a.Token == "" && !a.Issued }

// accountKept is how long an account that needed no token and got no certificate is
// remembered.
const accountKept = 24 * time.Hour

type shownAccount struct {
	Status AccountState `json:"status"`
	Orders string       `json:"orders"`
}

func (d *Door) show(r *http.Request, a *Account) shownAccount {
	return shownAccount{Status: a.State, Orders: d.link(r, "orders", a.ID)}
}

// newAccount makes an account or finds the one a key has (RFC 8555 §7.3).
func (d *Door) newAccount(w http.ResponseWriter, m *message) error {
	var in struct {
		OnlyReturnExisting     bool            `json:"onlyReturnExisting"`
		ExternalAccountBinding json.RawMessage `json:"externalAccountBinding"`
	}
	if err := json.Unmarshal(m.payload, &in); err != nil {
		return problem(malformed, "the payload isn't a new account")
	}
	thumb, err := thumbprint(m.key)
	if err != nil {
		return err
	}
	known, ok, err := d.cfg.Store.ACMEAccountByKey(m.Context(), d.name, thumb)
	if err != nil {
		return err
	}
	if ok {
		if known.State != AccountValid {
			return Unauthorized("the account is "+string(known.State), "")
		}
		w.Header().Set("Location", d.link(m.Request, "account", known.ID))
		return send(w, http.StatusOK, d.show(m.Request, &known))
	}
	if in.OnlyReturnExisting {
		return problem(accountDoesNotExist, "no account has this key")
	}
	if !d.newcomers.Allow(pace.Source(m.Request)) {
		return Busy("too many new accounts from one address", perNewcomer.Every)
	}
	if err := d.checkAccountKey(m.key.Key); err != nil {
		return err
	}
	a := Account{ID: randomID(), Door: d.name, Thumbprint: thumb, State: AccountValid, CreatedAt: d.cfg.Clock().UTC()}
	if a.Key, err = encodeKey(m.key); err != nil {
		return err
	}
	if d.cfg.Open != nil {
		if err := d.bind(m, &a, in.ExternalAccountBinding); err != nil {
			return err
		}
	}
	event := ledger.Event{Kind: "acme.account", Subject: Requester(a.ID), Actor: Requester(a.ID), Data: map[string]string{"door": d.name, "key": thumb}}
	if a.Token != "" {
		event.Data["token"], event.Data["only"] = a.Token, strings.Join(a.Only, " ")
	}
	if err := d.cfg.Store.AddACMEAccount(m.Context(), a, a.CreatedAt.Add(-accountKept), event); err != nil {
		return unbound(err)
	}
	w.Header().Set("Location", d.link(m.Request, "account", a.ID))
	return send(w, http.StatusCreated, d.show(m.Request, &a))
}

// account tells, and deactivates, the account (RFC 8555 §7.3.2, §7.3.6).
func (d *Door) account(w http.ResponseWriter, m *message) error {
	if m.id != m.account.ID {
		return Unauthorized("this is another account's", "")
	}
	a := *m.account
	if len(m.payload) > 0 {
		var in struct {
			Status string `json:"status"`
		}
		if err := json.Unmarshal(m.payload, &in); err != nil || in.Status != "" && in.Status != string(AccountDeactivated) {
			return problem(malformed, "an account can be deactivated; nothing else of it is kept")
		}
		if in.Status != "" {
			var err error
			a, err = d.cfg.Store.UpdateACMEAccount(m.Context(), a.ID, func(a *Account) ([]ledger.Event, error) {
				a.State = AccountDeactivated
				return []ledger.Event{{Kind: "acme.account-deactivated", Subject: Requester(a.ID), Actor: Requester(a.ID)}}, nil
			})
			if err != nil {
				return err
			}
		}
	}
	return send(w, http.StatusOK, d.show(m.Request, &a))
}

// keyChange gives an account another key, which both keys ask for (RFC 8555 §7.3.5).
func (d *Door) keyChange(w http.ResponseWriter, m *message) error {
	inner, err := parseSigned(m.payload)
	if err != nil {
		return err
	}
	if inner.jwk == nil || inner.url != m.signed.url || inner.nonce != "" {
		return problem(malformed, "the inner message has to have jwk, the same url and no nonce (RFC 8555 §7.3.5)")
	}
	payload, err := inner.verify(inner.jwk)
	if err != nil {
		return err
	}
	var in struct {
		Account string          `json:"account"`
		OldKey  json.RawMessage `json:"oldKey"`
	}
	old := &jose.JSONWebKey{}
	if err := json.Unmarshal(payload, &in); err != nil || old.UnmarshalJSON(in.OldKey) != nil {
		return problem(malformed, "the inner message has to name account and oldKey")
	}
	if in.Account != d.link(m.Request, "account", m.account.ID) || !sameKey(old, m.key) {
		return problem(malformed, "the inner message is about another account or key")
	}
	if err := d.checkAccountKey(inner.jwk.Key); err != nil {
		return err
	}
	thumb, err := thumbprint(inner.jwk)
	if err != nil {
		return err
	}
	key, err := encodeKey(inner.jwk)
	if err != nil {
		return err
	}
	if other, ok, err := d.cfg.Store.ACMEAccountByKey(m.Context(), d.name, thumb); err != nil {
		return err
	} else if ok {
		w.Header().Set("Location", d.link(m.Request, "account", other.ID))
		return &Problem{Type: malformed, Detail: "the new key is an account's already", Status: http.StatusConflict}
	}
	a, err := d.cfg.Store.UpdateACMEAccount(m.Context(), m.account.ID, func(a *Account) ([]ledger.Event, error) {
		if a.Thumbprint != m.account.Thumbprint {
			return nil, problem(malformed, "the account has another key by now")
		}
		a.Key, a.Thumbprint = key, thumb
		return []ledger.Event{{Kind: "acme.key-changed", Subject: Requester(a.ID), Actor: Requester(a.ID), Data: map[string]string{"key": thumb}}}, nil
	})
	if err != nil {
		return unbound(err)
	}
	return send(w, http.StatusOK, d.show(m.Request, &a))
}
