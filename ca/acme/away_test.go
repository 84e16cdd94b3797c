package acme_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	client "golang.org/x/crypto/acme"

	"bollard/ca"
	"bollard/ca/acme"
)

// away is a CA whose key can be out of reach.
type away struct {
	*ca.Authority
	out atomic.Bool
}

func (a *away) Issue(ctx context.Context, p *ca.Prepared) (*ca.Issued, error) {
	if a.out.Load() {
		return nil, errors.New("the module is away")
	}
	return a.Authority.Issue(ctx, p)
}

// An order that was under way when the CA went away is finished by the same request, if
// all is still as it was then.
func TestUnfinishedOrderIsJudgedAgain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		meanwhile func(r *rig, c *client.Client, order *client.Order) error
		kind      string
	}{
		"nothing happened": {func(*rig, *client.Client, *client.Order) error { return nil }, ""},
		"proof taken back": {func(r *rig, c *client.Client, order *client.Order) error {
			return c.RevokeAuthorization(r.t.Context(), order.AuthzURLs[0])
		}, "orderNotReady"},
		"a day went by": {func(r *rig, _ *client.Client, _ *client.Order) error { r.pass(25 * time.Hour); return nil }, "orderNotReady"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			authority := &away{}
			r := newRig(t, func(r *rig) {
				authority.Authority, r.names.Issuer = r.authority, authority
			})
			c := r.registered()
			order, err := c.AuthorizeOrder(t.Context(), client.DomainIDs("one.example"))
			if err == nil {
				err = r.prove(c, order, "http-01")
			}
			if err != nil {
				t.Fatal(err)
			}
			csr := request(t, newKey(t), "one.example")
			authority.out.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if _, _, err := c.CreateOrderCert(ctx, order.FinalizeURL, csr, true); err == nil {
				t.Fatal("issued by a CA that is away")
			}
			if accounts, err := r.store.ACMEAccounts(t.Context()); err != nil || len(accounts) != 1 || !accounts[0].Issued {
				t.Errorf("the account may be forgotten: %+v, %v", accounts, err)
			}
			if o, _, err := r.store.ACMEOrder(t.Context(), order.URI[strings.LastIndexByte(order.URI, '/')+1:]); err != nil || o.State != acme.StateProcessing {
				t.Fatalf("the order is %s, %v", o.State, err)
			}
			authority.out.Store(false)
			if err := tt.meanwhile(r, c, order); err != nil {
				t.Fatal(err)
			}
			chain, _, err := c.CreateOrderCert(t.Context(), order.FinalizeURL, csr, true)
			if kindOf(err) != tt.kind || (tt.kind == "") != (len(chain) > 0) {
				t.Errorf("%d certificates, %v", len(chain), err)
			}
		})
	}
}
