package acme_test

import (
	"crypto/ecdsa"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	client "golang.org/x/crypto/acme"
	"golang.org/x/net/dns/dnsmessage"
)

// A request that doesn't fit its order brings nothing, and leaves the order ready.
func TestRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c, other := r.registered(), r.registered()
	order := func() *client.Order {
		t.Helper()
		o, err := c.AuthorizeOrder(t.Context(), client.DomainIDs("one.example"))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	finalize := func(o *client.Order, csr []byte) error {
		_, _, err := c.CreateOrderCert(t.Context(), o.FinalizeURL, csr, true)
		return err
	}
	early := order()
	if err := finalize(early, request(t, newKey(t), "one.example")); kindOf(err) != "orderNotReady" {
		t.Errorf("before it is proven: %v", err)
	}
	taken := newKey(t)
	if _, err := r.issue(other, taken, "http-01", "a.two.example"); err != nil {
		t.Fatal(err)
	}
	revoked := newKey(t)
	chain, err := r.issue(c, revoked, "http-01", "one.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.RevokeCert(t.Context(), nil, chain[0], client.CRLReasonUnspecified); kindOf(err) != "unauthorized" {
		t.Errorf("another account revokes: %v", err)
	}
	if err := c.RevokeCert(t.Context(), newKey(t), chain[0], client.CRLReasonUnspecified); kindOf(err) != "unauthorized" {
		t.Errorf("another key revokes: %v", err)
	}
	if err := c.RevokeCert(t.Context(), nil, chain[0], client.CRLReasonCertificateHold); kindOf(err) != "badRevocationReason" {
		t.Errorf("revocation for a while: %v", err)
	}
	if err := c.RevokeCert(t.Context(), nil, chain[0], client.CRLReasonUnspecified); err != nil {
		t.Fatal(err)
	}
	o := order()
	if err := r.prove(c, o, "dns-01"); err != nil {
		t.Fatal(err)
	}
	good := newKey(t)
	for name, csr := range map[string][]byte{
		"other names":       request(t, good, "two.example"),
		"more names":        request(t, good, "one.example", "a.two.example"),
		"no names":          request(t, good),
		"the account's key": request(t, c.Key, "one.example"),
		"no request":        []byte("x"),
	} {
		if err := finalize(o, csr); kindOf(err) != "badCSR" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := finalize(o, request(t, good, "one.example")); err != nil {
		t.Errorf("the right request after wrong ones: %v", err)
	}
	// These end the order.
	for name, key := range map[string]*ecdsa.PrivateKey{"a key of another": taken, "a key that was revoked": revoked} {
		o := order()
		if err := r.prove(c, o, "dns-01"); err != nil {
			t.Fatal(err)
		}
		if err := finalize(o, request(t, key, "one.example")); kindOf(err) != "badCSR" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A name that doesn't answer as it should isn't its holder's, once and for all for
// the order; nothing of what it answers is told.
func TestChallengesFail(t *testing.T) {
	t.Parallel()
	const secret = "secret of the inside"
	r := newRig(t)
	c := r.registered()
	n := 0
	for name, tt := range map[string]struct {
		kind string
		set  func(r *rig, c *client.Client, ch *client.Challenge, host string)
		says string
	}{
		"nothing there": {"http-01", func(*rig, *client.Client, *client.Challenge, string) {}, "unauthorized"},
		"another text": {"http-01", func(r *rig, _ *client.Client, _ *client.Challenge, _ string) {
			r.page = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, secret) }
		}, "incorrectResponse"},
		"another account's": {"http-01", func(r *rig, _ *client.Client, c *client.Challenge, _ string) {
			text, _ := r.client().HTTP01ChallengeResponse(c.Token)
			r.page = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
		}, "incorrectResponse"},
		"endless": {"http-01", func(r *rig, _ *client.Client, _ *client.Challenge, _ string) {
			r.page = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat(secret, 1000)) }
		}, "connection"},
		"led elsewhere": {"http-01", func(r *rig, _ *client.Client, _ *client.Challenge, _ string) {
			r.page = func(w http.ResponseWriter, q *http.Request) {
				http.Redirect(w, q, "http://127.0.0.1/x", http.StatusFound)
			}
		}, "connection"},
		"in a network that isn't listed": {"http-01", func(r *rig, _ *client.Client, _ *client.Challenge, _ string) {
			r.address = netip.MustParseAddr("127.0.0.2")
		}, "connection"},
		"TLS in one that isn't": {"tls-alpn-01", func(r *rig, _ *client.Client, _ *client.Challenge, host string) {
			r.address = netip.MustParseAddr("169.254.169.254")
		}, "connection"},
		"no such name": {"http-01", func(r *rig, _ *client.Client, _ *client.Challenge, _ string) { r.rcode = dnsmessage.RCodeNameError }, "dns"},
		"no record":    {"dns-01", func(*rig, *client.Client, *client.Challenge, string) {}, "dns"},
		"another record": {"dns-01", func(r *rig, _ *client.Client, _ *client.Challenge, host string) {
			r.texts["_acme-challenge."+host+"."] = secret
		}, "incorrectResponse"},
		"no certificate": {"tls-alpn-01", func(*rig, *client.Client, *client.Challenge, string) {}, "connection"},
		"a certificate of another challenge": {"tls-alpn-01", func(r *rig, c *client.Client, _ *client.Challenge, host string) {
			cert, _ := c.TLSALPN01ChallengeCert("x", host)
			r.shown = &cert
		}, "incorrectResponse"},
		"a certificate for another name": {"tls-alpn-01", func(r *rig, c *client.Client, ch *client.Challenge, _ string) {
			cert, _ := c.TLSALPN01ChallengeCert(ch.Token, "a.two.example")
			r.shown = &cert
		}, "unauthorized"},
		"the server's everyday certificate": {"tls-alpn-01", func(r *rig, _ *client.Client, _ *client.Challenge, _ string) {
			r.shown = &r.server.TLS.Certificates[0]
		}, "unauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			n++
			host := fmt.Sprintf("n%d.two.example", n) // failures are counted by name
			r.mu.Lock()
			r.page, r.shown, r.address, r.rcode = nil, nil, netip.MustParseAddr("127.0.0.1"), 0
			r.mu.Unlock()
			order, err := c.AuthorizeOrder(t.Context(), client.DomainIDs(host))
			if err != nil {
				t.Fatal(err)
			}
			z, err := c.GetAuthorization(t.Context(), order.AuthzURLs[0])
			if err != nil {
				t.Fatal(err)
			}
			for _, challenge := range z.Challenges {
				if challenge.Type != tt.kind {
					continue
				}
				r.mu.Lock()
				tt.set(r, c, challenge, host)
				r.mu.Unlock()
				answered, err := c.Accept(t.Context(), challenge)
				if err != nil {
					t.Fatal(err)
				}
				if answered.Status != client.StatusInvalid || kindOf(answered.Error) != tt.says {
					t.Errorf("%s, %v", answered.Status, answered.Error)
				}
				if strings.Contains(fmt.Sprint(answered.Error), "secret") {
					t.Errorf("the client learns what the name answers: %v", answered.Error)
				}
				if again, err := c.Accept(t.Context(), challenge); err != nil || again.Status != client.StatusInvalid {
					t.Errorf("a second try is judged: %v, %v", again, err)
				}
			}
			if order, err := c.GetOrder(t.Context(), order.URI); err != nil || order.Status != client.StatusInvalid {
				t.Errorf("the order goes on: %v, %v", order, err)
			}
			refused := r.events("acme.refused")
			if len(refused) != n || refused[n-1].Data["challenge"] != tt.kind || refused[n-1].Data["identifier"] != host {
				t.Errorf("the ledger has %v", refused)
			}
		})
	}
}

// An order that nobody finishes ends, and its certificate is in nobody's hands.
func TestOrdersEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.registered()
	order, err := c.AuthorizeOrder(t.Context(), client.DomainIDs("one.example"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.prove(c, order, "dns-01"); err != nil {
		t.Fatal(err)
	}
	r.pass(24 * time.Hour)
	if _, _, err := c.CreateOrderCert(t.Context(), order.FinalizeURL, request(t, newKey(t), "one.example"), true); kindOf(err) != "orderNotReady" {
		t.Errorf("after a day: %v", err)
	}
	r.pass(48 * time.Hour)
	if _, err := c.AuthorizeOrder(t.Context(), client.DomainIDs("one.example")); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := r.store.ACMEOrder(t.Context(), order.URI[strings.LastIndexByte(order.URI, '/')+1:]); ok || err != nil {
		t.Errorf("it is remembered: %t, %v", ok, err)
	}
}
