package step_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/ca"
	"bollard/ca/step"
	"bollard/fleet"
)

// A certificate by a key's token and by a certificate's, renewed by its key, revoked by a
// token and by its key; all of it is in the ledger.
func TestStory(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := newOutside(t)
	r.x5c("deployers", root)
	key := newKey(t)
	for name, by := range map[string]*signer{"JWK": r.jwk("ops"), "X5C": holder("deployers", key, root.leaf(t, key))} {
		shown, cert := r.certified(by, "a.two.example", "one.example")
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(r.authority.Roots(ca.KindCSMS)[0])
		issuing, err := x509.ParseCertificate(shown.Certificate[1])
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(issuing)
		for _, host := range []string{"one.example", "a.two.example"} {
			if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host, CurrentTime: start}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || cert.Subject.CommonName != "a.two.example" || len(cert.DNSNames) != 2 {
			t.Errorf("%s: it says %s, %v, %v", name, cert.Subject, cert.DNSNames, cert.ExtKeyUsage)
		}
		renewed := r.do(http.MethodPost, "/1.0/renew", nil, shown).chain(t)[0]
		if renewed.SerialNumber.Cmp(cert.SerialNumber) == 0 || !bytes.Equal(renewed.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) || !renewed.NotAfter.Equal(cert.NotAfter) ||
			strings.Join(renewed.DNSNames, " ") != strings.Join(cert.DNSNames, " ") {
			t.Errorf("%s: renewed, it is another: %v until %s", name, renewed.DNSNames, renewed.NotAfter)
		}
		if got := r.revoke(r.token(by, "revoke", cert.SerialNumber.String()), cert, 4); got.status != http.StatusOK {
			t.Errorf("%s: by token: %d %s", name, got.status, got.body)
		}
		again := tls.Certificate{Certificate: [][]byte{renewed.Raw}, PrivateKey: shown.PrivateKey}
		if got := r.revoke("", renewed, 1, again); got.status != http.StatusOK {
			t.Errorf("%s: by its key: %d %s", name, got.status, got.body)
		}
		for serial, reason := range map[string]string{ca.SerialOf(cert): "superseded", ca.SerialOf(renewed): "keyCompromise"} {
			record, err := r.store.Certificate(t.Context(), serial)
			if err != nil || record.State != ca.StateRevoked || record.Reason != reason || record.Profile != ca.ProfileServer || !strings.HasPrefix(record.Requester, "step:"+by.name+"/") {
				t.Errorf("%s: %+v, %v", name, record.State, err)
			}
		}
	}
	if used := r.events("step.token-used"); len(used) != 4 || used[0].Data["names"] != "a.two.example one.example" || used[1].Data["for"] != "revoke" {
		t.Errorf("the ledger doesn't tell which tokens were used: %+v", used)
	}
	if len(r.events("step.provisioner-added")) != 2 || len(r.events("certificate.issued")) < 4 || len(r.events("step.refused")) != 0 {
		t.Error("the ledger doesn't tell the story")
	}
}

func (r *rig) revoke(token string, cert *x509.Certificate, reason int, with ...tls.Certificate) answer {
	r.t.Helper()
	return r.do(http.MethodPost, "/1.0/revoke", map[string]any{"serial": cert.SerialNumber.String(), "ott": token, "reasonCode": reason, "reason": "someone's words", "passive": true}, with...)
}

