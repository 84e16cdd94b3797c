package pool_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"bollard/ca"
	"bollard/contract/pool"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
)

// Contract data that a provider made and had signed is kept for its car, in the public
// shape, and given to it; nobody else's accounts, no car that isn't in the pool, nothing
// that can't be read.
func TestKeep(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	mo, oem, cpo := h.client("provider", pool.RoleMO, "NL-EXA"), h.client("maker", pool.RoleOEM, "WP0"), h.client("stations", pool.RoleCPO)
	other := h.client("other", pool.RoleMO, "DE-ABC")
	account := identifier.EMAID(emaid).Full()
	data := h.dataOf(account)
	if err := h.contracts.SignFor(t.Context(), "pool:provider", account, data); err != nil {
		t.Fatal(err)
	}
	data.Session, data.Code = make([]byte, 8), "OK"
	const path = "/v1/ccp/signedContractData"
	body := func(change func(map[string]string)) map[string]string {
		in := map[string]string{"xsdMsgDefNamespace": message.Namespace2, "emaid": emaid, "pcid": pcid, "signedContractDataXML": inXML(t, data)}
		if change != nil {
			change(in)
		}
		return in
	}
	key, chain := h.born(pcid)
	if status, text := mo.do("PUT", path, body(nil)); status != http.StatusBadRequest || !strings.Contains(string(text), "isn't in the pool") {
		t.Errorf("a car that isn't in the pool: %d %s", status, text)
	}
	if status, text := oem.do("PUT", "/v1/oem/provCerts", carBody(chain)); status != http.StatusOK {
		t.Fatalf("the car isn't taken in: %d %s", status, text)
	}
	for name, tt := range map[string]struct {
		by     *client
		change func(map[string]string)
		status int
	}{
		"another provider's":   {other, nil, http.StatusForbidden},
		"by a manufacturer":    {oem, nil, http.StatusForbidden},
		"another account's":    {mo, func(in map[string]string) { in["emaid"] = "NL-EXA-987654321" }, http.StatusBadRequest},
		"another edition":      {mo, func(in map[string]string) { in["xsdMsgDefNamespace"] = message.Namespace20 }, http.StatusBadRequest},
		"no XML":               {mo, func(in map[string]string) { in["signedContractDataXML"] = b64([]byte("<a/>")) }, http.StatusBadRequest},
		"no base64":            {mo, func(in map[string]string) { in["signedContractDataXML"] = "*" }, http.StatusBadRequest},
		"changed under way":    {mo, func(in map[string]string) { in["signedContractDataXML"] = inXML(t, h.dataOf(account)) }, http.StatusBadRequest},
		"another car's number": {mo, func(in map[string]string) { in["pcid"] = "X" }, http.StatusBadRequest},
	} {
		if status, text := tt.by.do("PUT", path, body(tt.change)); status != tt.status {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if status, text := cpo.do("POST", path, asked(t, key, chain[0])); status != http.StatusNotFound {
		t.Fatalf("before anything is kept: %d %s", status, text)
	}
	if status, text := mo.do("PUT", path, body(nil)); status != http.StatusCreated {
		t.Fatalf("not kept: %d %s", status, text)
	}
	status, text := cpo.do("POST", path, asked(t, key, chain[0]))
	var out struct {
		CCP struct {
			Contents []struct {
				Message struct {
					Answer []byte `json:"certificateInstallationRes"`
					EMAID  string `json:"emaid"`
				} `json:"messageDef"`
			} `json:"emaidContent"`
		} `json:"CCPResponse"`
	}
	if err := json.Unmarshal(text, &out); err != nil || status != http.StatusOK || len(out.CCP.Contents) != 1 || out.CCP.Contents[0].Message.EMAID != string(account) {
		t.Fatalf("the car gets %d %s: %v", status, text, err)
	}
	a, err := message.DecodeResponse(message.ISO2, out.CCP.Contents[0].Message.Answer)
	if err != nil || string(a.Contract.Certificate) != string(data.Contract.Certificate) || string(a.Key) != string(data.Key) {
		t.Errorf("the car gets another one: %v", err)
	}
	for _, c := range []struct {
		by   *client
		path string
	}{{mo, "/v1/ccp/lookupContract/" + emaid}, {oem, path + "/" + pcid}} {
		if status, text := c.by.do("GET", c.path, nil); status != http.StatusOK || !strings.Contains(string(text), b64(data.Contract.Certificate)) {
			t.Errorf("%s: %d %s", c.path, status, text)
		}
	}
	if status, text := mo.do("DELETE", path+"/"+emaid, nil); status != http.StatusOK {
		t.Errorf("not taken back: %d %s", status, text)
	}
	if status, _ := mo.do("DELETE", path+"/"+emaid, nil); status != http.StatusNotFound {
		t.Errorf("taken back twice: %d", status)
	}
	if status, _ := cpo.do("POST", path, asked(t, key, chain[0])); status != http.StatusNotFound {
		t.Errorf("given after it was taken back: %d", status)
	}
	// A car that leaves the pool leaves nothing behind.
	if status, _ := mo.do("PUT", path, body(nil)); status != http.StatusCreated {
		t.Fatalf("not kept again: %d", status)
	}
	if status, _ := oem.do("DELETE", "/v1/oem/provCerts/"+pcid, nil); status != http.StatusOK {
		t.Fatalf("the car doesn't leave: %d", status)
	}
	if kept, err := h.contracts.AllKept(t.Context()); err != nil || len(kept) != 0 {
		t.Errorf("left behind: %v, %v", kept, err)
	}
}

// The edition that is shown of a contract is that of its certificate's profile, on any curve.
func TestNamespaceOfAContract(t *testing.T) {
	t.Parallel()
	for _, profile := range ca.ContractProfiles() {
		want := message.Namespace20
		if profile == "contract" {
			want = message.Namespace2
		}
		if got := pool.NamespaceOf(profile); got != want {
			t.Errorf("%s is shown as %s", profile, got)
		}
	}
}

// inXML is an answer in XML, in base64.
func inXML(t *testing.T, a *message.Response) string {
	t.Helper()
	a.Session, a.Code = make([]byte, 8), "OK"
	a.SetIDs()
	if a.CPS.Certificate == nil {
		a.CPS = a.Contract
	}
	text, err := pool.InXML(a)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(text)
}
