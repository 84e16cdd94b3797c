package acme_test

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	client "golang.org/x/crypto/acme"

	"bollard/ca"
	"bollard/ca/acme"
)

// away is a CA whose key can be out of reach, and whose answer can get lost.
type away struct {
	*ca.Authority
	out, lost atomic.Bool
	together  *sync.WaitGroup // prepared, before one is issued; nil: they don't wait
}

func (a *away) Issue(ctx context.Context, p *ca.Prepared) (*ca.Issued, error) {
	if a.out.Load() {
		return nil, errors.New("the module is away")
	}
	if a.together != nil {
		a.together.Done()
		a.together.Wait()
	}
	issued, err := a.Authority.Issue(ctx, p)
	if err == nil && a.lost.Load() {
		return nil, errors.New("this is where it ended")
	}
	return issued, err
}

// unfinished is an order that was proven, and whose request failed while the CA had this
// fault, which it has until mend.
func unfinished(t *testing.T, fault func(*away) *atomic.Bool) (r *rig, c *client.Client, order *client.Order, csr []byte, mend func()) {
	t.Helper()
	authority := &away{}
	r = newRig(t, func(r *rig) {
		authority.Authority, r.names.Issuer = r.authority, authority
	})
	c = r.registered()
	order, err := c.AuthorizeOrder(t.Context(), client.DomainIDs("one.example"))
	if err == nil {
		err = r.prove(c, order, "http-01")
	}
	if err != nil {
		t.Fatal(err)
	}
	csr = request(t, newKey(t), "one.example")
	fault(authority).Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, _, err := c.CreateOrderCert(ctx, order.FinalizeURL, csr, true); err == nil {
		t.Fatal("the answer got through")
	}
	return r, c, order, csr, func() { fault(authority).Store(false) }
}

// An order has one certificate, also when that is revoked before the order knows it.
func TestRevokedBeforeTheOrderHasIt(t *testing.T) {
	t.Parallel()
	r, c, order, csr, mend := unfinished(t, func(a *away) *atomic.Bool { return &a.lost })
	mend()
	made := func() []ca.Record {
		list, err := r.store.Certificates(t.Context(), ca.Filter{Profile: ca.ProfileServer})
		if err != nil || len(list) != 1 {
			t.Fatalf("%d certificates, %v", len(list), err)
		}
		return list
	}
	serial := made()[0].Serial
	if _, err := r.authority.Revoke(t.Context(), serial, "superseded", "operator"); err != nil {
		t.Fatal(err)
	}
	for _, request := range [][]byte{request(t, newKey(t), "one.example"), csr} {
		_, _, err := c.CreateOrderCert(t.Context(), order.FinalizeURL, request, true)
		if kindOf(err) != "orderNotReady" { // it has what it asked for
			t.Error(err)
		}
	}
	got, err := c.GetOrder(t.Context(), order.URI)
	if err != nil || got.Status != client.StatusValid {
		t.Fatalf("%+v, %v", got, err)
	}
	chain, err := c.FetchCert(t.Context(), got.CertURL, true)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err := x509.ParseCertificate(chain[0]); err != nil || ca.SerialOf(cert) != serial {
		t.Errorf("it has another certificate: %v", err)
	}
	made()
}

// Of two accounts with one private key that ask at once, one gets a certificate.
func TestOneKeyOfTwoAccounts(t *testing.T) {
	t.Parallel()
	var prepared sync.WaitGroup
	prepared.Add(2)
	authority := &away{together: &prepared}
	r := newRig(t, func(r *rig) {
		authority.Authority, r.names.Issuer = r.authority, authority
	})
	key := newKey(t)
	said := make(chan string, 2)
	for _, name := range []string{"a.two.example", "b.two.example"} {
		c := r.registered()
		order, err := c.AuthorizeOrder(t.Context(), client.DomainIDs(name))
		if err == nil {
			err = r.prove(c, order, "http-01")
		}
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _, err := c.CreateOrderCert(t.Context(), order.FinalizeURL, request(t, key, name), true)
			said <- kindOf(err)
		}()
	}
	if got := <-said + " " + <-said; strings.TrimSpace(got) != "badCSR" {
		t.Errorf("they got %q", got)
	}
	list, err := r.store.Certificates(t.Context(), ca.Filter{Profile: ca.ProfileServer, State: ca.StateIssued})
	if err != nil || len(list) != 1 {
		t.Errorf("%d certificates, %v", len(list), err)
	}
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
			r, c, order, csr, mend := unfinished(t, func(a *away) *atomic.Bool { return &a.out })
			if accounts, err := r.store.ACMEAccounts(t.Context()); err != nil || len(accounts) != 1 || !accounts[0].Issued {
				t.Errorf("the account may be forgotten: %+v, %v", accounts, err)
			}
			if o, _, err := r.store.ACMEOrder(t.Context(), order.URI[strings.LastIndexByte(order.URI, '/')+1:]); err != nil || o.State != acme.StateProcessing {
				t.Fatalf("the order is %s, %v", o.State, err)
			}
			mend()
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
