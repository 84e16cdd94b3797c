package pool_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bollard/ca"
	"bollard/contract"
	"bollard/contract/pool"
	"bollard/iso15118/message"
	"bollard/iso15118/signature"
	"bollard/keys"
	"bollard/store"
)

const (
	emaid = "NLEXA123456789"
	pcid  = "WP0TESTA00000001A3"
)

// house is a provider with a pool, over the real database.
type house struct {
	t         *testing.T
	authority *ca.Authority
	contracts *contract.Service
	store     *store.Store
	tokens    *pool.Tokens
	door      *pool.Door
	now       atomic.Int64
	served    []string
}

func (h *house) clock() time.Time { return time.Unix(h.now.Load(), 0).UTC() }

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t}
	h.now.Store(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).Unix())
	dir := t.TempDir()
	var err error
	check := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	h.store, err = store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "bollard.db"), Clock: h.clock})
	check()
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	keeper, err := keys.New(keys.Config{Dir: filepath.Join(dir, "keys")})
	check()
	err = ca.Init(t.Context(), ca.InitConfig{Store: h.store, Keeper: keeper, Kind: ca.KindCSMS, Organisation: "Example MO", Country: "NL", StatusURL: "http://status.example.com", Clock: h.clock})
	check()
	h.authority, err = ca.New(t.Context(), ca.Config{Store: h.store, Keeper: keeper, Organisation: "Example MO", Country: "NL", StatusURL: "http://status.example.com", Clock: h.clock})
	check()
	for _, kind := range []ca.Kind{ca.KindV2G, ca.KindMO, ca.KindOEM, ca.KindCPS} {
		err = h.authority.Create(t.Context(), kind, "operator")
		check()
	}
	h.contracts, err = contract.New(t.Context(), contract.Config{Store: h.store, Authority: h.authority, Clock: h.clock})
	check()
	h.tokens = &pool.Tokens{Store: h.store, Clock: h.clock}
	h.door, err = pool.NewDoor(pool.DoorConfig{Tokens: h.tokens, Contracts: h.contracts, Authority: h.authority, Clock: h.clock,
		Served: func(operation string, status int) { h.served = append(h.served, operation) }})
	check()
	return h
}

// client is one of the pool's.
type client struct {
	h              *house
	secret, bearer string
}

func (h *house) client(name string, role pool.Role, only ...string) *client {
	h.t.Helper()
	_, secret, err := h.tokens.Add(h.t.Context(), "operator", name, role, only)
	if err != nil {
		h.t.Fatal(err)
	}
	c := &client{h: h, secret: secret}
	c.login(name)
	return c
}

func (c *client) login(name string) {
	c.h.t.Helper()
	var token struct {
		Token   string  `json:"access_token"`
		Type    string  `json:"token_type"`
		Seconds float64 `json:"expires_in"`
	}
	status, body := c.do("POST", "/oauth/token", map[string]string{"client_id": name, "client_secret": c.secret, "audience": "x", "grant_type": "client_credentials"})
	if err := json.Unmarshal(body, &token); err != nil || status != 200 || token.Type != "Bearer" || token.Seconds != 3600 {
		c.h.t.Fatalf("no access token: %d %s", status, body)
	}
	c.bearer = token.Token
}

func (c *client) do(method, path string, in any, edit ...func(*http.Request)) (int, []byte) {
	c.h.t.Helper()
	text, ok := in.(string)
	if !ok && in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			c.h.t.Fatal(err)
		}
		text = string(raw)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(text))
	r.TLS = &tls.ConnectionState{}
	r.Header.Set("Content-Type", "application/json")
	if c.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	for _, f := range edit {
		f(r)
	}
	w := httptest.NewRecorder()
	c.h.door.ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}

// born makes a car of the own manufacturer's.
func (h *house) born(pcid string) (*ecdsa.PrivateKey, []*x509.Certificate) {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	proven, err := ca.GeneratedKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	prepared, err := h.authority.Prepare(h.t.Context(), ca.Order{Profile: ca.ProfileProvisioning, Key: proven, Subject: ca.Subject{CommonName: pcid}, Requester: "operator"})
	if err != nil {
		h.t.Fatal(err)
	}
	issued, err := h.authority.Issue(h.t.Context(), prepared)
	if err != nil {
		h.t.Fatal(err)
	}
	return key, append([]*x509.Certificate{issued.Certificate}, issued.Chain...)
}

func b64(der []byte) string { return base64.StdEncoding.EncodeToString(der) }

func carBody(chain []*x509.Certificate) map[string]string {
	return map[string]string{"vehicleCertificate": b64(chain[0].Raw), "subCA2Certificate": b64(chain[1].Raw), "subCA1Certificate": b64(chain[2].Raw)}
}

func (h *house) contractBody(account, car string, ends time.Duration) map[string]string {
	return map[string]string{"contractBegins": h.clock().Format(time.RFC3339), "contractEnds": h.clock().Add(ends).Format(time.RFC3339),
		"emaid": account, "pcid": car, "xsdMsgDefNamespace": message.Namespace2}
}

// asked is a car's signed request.
func asked(t *testing.T, key *ecdsa.PrivateKey, leaf *x509.Certificate) map[string]string {
	t.Helper()
	r := &message.Request{Protocol: message.ISO2, Header: message.Header{Session: []byte{1, 2, 3, 4, 5, 6, 7, 8}}, ID: "id1",
		Chain: message.Chain{Certificate: leaf.Raw}, Roots: []message.RootID{{Issuer: "CN=V2G", Serial: big.NewInt(1)}}}
	sig, err := signature.Sign(rand.Reader, key, r.Protocol.Set(), r.Signed()...)
	if err != nil {
		t.Fatal(err)
	}
	r.Signature = &sig
	exi, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"certificateInstallationReq": b64(exi), "xsdMsgDefNamespace": message.Namespace2}
}

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// kinds are the ledger's newest entries of the pool, oldest first.
func (h *house) kinds(actor string) string {
	h.t.Helper()
	var list []string
	for e, err := range h.store.Entries(h.t.Context(), 1) {
		if err != nil {
			h.t.Fatal(err)
		}
		for _, value := range e.Data {
			if strings.Contains(value, emaid) || strings.Contains(value, pcid) {
				h.t.Errorf("%s names a person or a car", e.Kind)
			}
		}
		if e.Actor == actor && !strings.HasPrefix(e.Kind, "certificate.") {
			list = append(list, e.Kind)
		}
	}
	return strings.Join(list, " ")
}
