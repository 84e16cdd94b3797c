package acme_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	client "golang.org/x/crypto/acme"
	"golang.org/x/net/dns/dnsmessage"

	"bollard/ca"
	"bollard/ca/acme"
	"bollard/ledger"
)

// RFC 8555 with somebody else's client: a certificate by each challenge, renewed,
// revoked by the account and by the certificate's key; another account key.
func TestStory(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.registered()
	for _, kind := range []string{"http-01", "dns-01", "tls-alpn-01"} {
		key := newKey(t)
		var serials []string
		for range 2 { // the second is the renewal, for the same key
			chain, err := r.issue(c, key, kind, "one.example")
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			leaf, err := x509.ParseCertificate(chain[0])
			if err != nil {
				t.Fatal(err)
			}
			pool, between := x509.NewCertPool(), x509.NewCertPool()
			pool.AddCert(r.authority.Roots(ca.KindCSMS)[0])
			for _, der := range chain[1:] {
				above, err := x509.ParseCertificate(der)
				if err != nil {
					t.Fatal(err)
				}
				between.AddCert(above)
			}
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, DNSName: "one.example", CurrentTime: start}); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
				t.Errorf("%s: it is good for %v", kind, leaf.ExtKeyUsage)
			}
			serials = append(serials, ca.SerialOf(leaf))
			// The first by the account, the other by its own key.
			by := c
			if len(serials) == 2 {
				by = r.client()
				err = by.RevokeCert(t.Context(), key, chain[0], client.CRLReasonKeyCompromise)
			} else if kind == "dns-01" {
				err = by.RevokeCert(t.Context(), nil, chain[0], client.CRLReasonSuperseded)
				key = newKey(t) // a revoked one gets no certificate
			} else {
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			record, err := r.store.Certificate(t.Context(), serials[len(serials)-1])
			if err != nil || record.State != ca.StateRevoked {
				t.Errorf("%s: %s, %v", kind, record.State, err)
			}
		}
	}
	if err := c.AccountKeyRollover(t.Context(), newKey(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.issue(c, newKey(t), "http-01", "b.two.example", "a.two.example"); err != nil {
		t.Errorf("with the new key: %v", err)
	}
	if got := len(r.events("acme.issued")); got != 7 {
		t.Errorf("%d certificates in the ledger", got)
	}
	if len(r.events("acme.key-changed")) != 1 || len(r.events("acme.order")) != 7 || len(r.events("acme.proven")) != 8 {
		t.Error("the ledger doesn't tell the story")
	}
}

// What isn't listed doesn't exist, and nothing listed serves somebody else than its
// authoriser (RFC 8555 §6.2, §6.4).
func TestOperations(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	mine, other := r.raw(), r.raw()
	id := mine.kid[strings.LastIndexByte(mine.kid, '/')+1:]
	status, head, body := mine.post("new-order", `{"identifiers":[{"type":"dns","value":"one.example"}]}`)
	if status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	order := head.Get("Location")[strings.LastIndexByte(head.Get("Location"), '/')+1:]
	byKey := func(m *spec) { m.kid = "" }
	asOther := func(m *spec) { m.kid, m.key = other.kid, other.key }
	for name, tt := range map[string]struct {
		path, payload string
		edit          func(*spec)
		status        int
		problem       string
	}{
		"unlisted":                      {path: "new-authz", status: 404, problem: "malformed"},
		"nothing named":                 {path: "order", status: 404, problem: "malformed"},
		"something named":               {path: "new-order/x", status: 404, problem: "malformed"},
		"directory by POST":             {path: "directory", status: 405, problem: "malformed"},
		"nonce by POST":                 {path: "new-nonce", status: 405, problem: "malformed"},
		"GET of an order":               {path: "order/" + order, edit: func(m *spec) { m.method = "GET" }, status: 405, problem: "malformed"},
		"account by its key":            {path: "new-account", edit: byKey, payload: `{}`, status: 200},
		"account by an account":         {path: "new-account", payload: `{}`, status: 400, problem: "malformed"},
		"account":                       {path: "account/" + id, status: 200},
		"account of another":            {path: "account/" + id, edit: asOther, status: 403, problem: "unauthorized"},
		"account by key alone":          {path: "account/" + id, edit: byKey, status: 400, problem: "malformed"},
		"orders of another":             {path: "orders/" + id, edit: asOther, status: 403, problem: "unauthorized"},
		"orders":                        {path: "orders/" + id, status: 200},
		"order":                         {path: "order/" + order, status: 200},
		"order with a payload":          {path: "order/" + order, payload: `{}`, status: 400, problem: "malformed"},
		"order of another":              {path: "order/" + order, edit: asOther, status: 404, problem: "malformed"},
		"order by key alone":            {path: "order/" + order, edit: byKey, status: 400, problem: "malformed"},
		"authorization of another":      {path: "authz/" + order + ".0", edit: asOther, status: 404, problem: "malformed"},
		"no such authorization":         {path: "authz/" + order + ".1", status: 404, problem: "malformed"},
		"authorization spelt otherwise": {path: "authz/" + order + ".00", status: 404, problem: "malformed"},
		"challenge of another":          {path: "challenge/" + order + ".0.0", edit: asOther, payload: `{}`, status: 404, problem: "malformed"},
		"no such challenge":             {path: "challenge/" + order + ".0.9", payload: `{}`, status: 404, problem: "malformed"},
		"finalize of another":           {path: "finalize/" + order, edit: asOther, payload: `{"csr":"AA"}`, status: 404, problem: "malformed"},
		"certificate of another":        {path: "certificate/" + order, edit: asOther, status: 404, problem: "malformed"},
		"certificate too early":         {path: "certificate/" + order, status: 403, problem: "orderNotReady"},
		"order by key":                  {path: "new-order", edit: byKey, payload: `{}`, status: 400, problem: "malformed"},
		"key change by key":             {path: "key-change", edit: byKey, payload: `{}`, status: 400, problem: "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			edit := tt.edit
			if edit == nil {
				edit = func(*spec) {}
			}
			status, head, body := mine.post(tt.path, tt.payload, edit)
			if status != tt.status || problem(status, head, body) != tt.problem {
				t.Errorf("%d %s", status, body)
			}
		})
	}
}

