package acme_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	client "golang.org/x/crypto/acme"
	"golang.org/x/net/dns/dnsmessage"

	"bollard/ca/acme"
)

// impatient waits for the resolver no longer than a test should.
func impatient(r *rig) {
	var err error
	if r.names.Prober, err = acme.NewImpatient(r.probing, 200*time.Millisecond); err != nil {
		r.t.Fatal(err)
	}
}

// A resolver's failure is no wrong answer: the challenge is processing, and judged again as
// its client asks what became of it (RFC 8555 §8.2).
func TestResolverFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kind string
		fail func(r *rig)
	}{
		"SERVFAIL, http-01":     {"http-01", func(r *rig) { r.rcode = dnsmessage.RCodeServerFailure }},
		"SERVFAIL, dns-01":      {"dns-01", func(r *rig) { r.rcode = dnsmessage.RCodeServerFailure }},
		"SERVFAIL, tls-alpn-01": {"tls-alpn-01", func(r *rig) { r.rcode = dnsmessage.RCodeServerFailure }},
		"REFUSED, dns-01":       {"dns-01", func(r *rig) { r.rcode = dnsmessage.RCodeRefused }},
		"silence, http-01":      {"http-01", func(r *rig) { r.silent = true }},
		"silence, dns-01":       {"dns-01", func(r *rig) { r.silent = true }},
		"silence, tls-alpn-01":  {"tls-alpn-01", func(r *rig) { r.silent = true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, impatient)
			c := r.registered()
			order, challenge := r.offered(c, tt.kind)
			r.set(func() { tt.fail(r) })
			answered, err := c.Accept(t.Context(), challenge)
			if err != nil || answered.Status != client.StatusProcessing || kindOf(answered.Error) != "dns" {
				t.Fatalf("%+v, %v", answered, err)
			}
			r.set(func() { r.rcode, r.silent = 0, false })
			for _, step := range []struct {
				pass time.Duration
				want string
			}{{0, client.StatusPending}, {2 * time.Second, client.StatusPending}, {time.Second, client.StatusValid}} {
				r.pass(step.pass)
				z, err := c.GetAuthorization(t.Context(), order.AuthzURLs[0])
				if err != nil || z.Status != step.want {
					t.Fatalf("%s later it is %+v, %v, want %s", step.pass, z, err, step.want)
				}
			}
			if _, _, err := c.CreateOrderCert(t.Context(), order.FinalizeURL, request(t, newKey(t), "one.example"), true); err != nil {
				t.Error(err)
			}
			if refused := r.events("acme.refused"); len(refused) != 0 {
				t.Errorf("the ledger has %v", refused)
			}
		})
	}
}

// The client is told when to ask; asking earlier asks no resolver, answering again does; and
// it ends.
func TestRetryIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, impatient)
	r.set(func() { r.rcode = dnsmessage.RCodeServerFailure })
	c := r.raw()
	status, head, body := c.post("new-order", `{"identifiers":[{"type":"dns","value":"one.example"}]}`)
	if status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	id := head.Get("Location")[len(r.url("order/")):]
	for i, step := range []struct {
		path, payload string
		retry         int // seconds; 0: it isn't tried again
		pass          time.Duration
	}{
		{"challenge/" + id + ".0.1", "{}", 3, 2 * time.Second},
		{"authz/" + id + ".0", "", 1, 0},
		{"challenge/" + id + ".0.1", "{}", 6, 6 * time.Second}, // at once: the client knows something
		{"challenge/" + id + ".0.1", "", 12, 12 * time.Second},
		{"authz/" + id + ".0", "", 24, 24 * time.Second},
		{"authz/" + id + ".0", "", 48, 48 * time.Second},
		{"authz/" + id + ".0", "", 96, 96 * time.Second},
		{"authz/" + id + ".0", "", 120, 2 * time.Minute},
		{"authz/" + id + ".0", "", 0, 0},
	} {
		status, head, body := c.post(step.path, step.payload)
		want := ""
		if step.retry > 0 {
			want = strconv.Itoa(step.retry)
		}
		if status != http.StatusOK || head.Get("Retry-After") != want {
			t.Fatalf("step %d: %d, Retry-After %q, want %q: %s", i, status, head.Get("Retry-After"), want, body)
		}
		if i == 8 && strings.Contains(body, "again") {
			t.Errorf("the last says %s", body)
		}
		r.pass(step.pass)
	}
	refused := r.events("acme.refused")
	if len(refused) != 1 || refused[0].Data["challenge"] != "dns-01" {
		t.Errorf("the ledger has %v", refused)
	}
	if o, _, err := r.store.ACMEOrder(t.Context(), id); err != nil || o.State != acme.StateInvalid {
		t.Errorf("the order is %s, %v", o.State, err)
	}
}

// Judging again connects, and counts as what an account asks for: else an order that is
// processing, and a client that hangs up before it is told, would have us ask without end.
func TestRetryIsCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t, impatient)
	r.set(func() { r.rcode = dnsmessage.RCodeServerFailure })
	c := r.raw()
	_, head, _ := c.post("new-order", `{"identifiers":[{"type":"dns","value":"one.example"}]}`)
	id := head.Get("Location")[len(r.url("order/")):]
	c.post("challenge/"+id+".0.1", "{}")
	for i := 0; ; i++ {
		status, _, body := c.post("new-order", `{"identifiers":[]}`)
		if status == http.StatusTooManyRequests {
			break
		}
		if i > acme.PerAccount {
			t.Fatalf("%d %s", status, body)
		}
	}
	for _, step := range []struct {
		pass  time.Duration
		retry string
	}{{5 * time.Second, "1"}, {5 * time.Second, "6"}} { // 1: it is due and wasn't tried
		r.pass(step.pass)
		if status, head, body := c.post("authz/"+id+".0", ""); status != http.StatusOK || head.Get("Retry-After") != step.retry {
			t.Errorf("%s later: %d, Retry-After %q, want %s: %s", step.pass, status, head.Get("Retry-After"), step.retry, body)
		}
	}
}

// offered is an order for one.example, and its challenge of a kind, whose answer is shown.
func (r *rig) offered(c *client.Client, kind string) (*client.Order, *client.Challenge) {
	r.t.Helper()
	order, err := c.AuthorizeOrder(r.t.Context(), client.DomainIDs("one.example"))
	if err != nil {
		r.t.Fatal(err)
	}
	z, err := c.GetAuthorization(r.t.Context(), order.AuthzURLs[0])
	if err != nil {
		r.t.Fatal(err)
	}
	for _, challenge := range z.Challenges {
		if challenge.Type == kind {
			r.show(c, "one.example", challenge)
			return order, challenge
		}
	}
	r.t.Fatalf("%s isn't offered", kind)
	return nil, nil
}

// set changes what the names answer.
func (r *rig) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}
