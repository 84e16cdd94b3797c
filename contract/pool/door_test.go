package pool_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/ca"
	"bollard/contract"
	"bollard/contract/pool"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/ledger"
	"bollard/store"
)

// A manufacturer brings a car, a provider has a contract made, an operator's car gets
// it, and each of them ends what is theirs: all of it on record.
func TestPool(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	key, chain := h.born(pcid)
	oem, mo, cpo := h.client("maker", pool.RoleOEM, "WP0"), h.client("provider", pool.RoleMO, "NL-EXA"), h.client("operator", pool.RoleCPO)
	step := func(c *client, want int, method, path string, in any) []byte {
		t.Helper()
		status, body := c.do(method, path, in)
		if status != want {
			t.Errorf("%s %s: %d %s", method, path, status, body)
		}
		return body
	}
	body := h.contractBody("nl-exa-123456789", pcid, 90*day)
	step(mo, 400, "PUT", "/v1/cps/generate/signedContractData", body) // no such car yet
	step(oem, 200, "PUT", "/v1/oem/provCerts", carBody(chain))
	step(mo, 201, "PUT", "/v1/cps/generate/signedContractData", body)
	var car struct{ OEMMessage map[string]string }
	if err := json.Unmarshal(step(mo, 200, "GET", "/v1/oem/provCerts/"+pcid, nil), &car); err != nil || car.OEMMessage["vehicleCertificate"] != b64(chain[0].Raw) ||
		car.OEMMessage["subCA2Certificate"] != b64(chain[1].Raw) || car.OEMMessage["subCA1Certificate"] != b64(chain[2].Raw) {
		t.Errorf("the car's certificates: %v, %v", car, err)
	}
	if got := step(mo, 200, "GET", "/v1/oem/lookupVehicle/"+pcid, nil); !bytes.Contains(got, []byte(message.Namespace2)) {
		t.Errorf("the car: %s", got)
	}
	var found struct {
		List []struct {
			EMAID       string `json:"emaid"`
			Certificate []byte `json:"contractCertificate"`
			To          time.Time
		} `json:"XMLContracts"`
	}
	if err := json.Unmarshal(step(mo, 200, "GET", "/v1/ccp/lookupContract/"+emaid, nil), &found); err != nil || len(found.List) != 1 || !strings.HasPrefix(found.List[0].EMAID, emaid) {
		t.Fatalf("the contract: %+v, %v", found, err)
	}
	cert, err := x509.ParseCertificate(found.List[0].Certificate)
	if err != nil || cert.NotAfter.After(h.clock().Add(90*day)) || cert.NotAfter.Before(h.clock().Add(89*day)) {
		t.Errorf("the contract's certificate doesn't end with it: %v", err)
	}
	var got struct {
		CCPResponse struct {
			EMAIDContent []struct {
				MessageDef struct {
					CertificateInstallationRes []byte
					EMAID                      string
				}
			}
		}
	}
	question := asked(t, key, chain[0])
	answer := func(want int) *message.Response {
		t.Helper()
		got.CCPResponse.EMAIDContent = nil
		if err := json.Unmarshal(step(cpo, want, "POST", "/v1/ccp/signedContractData", question), &got); err != nil || len(got.CCPResponse.EMAIDContent) != 1 {
			t.Fatalf("no answer: %+v, %v", got, err)
		}
		a, err := message.DecodeResponse(message.ISO2, got.CCPResponse.EMAIDContent[0].MessageDef.CertificateInstallationRes)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := answer(200); a.Code != "OK" || !bytes.Equal(a.Contract.Certificate, cert.Raw) {
		t.Errorf("the car gets %s, with another certificate than the one made ready: %t", a.Code, !bytes.Equal(a.Contract.Certificate, cert.Raw))
	}
	if account := got.CCPResponse.EMAIDContent[0].MessageDef.EMAID; account != cert.Subject.CommonName {
		t.Errorf("the answer is for %q, its certificate for %q", account, cert.Subject.CommonName)
	}
	// Longer, not shorter; then the next request gets a certificate up to the new end.
	step(mo, 400, "PUT", "/v1/cps/generate/signedContractData", h.contractBody(emaid, pcid, 60*day))
	step(mo, 201, "PUT", "/v1/cps/generate/signedContractData", h.contractBody(emaid, pcid, year))
	longer, err := x509.ParseCertificate(answer(200).Contract.Certificate)
	if err != nil || longer.NotAfter.Before(h.clock().Add(year-day)) {
		t.Errorf("made longer, the contract's certificate ends on %s: %v", longer.NotAfter, err)
	}
	step(mo, 200, "DELETE", "/v1/ccp/signedContractData/"+emaid, nil)
	step(mo, 404, "GET", "/v1/ccp/lookupContract/"+emaid, nil)
	if a := answer(404); a.Code != "FAILED_ContractCanceled" {
		t.Errorf("after its end the car gets %s", a.Code)
	}
	step(mo, 201, "PUT", "/v1/cps/generate/signedContractData", h.contractBody(emaid, pcid, year))
	step(oem, 200, "GET", "/v1/ccp/signedContractData/"+pcid, nil)
	step(oem, 200, "DELETE", "/v1/oem/provCerts/"+pcid, nil)
	step(oem, 404, "DELETE", "/v1/oem/provCerts/"+pcid, nil)
	if a := answer(404); a.Code != "FAILED_ContractCanceled" {
		t.Errorf("out of the pool the car gets %s", a.Code)
	}
	h.contracts.Flush(t.Context(), true) // the second of a kind is counted
	for actor, want := range map[string]string{
		"pool:maker":    "provisioning.added pool.read provisioning.removed contract.cancelled pool.refused",
		"pool:provider": "pool.refused contract.added pool.read pool.read pool.read contract.lengthened contract.cancelled pool.refused contract.added",
		"pool:operator": "contract.delivered contract.delivered contract.refused contract.refused",
	} {
		if log := h.kinds(actor); log != want {
			t.Errorf("on record of %s: %s", actor, log)
		}
	}
}

// Each role has its own operations, for its own accounts and cars; what isn't proven
// or isn't one's own leaves nothing behind.
func TestRoles(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, chain := h.born(pcid)
	_, foreign := h.born("WVWTESTA0000001A3")
	clients := map[string]*client{"oem": h.client("maker", pool.RoleOEM, "WP0"), "mo": h.client("provider", pool.RoleMO, "NLEXA"), "cpo": h.client("operator", pool.RoleCPO), "": {h: h}}
	if status, body := clients["oem"].do("PUT", "/v1/oem/provCerts", carBody(chain)); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	other := h.client("other", pool.RoleMO, "DEABC")
	if status, body := other.do("PUT", "/v1/cps/generate/signedContractData", h.contractBody("DEABC123456789", pcid, year)); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	for _, tt := range []struct {
		method, path string
		in           any
		oem, mo, cpo int
	}{
		{"PUT", "/v1/cps/contractData/signed", map[string]string{"emaid": emaid, "xsdMsgDefNamespace": message.Namespace2}, 403, 400, 403},
		{"PUT", "/v1/cps/contractData/signed", map[string]string{"emaid": emaid, "pcid": pcid, "xsdMsgDefNamespace": message.Namespace2}, 403, 400, 403},
		{"PUT", "/v1/cps/contractData/signed", map[string]string{"emaid": "DEABC123456789", "xsdMsgDefNamespace": message.Namespace2}, 403, 403, 403},
		{"PUT", "/v1/oem/provCerts", carBody(foreign), 403, 403, 403},
		{"PUT", "/v1/oem/provCerts", carBody(chain), 200, 403, 403},
		{"GET", "/v1/oem/provCerts/" + pcid, nil, 200, 200, 403},
		{"GET", "/v1/oem/provCerts/WVWTESTA0000001A3", nil, 403, 404, 403},
		{"GET", "/v1/oem/lookupVehicle/" + pcid, nil, 200, 200, 403},
		{"DELETE", "/v1/oem/provCerts/WVWTESTA0000001A3", nil, 403, 403, 403},
		{"GET", "/v1/ccp/signedContractData/" + pcid, nil, 200, 403, 403},
		{"GET", "/v1/ccp/lookupContract/DEABC123456789", nil, 403, 403, 403},
		{"DELETE", "/v1/ccp/signedContractData/DEABC123456789", nil, 403, 403, 403},
		{"PUT", "/v1/cps/generate/signedContractData", h.contractBody("DEABC123456780", pcid, year), 403, 403, 403},
		{"PUT", "/v1/cps/generate/signedContractData", h.contractBody(emaid, pcid, time.Hour), 403, 400, 403},
		{"PUT", "/v1/cps/generate/signedContractData", h.contractBody(emaid, pcid, year), 403, 201, 403},
		{"POST", "/v1/ccp/signedContractData", map[string]string{"certificateInstallationReq": "AAAA", "xsdMsgDefNamespace": message.Namespace2}, 403, 403, 400},
		{"GET", "/v1/root/rootCerts", nil, 200, 200, 200},
		{"GET", "/v1/root/rootCerts/00", nil, 404, 404, 404},
		{"GET", "/v1/elsewhere", nil, 404, 404, 404},
		{"PATCH", "/v1/root/rootCerts", nil, 404, 404, 404},
	} {
		for role, want := range map[string]int{"oem": tt.oem, "mo": tt.mo, "cpo": tt.cpo, "": 401} {
			if role == "" && (tt.path == "/v1/elsewhere" || tt.method == "PATCH") {
				want = 404
			}
			if status, body := clients[role].do(tt.method, tt.path, tt.in); status != want {
				t.Errorf("%s %s as %q: %d %s, want %d", tt.method, tt.path, role, status, body, want)
			}
		}
	}
	if list, err := h.contracts.By(t.Context(), "DEABC123456789"); err != nil || len(list) != 1 || !list[0].InForce(h.clock()) {
		t.Errorf("another provider's contract: %+v, %v", list, err)
	}
	if list, err := h.contracts.Provisioning(t.Context(), "WVWTESTA0000001A3"); err != nil || len(list) != 0 {
		t.Errorf("another manufacturer's car: %+v, %v", list, err)
	}
	plain := httptest.NewRequest(http.MethodGet, "/v1/root/rootCerts", nil)
	plain.Header.Set("Authorization", "Bearer "+clients["cpo"].bearer)
	w := httptest.NewRecorder()
	if h.door.ServeHTTP(w, plain); w.Code != http.StatusForbidden {
		t.Errorf("without TLS: %d", w.Code)
	}
}

// The roots of a pool, each with its type.
func TestRoots(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	c := h.client("operator", pool.RoleCPO)
	var all struct {
		RootCertificateCollection struct {
			RootCertificates []struct{ RootCertificateId, RootType, CaCertificate, Fingerprint string }
		}
	}
	for query, want := range map[string]int{"": 3, "?rootType=MO": 1, "?rootType=v2g,oem": 2, "?rootType=PE": 0} {
		status, body := c.do("GET", "/v1/root/rootCerts"+query, nil)
		if err := json.Unmarshal(body, &all); err != nil || status != 200 || len(all.RootCertificateCollection.RootCertificates) != want {
			t.Errorf("%q: %d %s, %v", query, status, body, err)
		}
	}
	_, body := c.do("GET", "/v1/root/rootCerts?rootType=V2G", nil)
	if err := json.Unmarshal(body, &all); err != nil {
		t.Fatal(err)
	}
	root := all.RootCertificateCollection.RootCertificates[0]
	if root.CaCertificate != b64(h.authority.Roots(ca.KindV2G)[0].Raw) {
		t.Error("another V2G root")
	}
	if status, body := c.do("GET", "/v1/root/rootCerts/"+root.RootCertificateId, nil); status != 200 || !bytes.Contains(body, []byte(root.Fingerprint)) {
		t.Errorf("by its ID: %d %s", status, body)
	}
}

// An access token ends by itself, with its token, and when the token is made anew; a
// secret is right or tells nothing.
func TestTokensEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	c := h.client("operator", pool.RoleCPO)
	works := func(what string, want int) {
		t.Helper()
		if status, _ := c.do("GET", "/v1/root/rootCerts", nil); status != want {
			t.Errorf("%s: %d", what, status)
		}
	}
	works("new", 200)
	h.now.Add(3599)
	works("nearly over", 200)
	h.now.Add(1)
	works("over", 401)
	c.login("operator")
	first := c.bearer
	for range 8 {
		c.login("operator")
	}
	newest := c.bearer
	c.bearer = first
	works("the ninth newest", 401)
	c.bearer = newest
	works("the newest", 200)
	for name, wrong := range map[string]string{"another secret": newest[:len(newest)-1] + "x", "no secret": "operator.", "no name": "." + newest[9:], "another name": "x" + newest, "none": ""} {
		c.bearer = wrong
		works(name, 401)
	}
	c.bearer = newest
	if status, _ := c.do("GET", "/v1/root/rootCerts", nil, func(r *http.Request) { r.Header.Set("Authorization", "Basic "+newest) }); status != 401 {
		t.Errorf("as Basic: %d", status)
	}
	if _, err := h.tokens.Revoke(t.Context(), "operator", "operator"); err != nil {
		t.Fatal(err)
	}
	works("revoked", 401)
	old := c.secret
	if status, _ := c.do("POST", "/oauth/token", map[string]string{"client_id": "operator", "client_secret": old, "audience": "x", "grant_type": "client_credentials"}); status != 401 {
		t.Errorf("a revoked secret: %d", status)
	}
	if _, secret, err := h.tokens.Add(t.Context(), "operator", "operator", pool.RoleCPO, nil); err != nil || secret == old {
		t.Fatalf("made anew: %v", err)
	}
	works("of the token before", 401)
	for name, tt := range map[string]struct {
		in   any
		want int
	}{
		"the old secret":     {map[string]string{"client_id": "operator", "client_secret": old, "audience": "x", "grant_type": "client_credentials"}, 401},
		"nobody":             {map[string]string{"client_id": "nobody", "client_secret": old, "audience": "x", "grant_type": "client_credentials"}, 401},
		"no secret":          {map[string]string{"client_id": "operator", "grant_type": "client_credentials"}, 401},
		"another grant":      {map[string]string{"client_id": "operator", "client_secret": old, "grant_type": "password"}, 400},
		"no JSON":            {"client_id=operator", 400},
		"read in two ways":   {`{"client_id":"operator","client_id":"x"}`, 400},
		"more than anything": {`{"client_id":"` + strings.Repeat("x", 70<<10) + `"}`, 400},
	} {
		if status, body := c.do("POST", "/oauth/token", tt.in); status != tt.want || bytes.Contains(body, []byte("operator")) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if stored, _, err := h.store.PoolToken(t.Context(), "operator"); err != nil || len(stored.Hash) != 32 || bytes.Contains(stored.Hash, []byte(old[:8])) {
		t.Errorf("stored: %+v, %v", stored, err)
	}
	if !strings.HasSuffix(h.kinds("operator"), "pool.token-added pool.token-revoked pool.token-added") {
		t.Errorf("on record: %s", h.kinds("operator"))
	}
}

// A token is made for what it is bound to, once.
func TestTokenScope(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for name, tt := range map[string]struct {
		id   string
		role pool.Role
		only []string
		ok   bool
	}{
		"maker":              {"maker", pool.RoleOEM, []string{"wp0", "WVW"}, true},
		"maker of all":       {"m2", pool.RoleOEM, nil, false},
		"maker of one car":   {"m3", pool.RoleOEM, []string{"WP0TESTA0000000123"}, false},
		"maker of a type":    {"m5", pool.RoleOEM, []string{"WP0TESTA000"}, true},
		"maker of seventeen": {"m6", pool.RoleOEM, []string{"WP0TESTA000000001"}, false},
		"maker of much":      {"m4", pool.RoleOEM, []string{"W"}, false},
		"provider":           {"p1", pool.RoleMO, []string{"nl-exa", "DEABC"}, true},
		"provider of all":    {"p2", pool.RoleMO, nil, false},
		"provider of a car":  {"p3", pool.RoleMO, []string{"WP0"}, false},
		"operator":           {"o1", pool.RoleCPO, nil, true},
		"bound operator":     {"o2", pool.RoleCPO, []string{"WP0"}, false},
		"no role":            {"x1", "admin", nil, false},
		"a name with a dot":  {"x.2", pool.RoleCPO, nil, false},
		"no name":            {"", pool.RoleCPO, nil, false},
		"a long name":        {strings.Repeat("x", 33), pool.RoleCPO, nil, false},
	} {
		made, secret, err := h.tokens.Add(t.Context(), "operator", tt.id, tt.role, tt.only)
		if (err == nil) != tt.ok || tt.ok && (len(secret) != 32 || made.Name != tt.id) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := h.tokens.Add(t.Context(), "operator", "maker", pool.RoleCPO, nil); !errors.Is(err, pool.ErrTokenExists) {
		t.Errorf("twice: %v", err)
	}
	if _, err := h.tokens.Revoke(t.Context(), "operator", "nobody"); !errors.Is(err, pool.ErrUnknownToken) {
		t.Errorf("nobody's: %v", err)
	}
	list, err := h.tokens.List(t.Context())
	if err != nil || len(list) != 4 || list[0].Name != "m5" || list[0].Hash != nil || list[3].Only[0] != "NLEXA" {
		t.Errorf("list: %+v, %v", list, err)
	}
}

// What a client sends is bounded, in size and number, and read in one way or not at all.
func TestPoolBodies(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, chain := h.born(pcid)
	oem, cpo := h.client("maker", pool.RoleOEM, "WP0"), h.client("operator", pool.RoleCPO)
	stranger := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: chain[0].Subject, NotBefore: h.clock().Add(-day), NotAfter: h.clock().Add(day)}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := x509.CreateCertificate(rand.Reader, stranger, stranger, own.Public(), own)
	if err != nil {
		t.Fatal(err)
	}
	noDER := map[string]string{"vehicleCertificate": "AAAA", "subCA1Certificate": "AAAA"}
	form := func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }
	for name, tt := range map[string]struct {
		c      *client
		method string
		path   string
		in     any
		edit   func(*http.Request)
		want   int
	}{
		"no JSON":               {oem, "PUT", "/v1/oem/provCerts", "x", nil, 400},
		"a form":                {oem, "PUT", "/v1/oem/provCerts", "x", form, 415},
		"large":                 {oem, "PUT", "/v1/oem/provCerts", `{"vehicleCertificate":"` + strings.Repeat("A", 70<<10) + `"}`, nil, 413},
		"read in two ways":      {oem, "PUT", "/v1/oem/provCerts", `{"vehicleCertificate":"A","vehiclecertificate":"B"}`, nil, 400},
		"nothing":               {oem, "PUT", "/v1/oem/provCerts", "{}", nil, 400},
		"no certificate":        {oem, "PUT", "/v1/oem/provCerts", noDER, nil, 400},
		"under nobody's root":   {oem, "PUT", "/v1/oem/provCerts", map[string]string{"vehicleCertificate": b64(foreign)}, nil, 400},
		"another schema":        {cpo, "POST", "/v1/ccp/signedContractData", map[string]string{"certificateInstallationReq": "AAAA", "xsdMsgDefNamespace": "urn:x"}, nil, 400},
		"no base64":             {cpo, "POST", "/v1/ccp/signedContractData", map[string]string{"certificateInstallationReq": "%", "xsdMsgDefNamespace": message.Namespace2}, nil, 400},
		"a PCID that isn't one": {oem, "GET", "/v1/oem/provCerts/WP0", nil, nil, 400},
	} {
		edit := tt.edit
		if edit == nil {
			edit = func(*http.Request) {}
		}
		if status, body := tt.c.do(tt.method, tt.path, tt.in, edit); status != tt.want {
			t.Errorf("%s: %d %s, want %d", name, status, body, tt.want)
		}
	}
	key, other := h.born("WP0TESTA00000002A3")
	question := asked(t, key, other[0])
	if status, body := cpo.do("POST", "/v1/ccp/signedContractData", question, func(r *http.Request) { r.Header.Set("alwaysReturnEXI", "false") }); status != 404 || !bytes.Contains(body, []byte("errorMessages")) {
		t.Errorf("in words: %d %s", status, body)
	}
	// One after the other, until the allowance is spent; others have their own.
	for n := 0; ; n++ {
		status, _ := oem.do("GET", "/v1/root/rootCerts", nil)
		if status == http.StatusTooManyRequests {
			break
		}
		if n > 300 {
			t.Fatal("no end of requests")
		}
	}
	if status, _ := cpo.do("GET", "/v1/root/rootCerts", nil); status != 200 {
		t.Errorf("another client's allowance: %d", status)
	}
	h.now.Add(10)
	if status, _ := oem.do("GET", "/v1/root/rootCerts", nil); status != 200 {
		t.Errorf("later: %d", status)
	}
	for _, operation := range h.served {
		if strings.Contains(operation, pcid) {
			t.Errorf("the metric names a car: %s", operation)
		}
	}
}