// The form of a message, each wrong in one way (RFC 8555 §6.2 to §6.5).
func TestMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.raw()
	stranger := r.raw()
	path := "account/" + c.kid[strings.LastIndexByte(c.kid, '/')+1:]
	used := r.nonce()
	c.post(path, "", func(m *spec) { m.nonce = used })
	object := func(edit func(map[string]any)) func(*spec) {
		return func(m *spec) {
			m.body = func(text string) string {
				var o map[string]any
				_ = json.Unmarshal([]byte(text), &o)
				edit(o)
				out, _ := json.Marshal(o)
				return string(out)
			}
		}
	}
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf(`{"alg":"none","kid":%q,"url":%q,"nonce":%q}`, c.kid, c.url(path), r.nonce())))
	for name, tt := range map[string]struct {
		edit    func(*spec)
		status  int
		problem string
	}{
		"as it should be":      {func(*spec) {}, 200, ""},
		"without a nonce":      {func(m *spec) { m.nonce = "" }, 400, "badNonce"},
		"a nonce of one's own": {func(m *spec) { m.nonce = "AAAAAAAAAAAAAAAAAAAAAA" }, 400, "badNonce"},
		"a replayed nonce":     {func(m *spec) { m.nonce = used }, 400, "badNonce"},
		"another URL":          {func(m *spec) { m.url += "x" }, 403, "unauthorized"},
		"another server's URL": {func(m *spec) { m.url = "https://acme.example/acme/names/" + path }, 403, "unauthorized"},
		"another's signature":  {func(m *spec) { m.key = stranger.key }, 400, "malformed"},
		"no such account":      {func(m *spec) { m.kid += "x" }, 400, "accountDoesNotExist"},
		"an account elsewhere": {func(m *spec) { m.kid = "https://acme.example/1" }, 400, "accountDoesNotExist"},
		"a MAC":                {func(m *spec) { m.algorithm, m.key = jose.HS256, []byte("0123456789abcdef0123456789abcdef") }, 400, "badSignatureAlgorithm"},
		"no algorithm": {func(m *spec) {
			m.body = func(string) string { return `{"protected":"` + unsigned + `","payload":"","signature":""}` }
		}, 400, "badSignatureAlgorithm"},
		"another type":          {func(m *spec) { m.kind = "application/json" }, 415, "malformed"},
		"nothing":               {func(m *spec) { m.body = func(string) string { return "" } }, 400, "malformed"},
		"no JSON":               {func(m *spec) { m.body = func(string) string { return "{" } }, 400, "malformed"},
		"an unprotected header": {object(func(o map[string]any) { o["header"] = map[string]any{"kid": "x"} }), 400, "malformed"},
		"signatures in a list":  {object(func(o map[string]any) { o["signatures"] = []any{} }), 400, "malformed"},
		"something besides":     {object(func(o map[string]any) { o["x"] = 1 }), 400, "malformed"},
		"without a payload":     {object(func(o map[string]any) { delete(o, "payload") }), 400, "malformed"},
		"twice a payload":       {func(m *spec) { m.body = func(s string) string { return `{"payload":"",` + s[1:] } }, 400, "malformed"},
		"something behind":      {func(m *spec) { m.body = func(s string) string { return s + "{}" } }, 400, "malformed"},
		"huge":                  {func(m *spec) { m.body = func(string) string { return strings.Repeat(" ", 64<<10) + "{}" } }, 413, "malformed"},
		"another payload than signed": {object(func(o map[string]any) {
			o["payload"] = base64.RawURLEncoding.EncodeToString([]byte(`{"status":"deactivated"}`))
		}), 400, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			status, head, body := c.post(path, "", tt.edit)
			if status != tt.status || problem(status, head, body) != tt.problem {
				t.Errorf("%d %s", status, body)
			}
			if head.Get("Replay-Nonce") == "" {
				t.Error("the answer has no nonce")
			}
		})
	}
	// Who can't sign uses up nobody's nonce.
	nonce := r.nonce()
	c.post(path, "", func(m *spec) { m.nonce, m.key = nonce, stranger.key })
	if status, _, body := c.post(path, "", func(m *spec) { m.nonce = nonce }); status != 200 {
		t.Errorf("a forged message used up the nonce: %d %s", status, body)
	}
	// Another name of this server.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url("directory"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "acme.example"
	resp, err := r.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("as acme.example: %s", resp.Status)
	}
}