// What isn't listed doesn't exist; what is serves nobody else than its authoriser, under
// this server's name alone.
func TestOperations(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *step.Config) { c.ACME = []string{"names"} })
	r.jwk("ops")
	root := newOutside(t)
	r.x5c("deployers", root)
	mine := r.authority.Roots(ca.KindCSMS)[0]
	sum := fingerprint(mine)
	for name, tt := range map[string]struct {
		method, path string
		in           any
		status       int
		holds        string
	}{
		"health":                  {"GET", "/health", nil, 200, `"ok"`},
		"health of 1.0":           {"GET", "/1.0/health", nil, 200, `"ok"`},
		"version":                 {"GET", "/version", nil, 200, `"1"`},
		"root":                    {"GET", "/root/" + sum, nil, 200, "BEGIN CERTIFICATE"},
		"root in capitals":        {"GET", "/1.0/root/" + strings.ToUpper(sum), nil, 200, "BEGIN CERTIFICATE"},
		"another root":            {"GET", "/root/" + fingerprint(root.cert), nil, 404, ""},
		"no root":                 {"GET", "/root/", nil, 404, ""},
		"roots":                   {"GET", "/roots", nil, 201, "BEGIN CERTIFICATE"},
		"provisioners":            {"GET", "/provisioners?limit=100", nil, 200, `"type":"ACME"`},
		"health by POST":          {"POST", "/health", "{}", 405, ""},
		"sign by GET":             {"GET", "/sign", nil, 405, ""},
		"encrypted key":           {"GET", "/provisioners/x/encrypted-key", nil, 404, ""},
		"rekey":                   {"POST", "/rekey", "{}", 404, ""},
		"renewal by its old name": {"POST", "/re-sign", "{}", 404, ""},
		"SSH":                     {"POST", "/1.0/ssh/sign", "{}", 404, ""},
		"CRL":                     {"GET", "/crl", nil, 404, ""},
		"administration":          {"GET", "/1.0/admin/provisioners", nil, 404, ""},
		"something below sign":    {"POST", "/sign/x", "{}", 404, ""},
		"1.0 twice":               {"POST", "/1.0/1.0/sign", "{}", 404, ""},
		"sign without a token":    {"POST", "/sign", map[string]string{"csr": "x"}, 400, ""},
		"sign without a request":  {"POST", "/sign", map[string]string{"ott": "x"}, 400, ""},
		"sign with templates":     {"POST", "/sign", map[string]string{"csr": "x", "ott": "x", "templateData": "x"}, 400, ""},
		"sign with two tokens":    {"POST", "/sign", `{"csr":"x","ott":"x","ott":"y"}`, 400, ""},
		"sign with a list":        {"POST", "/sign", `{"csr":["x"],"ott":"x"}`, 400, ""},
		"something behind":        {"POST", "/sign", `{"csr":"x","ott":"x"}{}`, 400, ""},
		"too much":                {"POST", "/sign", strings.Repeat(" ", 65<<10), 413, ""},
		"renewal by nobody":       {"POST", "/renew", nil, 401, ""},
		"revocation by nobody":    {"POST", "/revoke", `{"serial":"17","passive":true}`, 401, ""},
		"revocation of nothing":   {"POST", "/revoke", `{"passive":true}`, 400, ""},
		"revocation of a text":    {"POST", "/revoke", `{"serial":"x","passive":true}`, 400, ""},
		"revocation for a while":  {"POST", "/revoke", `{"serial":"17","passive":true,"reasonCode":6}`, 400, ""},
		"revocation as a CA":      {"POST", "/revoke", `{"serial":"17","passive":true,"reasonCode":2}`, 400, ""},
		"active revocation":       {"POST", "/revoke", `{"serial":"17"}`, 501, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.do(tt.method, tt.path, tt.in)
			if got.status != tt.status || !strings.Contains(string(got.body), tt.holds) {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
	var list struct {
		Provisioners []struct {
			Type, Name string
			Key        map[string]string
			Roots      []byte
		}
	}
	if err := json.Unmarshal(r.do(http.MethodGet, "/provisioners", nil).body, &list); err != nil || len(list.Provisioners) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	block, _ := pem.Decode(list.Provisioners[0].Roots)
	if block == nil || string(block.Bytes) != string(root.cert.Raw) || list.Provisioners[1].Key["kid"] == "" || list.Provisioners[1].Key["d"] != "" {
		t.Errorf("provisioners are shown as %+v", list)
	}
	for name, edit := range map[string]func(*http.Request){
		"another name": func(q *http.Request) { q.Host = "ca.example" },
		"another type": func(q *http.Request) { q.Header.Set("Content-Type", "text/plain") },
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.server.URL+"/sign", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		edit(req)
		if got := r.send(req); got.status != http.StatusMisdirectedRequest && got.status != http.StatusUnsupportedMediaType {
			t.Errorf("%s: %d", name, got.status)
		}
	}
}

// Names are the provisioner's, and nobody else's: neither Bollard's nor a station's.
func TestNames(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	by := r.jwk("ops", "one.example", "*.two.example", "cs-7", "sn-0007", "alias-7", "deabce1")
	if err := r.store.AddStations(t.Context(), []fleet.Station{{Identity: "CS-7", Serial: "SN-0007", Aliases: []string{"Alias-7"}, SECCs: []fleet.SECC{{ID: "DE*ABC*E1"}}}}); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		host string
		why  string // of the refusal; "": none
	}{
		"to the letter":      {"one.example", ""},
		"in capitals":        {"ONE.example", ""},
		"below":              {"a.two.example", ""},
		"far below":          {"a.b.two.example", ""},
		"another":            {"three.example", "isn't a name of provisioner ops"},
		"below the letter":   {"a.one.example", "isn't a name of provisioner ops"},
		"what is above":      {"two.example", "isn't a name of provisioner ops"},
		"Bollard's own":      {"own.two.example", "is Bollard's own"},
		"Bollard's, shouted": {"OWN.two.example", "is Bollard's own"},
		"a station":          {"cs-7", "a station is known by"},
		"its serial number":  {"sn-0007", "a station is known by"},
		"its alias":          {"alias-7", "a station is known by"},
		"its SECC":           {"deabce1", "a station is known by"},
		"a wildcard":         {"*.two.example", "no host name"},
		"an address":         {"192.0.2.1", "no host name"},
		"a URI":              {"https://one.example", "no host name"},
		"an e-mail address":  {"a@one.example", "no host name"},
		"nothing after all":  {"a..two.example", "no host name"},
	} {
		t.Run(name, func(t *testing.T) {
			before, refusals := r.issued(), len(r.events("step.refused"))
			got := r.sign(r.token(by, "sign", tt.host), csr(t, newKey(t), tt.host))
			if tt.why == "" {
				if cert := got.chain(t)[0]; cert.DNSNames[0] != strings.ToLower(tt.host) {
					t.Errorf("it is for %v", cert.DNSNames)
				}
				return
			}
			refused := r.events("step.refused")
			if got.status != http.StatusForbidden || r.issued() != before || len(refused) != refusals+1 || !strings.Contains(refused[refusals].Data["why"], tt.why) {
				t.Errorf("%d %s, refused: %+v", got.status, got.body, refused[refusals:])
			}
		})
	}
}

// A provisioner doesn't ask as often as it likes, and doesn't make another one pay.
func TestLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root, key := newOutside(t), newKey(t)
	r.x5c("deployers", root)
	by, other := holder("deployers", key, root.leaf(t, key)), r.jwk("others")
	// Who finds an old token costs the provisioner nothing.
	old := r.token(by, "sign", "one.example", spoil("exp", start.Add(-2*time.Minute).Unix()))
	if got := r.sign(old, "x"); got.status != http.StatusUnauthorized {
		t.Errorf("an old token: %d %s", got.status, got.body)
	}
	for range step.PerProvisioner {
		if got := r.sign(r.token(by, "sign", "three.example"), "x"); got.status != http.StatusForbidden {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	// Beyond it nothing is written.
	more := newKey(t)
	leaf := root.leaf(t, more)
	if got := r.sign(r.token(holder("deployers", more, leaf), "sign", "one.example"), csr(t, newKey(t), "one.example")); got.status != http.StatusTooManyRequests {
		t.Errorf("%d %s", got.status, got.body)
	}
	if _, known, err := r.authority.Status(t.Context(), leaf); err != nil || known {
		t.Errorf("its signer is on record: %t, %v", known, err)
	}
	r.certified(other, "one.example")
	r.pass(time.Minute)
	r.certified(by, "one.example")
	if got := len(r.events("step.refused")); got != step.PerProvisioner {
		t.Errorf("%d refusals are on record", got)
	}
}

// Anybody brings about refusals: one address so many, and all of them so many lines of the
// log.
func TestStrangersDontFillTheLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r := newRig(t, func(c *step.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	r.jwk("ops")
	ask := func(address string) int {
		w, req := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1/sign", nil)
		req.RemoteAddr = address
		r.server.Config.Handler.ServeHTTP(w, req)
		return w.Code
	}
	for range step.PerSource {
		if got := ask("192.0.2.1:1"); got != http.StatusMethodNotAllowed {
			t.Fatalf("status %d", got)
		}
	}
	if got := ask("192.0.2.1:2"); got != http.StatusTooManyRequests {
		t.Errorf("one more: %d", got)
	}
	if got := ask("192.0.2.2:1"); got != http.StatusMethodNotAllowed {
		t.Errorf("another address: %d", got)
	}
	lines := strings.Count(log.String(), "request of step refused")
	if lines == 0 || lines > 60 {
		t.Errorf("%d lines", lines)
	}
	r.pass(time.Second)
	ask("192.0.2.2:1")
	if want := fmt.Sprintf("unlogged=%d", step.PerSource+2-lines); !strings.Contains(log.String(), want) {
		t.Errorf("the log doesn't say %s", want)
	}
	// Nor by what can't be served.
	r.pass(time.Hour)
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if got := ask("192.0.2.3:1"); got != http.StatusServiceUnavailable {
			t.Fatalf("status %d", got)
		}
	}
	if lines := strings.Count(log.String(), "couldn't serve"); lines == 0 || lines > 60 {
		t.Errorf("%d lines of what can't be served", lines)
	}
}

// A token is good once, and for the provisioner it was made for: one that is added again with
// its name and key is another.
func TestProvisionerAddedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	by := r.jwk("ops")
	again := func() {
		t.Helper()
		if _, err := step.Remove(t.Context(), r.store, "operator", "ops"); err != nil {
			t.Fatal(err)
		}
		r.add("ops", by.key.(*ecdsa.PrivateKey), r.clock(), "one.example")
	}
	used, unused := r.token(by, "sign", "one.example"), r.token(by, "sign", "one.example")
	r.sign(used, csr(t, newKey(t), "one.example")).chain(t)
	for _, tt := range []struct {
		name, token, why string
	}{
		{"used, within a second", used, "used already"},
		{"unused, a second later", unused, "from before"},
	} {
		again()
		if got := r.sign(tt.token, csr(t, newKey(t), "one.example")); got.status != http.StatusUnauthorized || !strings.Contains(got.message, tt.why) {
			t.Errorf("%s: %d %s", tt.name, got.status, got.body)
		}
		r.pass(time.Second)
	}
	r.certified(by, "one.example")
	// Another's identifiers are its own.
	for _, by := range []*signer{by, r.jwk("others")} {
		r.sign(r.token(by, "sign", "one.example", spoil("jti", "1")), csr(t, newKey(t), "one.example")).chain(t)
	}
}

// Two who come with one token at the same moment get one certificate.
func TestTokenIsUsedOnceAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.token(r.jwk("ops"), "sign", "one.example")
	var wg sync.WaitGroup
	var statuses [4]int
	for i := range statuses {
		request := csr(t, newKey(t), "one.example")
		wg.Go(func() { statuses[i] = r.sign(token, request).status })
	}
	wg.Wait()
	good := 0
	for _, status := range statuses {
		switch status {
		case http.StatusCreated:
			good++
		case http.StatusUnauthorized:
		default:
			t.Errorf("status %d", status)
		}
	}
	if good != 1 || r.issued() != 1 || len(r.events("step.token-used")) != 1 {
		t.Errorf("%d answers, %d certificates, %d uses", good, r.issued(), len(r.events("step.token-used")))
	}
}