// leaving is a database through which a test acts at one moment of a write.
type leaving struct {
	*store.Store
	adding, removing func()
}

func (l *leaving) AddContract(ctx context.Context, c contract.Contract, events ...ledger.Event) error {
	if l.adding != nil {
		l.adding()
	}
	return l.Store.AddContract(ctx, c, events...)
}

func (l *leaving) RemoveProvisioning(ctx context.Context, pcid identifier.PCID, events ...ledger.Event) error {
	if l.removing != nil {
		l.removing()
	}
	return l.Store.RemoveProvisioning(ctx, pcid, events...)
}

// A car that leaves the pool takes with it the contracts that are made meanwhile; and a
// car has so many contracts, whoever adds them.
func TestCarLeaves(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	db := &leaving{Store: h.store}
	var err error
	if h.contracts, err = contract.New(t.Context(), contract.Config{Store: db, Authority: h.authority, Clock: h.clock}); err != nil {
		t.Fatal(err)
	}
	if h.door, err = pool.NewDoor(pool.DoorConfig{Tokens: h.tokens, Contracts: h.contracts, Authority: h.authority, Clock: h.clock}); err != nil {
		t.Fatal(err)
	}
	_, chain := h.born(pcid)
	oem, mo := h.client("maker", pool.RoleOEM, "WP0"), h.client("provider", pool.RoleMO, "NL-EXA")
	put := func() { oem.do("PUT", "/v1/oem/provCerts", carBody(chain)) }
	leave := func() int { status, _ := oem.do("DELETE", "/v1/oem/provCerts/"+pcid, nil); return status }
	sign := func(account string) int {
		status, _ := mo.do("PUT", "/v1/cps/generate/signedContractData", h.contractBody(account, pcid, year))
		return status
	}
	none := func(when string) {
		t.Helper()
		list, err := h.contracts.Of(t.Context(), pcid)
		if err != nil || len(list) == 0 {
			t.Fatalf("%s: %d contracts, %v", when, len(list), err)
		}
		for _, c := range list {
			if c.InForce(h.clock()) {
				t.Errorf("%s: a contract is in force of a car that isn't in the pool", when)
			}
		}
	}
	put()
	db.adding = func() {
		if status := leave(); status != 200 {
			t.Errorf("leaving: %d", status)
		}
	}
	if status := sign(emaid); status != 400 {
		t.Errorf("for a car that leaves: %d", status)
	}
	none("it left while the contract was added")
	db.adding = nil
	put()
	db.removing = func() {
		if status := sign(emaid); status != 201 {
			t.Errorf("for a car that is still there: %d", status)
		}
	}
	if status := leave(); status != 200 {
		t.Errorf("leaving: %d", status)
	}
	none("the contract was added while it left")
	if status := leave(); status != 404 {
		t.Errorf("left already: %d", status)
	}
	for n := range contract.MaxPerCar {
		c := contract.Contract{ID: strconv.Itoa(n), EMAID: identifier.EMAID(fmt.Sprintf("DEABC%09d", n)).Full(), PCID: pcid, State: contract.StateActive}
		if err := h.store.AddContract(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	put()
	if status := sign(emaid); status != 409 {
		t.Errorf("one contract too many: %d", status)
	}
}

// What a client is told to be found by is in the log; who guesses secrets is there once a
// minute.
func TestPoolLog(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var log bytes.Buffer
	var err error
	if h.door, err = pool.NewDoor(pool.DoorConfig{Tokens: h.tokens, Contracts: h.contracts, Authority: h.authority, Clock: h.clock, Log: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
		t.Fatal(err)
	}
	key, chain := h.born(pcid)
	_, body := h.client("operator", pool.RoleCPO).do("POST", "/v1/ccp/signedContractData", asked(t, key, chain[0]), func(r *http.Request) { r.Header.Set("alwaysReturnEXI", "false") })
	var problem struct{ TraceID string }
	if err := json.Unmarshal(body, &problem); err != nil || problem.TraceID == "" || !strings.Contains(log.String(), "trace="+problem.TraceID) {
		t.Errorf("%s, %v: not in the log\n%s", body, err, log.String())
	}
	stranger := &client{h: h}
	guess := func(source string) {
		t.Helper()
		status, body := stranger.do("POST", "/oauth/token", map[string]string{"client_id": "operator", "client_secret": "x", "grant_type": "client_credentials"}, func(r *http.Request) { r.RemoteAddr = source })
		if status != 401 {
			t.Errorf("a wrong secret: %d %s", status, body)
		}
	}
	lines := func(want int, what string) {
		t.Helper()
		if n := strings.Count(log.String(), "wrong secret"); n != want {
			t.Errorf("%s: %d lines, want %d", what, n, want)
		}
	}
	for n := range 5 {
		guess(fmt.Sprintf("192.0.2.1:%d", 1000+n))
		guess(fmt.Sprintf("[2001:db8::%d]:1000", 1+n))
	}
	lines(2, "two hosts")
	h.now.Add(60)
	guess("192.0.2.1:1")
	lines(3, "a minute later")
	for n := range 200 {
		guess(fmt.Sprintf("198.51.100.%d:1", n))
	}
	lines(2+64, "a crowd")
}

// A client that is refused on and on is on record, with how often; it doesn't fill the
// ledger.
func TestRefusalsAreCounted(t *testing.T) { // promises 12 and 15
	t.Parallel()
	h := newHouse(t)
	c := h.client("operator", pool.RoleCPO)
	for range 100 {
		if status, _ := c.do("GET", "/v1/oem/provCerts/"+pcid, nil); status != 403 {
			t.Fatal(status)
		}
	}
	h.door.Flush(t.Context(), false)
	if log := h.kinds("pool:operator"); log != "pool.refused" {
		t.Errorf("a hundred at once: %s", log)
	}
	h.door.Flush(t.Context(), true)
	var counts []string
	for e, err := range h.store.Entries(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == "pool.refused" {
			counts = append(counts, e.Data["count"])
		}
	}
	if diff := cmp.Diff([]string{"1", "99"}, counts); diff != "" {
		t.Error(diff)
	}
}