// Accounts are made with tokens, each good for one (RFC 8555 §7.3.4), and end.
func TestAccounts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	kid, key := r.token()
	oldKid, oldKey := r.token()
	c := &raw{rig: r, key: newKey(t)}
	byKey := func(m *spec) { m.kid = "" }
	bound := func(kid string, key []byte, url string) string {
		return `{"externalAccountBinding":` + c.binding(kid, key, url) + `}`
	}
	wrong := append([]byte("x"), key[1:]...)
	other := &raw{rig: r, key: newKey(t)}
	weak := func(m *spec) { m.kid, m.key, m.algorithm = "", weakKey(t), jose.RS256 }
	for name, tt := range map[string]struct {
		payload string
		edit    func(*spec)
		status  int
		problem string
	}{
		"without a token":      {`{}`, byKey, 403, "externalAccountRequired"},
		"a token nobody made":  {bound("x", key, c.url("new-account")), byKey, 403, "unauthorized"},
		"a wrong key":          {bound(kid, wrong, c.url("new-account")), byKey, 403, "unauthorized"},
		"for another URL":      {bound(kid, key, c.url("new-order")), byKey, 400, "malformed"},
		"for another account":  {`{"externalAccountBinding":` + other.binding(kid, key, c.url("new-account")) + `}`, byKey, 400, "malformed"},
		"no binding at all":    {`{"externalAccountBinding":{}}`, byKey, 400, "malformed"},
		"only if there is one": {`{"onlyReturnExisting":true}`, byKey, 400, "accountDoesNotExist"},
		"with a weak key":      {bound(kid, key, c.url("new-account")), weak, 400, "badPublicKey"},
	} {
		t.Run(name, func(t *testing.T) {
			status, head, body := c.post("new-account", tt.payload, tt.edit)
			if status != tt.status || problem(status, head, body) != tt.problem {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	status, head, body := c.post("new-account", bound(kid, key, c.url("new-account")), byKey)
	if status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	c.kid = head.Get("Location")
	if status, head, body := other.post("new-account", `{"externalAccountBinding":`+other.binding(kid, key, c.url("new-account"))+`}`, byKey); status != 403 {
		t.Errorf("a token was used twice: %d %s %s", status, body, head)
	}
	leakedKid, leakedKey := r.token()
	for id, want := range map[string]error{leakedKid: nil, kid: acme.ErrTokenUsed, "nobody": acme.ErrUnknownToken} {
		if err := acme.VoidToken(t.Context(), r.store, "operator", id); !errors.Is(err, want) {
			t.Errorf("voiding %s: %v", id, err)
		}
	}
	if status, _, body := other.post("new-account", `{"externalAccountBinding":`+other.binding(leakedKid, leakedKey, c.url("new-account"))+`}`, byKey); status != 403 {
		t.Errorf("a void token was used: %d %s", status, body)
	}
	r.pass(2 * time.Hour)
	if status, _, body := other.post("new-account", `{"externalAccountBinding":`+other.binding(oldKid, oldKey, c.url("new-account"))+`}`, byKey); status != 403 {
		t.Errorf("a token was used after its time: %d %s", status, body)
	}
	path := "account/" + c.kid[strings.LastIndexByte(c.kid, '/')+1:]
	if status, _, body := c.post(path, `{"status":"deactivated"}`); status != 200 || !strings.Contains(body, "deactivated") {
		t.Errorf("%d %s", status, body)
	}
	if status, head, body := c.post(path, ""); problem(status, head, body) != "unauthorized" {
		t.Errorf("it goes on: %d %s", status, body)
	}
	if status, head, body := c.post("new-account", `{}`, byKey); problem(status, head, body) != "unauthorized" {
		t.Errorf("it comes back: %d %s", status, body)
	}
}

// An account orders what the list has and its token allows, in Bollard's name never.
func TestNames(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, tt := range map[string]struct {
		token []string
		order string
		says  string // problem
	}{
		"of the list":        {order: "ONE.example"},
		"below one":          {order: "x.y.two.example"},
		"of the token":       {token: []string{"one.example"}, order: "one.example"},
		"another's token":    {token: []string{"one.example"}, order: "a.two.example", says: "rejectedIdentifier"},
		"the one above":      {order: "two.example", says: "rejectedIdentifier"},
		"ends alike":         {order: "xtwo.example", says: "rejectedIdentifier"},
		"Bollard's own":      {order: "Own.two.example", says: "rejectedIdentifier"},
		"of nobody's list":   {order: "three.example", says: "rejectedIdentifier"},
		"a wildcard":         {order: "*.two.example", says: "rejectedIdentifier"},
		"rooted":             {order: "one.example.", says: "rejectedIdentifier"},
		"with a port":        {order: "one.example:80", says: "rejectedIdentifier"},
		"with a line":        {order: "one.example\nx", says: "rejectedIdentifier"},
		"an address":         {order: "127.0.0.1", says: "rejectedIdentifier"},
		"longer than a name": {order: strings.Repeat("a", 60) + ".two.example", says: "rejectedIdentifier"},
		"nothing":            {order: "", says: "rejectedIdentifier"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.registered(tt.token...).AuthorizeOrder(t.Context(), client.DomainIDs(tt.order))
			if got := kindOf(err); got != tt.says {
				t.Errorf("got %q: %v", got, err)
			}
		})
	}
	c := r.registered()
	if _, err := c.AuthorizeOrder(t.Context(), client.IPIDs("127.0.0.1")); kindOf(err) != "unsupportedIdentifier" {
		t.Errorf("an address: %v", err)
	}
	if _, err := c.AuthorizeOrder(t.Context(), client.DomainIDs(make([]string, 21)...)); kindOf(err) != "malformed" {
		t.Errorf("too many: %v", err)
	}
	if len(r.events("acme.refused")) == 0 {
		t.Error("no refusal is in the ledger")
	}
}

func kindOf(err error) string {
	var e *client.Error
	if errors.As(err, &e) {
		return strings.TrimPrefix(e.ProblemType, "urn:ietf:params:acme:error:")
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

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

// Who asks too often waits; each bound is its own.
func TestLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.registered()
	refused := 0
	for range acme.PerFailure + 2 {
		order, err := c.AuthorizeOrder(t.Context(), client.DomainIDs("one.example"))
		if err != nil {
			t.Fatal(err)
		}
		if kind := kindOf(r.prove(c, order, "http-01")); kind == "rateLimited" {
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("%d answers were refused", refused)
	}
	busy := r.raw()
	limited := 0
	for range acme.PerAccount + 3 {
		if status, head, body := busy.post("new-order", `{"identifiers":[]}`); problem(status, head, body) == "rateLimited" && head.Get("Retry-After") != "" {
			limited++
		}
	}
	if limited != 3 {
		t.Errorf("%d messages were refused", limited)
	}
	r.pass(time.Hour)
	if status, head, body := busy.post("new-order", `{"identifiers":[]}`); problem(status, head, body) != "malformed" {
		t.Errorf("after an hour: %d %s", status, body)
	}
}

// Anybody brings about refusals, and failures: one address so many, and all of them so many
// lines of the log.
func TestStrangersDontFillTheLog(t *testing.T) { // promise 12
	t.Parallel()
	var log bytes.Buffer
	r := newRig(t, func(r *rig) { r.config.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	c := r.raw()
	ask := func(address string) int {
		w, req := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "https://127.0.0.1/acme/names/new-order", strings.NewReader("x"))
		req.RemoteAddr = address
		r.server.Config.Handler.ServeHTTP(w, req)
		return w.Code
	}
	for range acme.PerSource {
		if got := ask("192.0.2.1:1"); got != http.StatusUnsupportedMediaType {
			t.Fatalf("status %d", got)
		}
	}
	if got := ask("192.0.2.1:2"); got != http.StatusTooManyRequests {
		t.Errorf("one more: %d", got)
	}
	if got := ask("192.0.2.2:1"); got != http.StatusUnsupportedMediaType {
		t.Errorf("another address: %d", got)
	}
	lines := strings.Count(log.String(), "ACME request refused")
	r.pass(time.Second)
	ask("192.0.2.2:1")
	if want := fmt.Sprintf("unlogged=%d\n", acme.PerSource+2-lines); lines == 0 || lines > 60 || !strings.Contains(log.String(), want) {
		t.Errorf("%d lines, and the log doesn't say %s", lines, want)
	}
	r.pass(time.Hour)
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if status, _, body := c.post("new-order", "{}"); status != http.StatusServiceUnavailable {
			t.Fatalf("%d %s", status, body)
		}
	}
	if lines := strings.Count(log.String(), "couldn't serve"); lines == 0 || lines > 60 {
		t.Errorf("%d lines of what can't be served", lines)
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

// Accounts that cost nothing share what one address may ask, and write no entry for
// what they don't prove.
func TestStrangersShareABound(t *testing.T) { // promise 12
	t.Parallel()
	r := newRig(t, func(r *rig) { r.config.Open = nil })
	asked, refused := 0, 0
	for asked < acme.PerStranger+1 {
		c := r.raw()
		for range acme.PerAccount {
			status, head, body := c.post("new-order", `{"identifiers":[{"type":"dns","value":"one.example"}]}`)
			if asked++; problem(status, head, body) == "rateLimited" {
				refused++
			} else if status != 201 {
				t.Fatalf("%d %s", status, body)
			}
		}
	}
	if refused != asked-acme.PerStranger {
		t.Errorf("%d of %d were refused", refused, asked)
	}
	for e, err := range r.store.Entries(t.Context(), 1) {
		if err != nil || e.Kind == "acme.order" {
			t.Fatalf("an order of strangers is an entry: %s, %v", e.Kind, err)
		}
	}
}

// Without tokens strangers make accounts: those that get no certificate in a day are
// forgotten.
func TestOpenDoor(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(r *rig) { r.config.Open = nil })
	served, idle := r.registered(), r.registered()
	if _, err := r.issue(served, newKey(t), "http-01", "one.example"); err != nil {
		t.Fatal(err)
	}
	ended := r.registered()
	accounts, err := r.store.ACMEAccounts(t.Context())
	if err != nil || len(accounts) != 3 {
		t.Fatalf("accounts %+v, %v", accounts, err)
	}
	for _, a := range accounts {
		if strings.HasSuffix(string(ended.KID), "/"+a.ID) {
			_, err = r.store.UpdateACMEAccount(t.Context(), a.ID, func(a *acme.Account) ([]ledger.Event, error) {
				a.State = acme.AccountRevoked
				return nil, nil
			})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	r.pass(25 * time.Hour)
	r.registered()
	if accounts, err = r.store.ACMEAccounts(t.Context()); err != nil || len(accounts) != 3 {
		t.Errorf("accounts %+v, %v", accounts, err)
	}
	if _, err := ended.AuthorizeOrder(t.Context(), client.DomainIDs("one.example")); kindOf(err) != "unauthorized" {
		t.Errorf("one that an operator ended: %v", err)
	}
	if _, err := idle.AuthorizeOrder(t.Context(), client.DomainIDs("one.example")); kindOf(err) != "accountDoesNotExist" {
		t.Errorf("the idle one: %v", err)
	}
	if _, err := served.AuthorizeOrder(t.Context(), client.DomainIDs("one.example")); err != nil {
		t.Errorf("the other: %v", err)
	}
}
