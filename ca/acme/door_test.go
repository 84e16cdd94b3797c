package acme_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	client "golang.org/x/crypto/acme"

	"bollard/ca"
	"bollard/ca/acme"
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
