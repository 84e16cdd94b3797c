package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bollard/iso15118/message"
	"bollard/ocpp"
	"bollard/station"
	"bollard/station/csms"
	"bollard/station/ev"
)

// house is a Bollard in this process with its commands.
type house struct {
	*rig
	t   *testing.T
	dir string
}

func newHouse(t *testing.T, backend string) *house {
	t.Helper()
	return &house{t: t, dir: newDataDir(t, backend)}
}

func (h *house) must(args ...string) string {
	h.t.Helper()
	var out, errs strings.Builder
	if code := run(h.t.Context(), append(args, "--data", h.dir), strings.NewReader(""), &out, &errs); code != 0 {
		h.t.Fatalf("bollard %s: exit code %d\n%s", strings.Join(args, " "), code, errs.String())
	}
	return out.String()
}

// write puts a file into the data directory and returns its path.
func (h *house) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// configure adds to bollard.yaml.
func (h *house) configure(text string) {
	h.t.Helper()
	file, err := os.OpenFile(filepath.Join(h.dir, configName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Close()); err != nil {
		h.t.Fatal(err)
	}
}

// member is somebody with a token of a house's pool.
type member struct {
	h              *house
	client         *http.Client
	id, secret     string
	bearer, origin string
}

func (h *house) member(name string, args ...string) *member {
	h.t.Helper()
	var made struct {
		Secret string `json:"client_secret"`
	}
	if err := json.Unmarshal([]byte(h.must(append([]string{"pool", "token", "add", name, "--json"}, args...)...)), &made); err != nil || made.Secret == "" {
		h.t.Fatalf("no secret of %s: %v", name, err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(h.must("ca", "root", "csms")))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}
	h.t.Cleanup(transport.CloseIdleConnections)
	m := &member{h: h, client: &http.Client{Transport: transport}, id: name, secret: made.Secret, origin: "https://" + h.at.PKI}
	var token struct {
		Token string `json:"access_token"`
	}
	status, body := m.ask("POST", "/oauth/token", map[string]string{"client_id": m.id, "client_secret": m.secret, "audience": m.origin, "grant_type": "client_credentials"})
	if err := json.Unmarshal(body, &token); err != nil || status != http.StatusOK {
		h.t.Fatalf("no access token for %s: %d %s", name, status, body)
	}
	m.bearer = token.Token
	return m
}

func (m *member) ask(method, path string, in any) (int, []byte) {
	m.h.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		m.h.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(m.h.t.Context(), method, m.origin+path, bytes.NewReader(body))
	if err != nil {
		m.h.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+m.bearer)
	answer, err := m.client.Do(request)
	if err != nil {
		m.h.t.Fatal(err)
	}
	defer answer.Body.Close()
	out, err := io.ReadAll(answer.Body)
	if err != nil {
		m.h.t.Fatal(err)
	}
	return answer.StatusCode, out
}

// bornIn makes a car whose provisioning certificate a house's own manufacturer issues.
func (h *house) bornIn(pcid string) *ev.Car {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		h.t.Fatal(err)
	}
	csr := h.write(pcid+".csr", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	car := &ev.Car{Protocol: message.ISO2, Key: key, Roots: x509.NewCertPool(), Clock: time.Now}
	if car.Chain, err = station.ParseCertificates([]byte(h.must("ca", "issue", "--profile", "oem-provisioning", "--name", pcid, "--csr", csr))); err != nil {
		h.t.Fatal(err)
	}
	car.Roots.AppendCertsFromPEM([]byte(h.must("ca", "root", "v2g")))
	return car
}

// hangs listens, and never says a word.
func hangs(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// Two Bollards: a car at a station of one gets its contract from the pool of the other,
// which its manufacturer and its provider have filled over REST. A pool that hangs costs
// the car no more than its patience.
func TestTwoBollards(t *testing.T) {
	t.Parallel()
	const pcid, emaid = "WP0TESTA00000001A3", "NLEXA123456789"
	// 1. The provider.
	far := newHouse(t, "ws://127.0.0.1:1/ocpp")
	for _, kind := range []string{"v2g", "mo", "oem", "cps"} {
		far.must("ca", "create", kind)
	}
	far.rig = startServer(t, far.dir)
	car := far.bornIn(pcid)
	maker, provider, operator := far.member("maker", "--role", "oem", "--only", "WP0"), far.member("provider", "--role", "mo", "--only", "NL-EXA"), far.member("operator", "--role", "cpo")
	der := func(i int) string { return base64.StdEncoding.EncodeToString(car.Chain[i].Raw) }
	if status, body := maker.ask("PUT", "/v1/oem/provCerts", map[string]string{"vehicleCertificate": der(0), "subCA2Certificate": der(1), "subCA1Certificate": der(2)}); status != http.StatusOK {
		t.Fatalf("the car's certificate: %d %s", status, body)
	}
	if status, body := provider.ask("PUT", "/v1/cps/generate/signedContractData", map[string]string{"contractBegins": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339),
		"contractEnds": time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339), "emaid": emaid, "pcid": pcid, "xsdMsgDefNamespace": message.Namespace2}); status != http.StatusCreated {
		t.Fatalf("the contract: %d %s", status, body)
	}
	// 2. The operator, who knows the provider's pool, its V2G root, and one that hangs.
	back, err := csms.New(t.Context(), csms.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(back.Close)
	near := newHouse(t, back.URL())
	near.write("far.pem", far.must("ca", "root", "csms"))
	near.write("secret", operator.secret)
	_, port, err := net.SplitHostPort(far.at.PKI)
	if err != nil {
		t.Fatal(err)
	}
	near.configure(fmt.Sprintf(`contracts:
  otherwise: backend
  pools:
    - {name: silent, url: "http://%s", client_id: near, secret_file: secret, providers: [DE-HNG], networks: [127.0.0.0/8]}
    - {name: far, url: "https://localhost:%s", client_id: operator, secret_file: secret, providers: [NL-EXA], trust: far.pem, networks: [127.0.0.0/8, "::1/128"]}
`, hangs(t), port))
	near.must("ca", "trust", "add", "--use", "v2g", near.write("v2g.pem", near.must("pool", "roots", "far", "--type", "v2g")))
	if got, want := near.must("pool", "roots", "far", "--type", "V2G"), far.must("ca", "root", "v2g"); !strings.Contains(got, want) || strings.Count(got, "BEGIN") != 1 {
		t.Errorf("the pool's roots:\n%s", got)
	}
	near.rig = startServer(t, near.dir)
	var added struct{ Password string }
	if err := json.Unmarshal([]byte(near.must("station", "add", "CS-1", "--serial", "SN-1", "--json")), &added); err != nil {
		t.Fatal(err)
	}
	roots, err := station.ParseCertificates([]byte(near.must("ca", "root", "csms")))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	st, err := station.New(ctx, station.Config{Identity: "CS-1", Serial: "SN-1", Version: ocpp.V21, URL: "wss://" + near.at.OCPP[0] + "/ocpp",
		ServerName: "localhost", Password: []byte(added.Password), Organisation: "Example CPO", Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	ask := func(accounts ...string) (*message.Response, *ev.Contract, time.Duration, error) {
		t.Helper()
		exi, err := car.Install()
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		raw, err := st.Call(ctx, ocpp.ActionGet15118EVCertificate, ocpp.Get15118EVCertificateRequest{SchemaVersion: message.Namespace2, Action: ocpp.EVCertificateInstall,
			EXIRequest: base64.StdEncoding.EncodeToString(exi), Prioritized: accounts})
		took := time.Since(begun)
		var answer ocpp.Get15118EVCertificateResponse
		if err == nil {
			err = json.Unmarshal(raw, &answer)
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := base64.StdEncoding.DecodeString(answer.EXIResponse)
		if err != nil {
			t.Fatal(err)
		}
		a, err := message.DecodeResponse(message.ISO2, out)
		if err != nil {
			t.Fatalf("no answer for the car: %v, %+v\n%s", err, answer, near.log)
		}
		got, _, err := car.Take(out, car.Key)
		return a, got, took, err
	}
	// 3. The one that has the provider's accounts answers.
	if _, got, _, err := ask(emaid); err != nil || !strings.HasPrefix(got.EMAID, emaid) {
		t.Fatalf("%+v, %v\n%s\n%s", got, err, near.log, far.log)
	}
	// 4. Only the one that hangs may have the account.
	if a, _, took, err := ask("DEHNG123456789"); !errors.Is(err, ev.ErrRefused) || a.Code != "FAILED_NoCertificateAvailable" || took > contractPatience || took < time.Second {
		t.Errorf("a pool that hangs: %s after %s, %v", a.Code, took, err)
	}
	// 5. What ends at the provider ends here.
	if status, body := provider.ask("DELETE", "/v1/ccp/signedContractData/"+emaid, nil); status != http.StatusOK {
		t.Fatalf("the contract's end: %d %s", status, body)
	}
	if a, _, _, err := ask(emaid); !errors.Is(err, ev.ErrRefused) || a.Code != "FAILED_ContractCanceled" {
		t.Errorf("after its end: %s, %v", a.Code, err)
	}
	// 6. A revoked token ends with its access tokens.
	far.must("pool", "token", "revoke", "operator")
	if status, _ := operator.ask("GET", "/v1/root/rootCerts", nil); status != http.StatusUnauthorized {
		t.Errorf("with a revoked token: %d", status)
	}
	// 7. An account that no pool has, of a car without a contract here, is the back end's.
	exi, err := car.Install()
	if err != nil {
		t.Fatal(err)
	}
	_, err = st.Call(ctx, ocpp.ActionGet15118EVCertificate, ocpp.Get15118EVCertificateRequest{SchemaVersion: message.Namespace2, Action: ocpp.EVCertificateInstall,
		EXIRequest: base64.StdEncoding.EncodeToString(exi), Prioritized: []string{"FROTH123456789"}})
	if failure, ok := errors.AsType[*ocpp.CallFailure](err); !ok || failure.Code != ocpp.NotSupported {
		t.Errorf("the back end's answer: %v", err)
	}
	for _, h := range []*house{near, far} {
		text := h.log.String() + h.must("ledger", "export")
		for _, secret := range []string{emaid, pcid, "NL-EXA-1", operator.secret, operator.bearer} {
			if strings.Contains(text, secret) {
				t.Errorf("log or ledger tell %s", secret)
			}
		}
	}
	seen := 0
	for _, frame := range back.Seen("CS-1", ocpp.FromStation) {
		if strings.Contains(string(frame), ocpp.ActionGet15118EVCertificate) {
			seen++
		}
	}
	if seen != 1 {
		t.Errorf("the back end saw %d requests of cars, one was for it", seen)
	}
}
