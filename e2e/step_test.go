package e2e_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// kill -9 while a certificate is made for a one-time token: whatever became of it, the
// token is used up from the intent on, and what was signed is on record.
func TestStepTokenOutlivesAKill(t *testing.T) {
	t.Parallel()
	srv := newESTServer(t)
	srv.start()
	key := newECKey(t)
	public := jose.JSONWebKey{Key: key.Public()}
	data, err := json.Marshal(public)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pub.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	srv.cli("step", "add", "ops", "--jwk", file, "--host", "*.servers.example")
	srv.stop()
	kid, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for _, point := range []string{"ca.after-intent", "ca.after-issued"} {
		host := strings.ReplaceAll(point, ".", "-") + ".servers.example"
		token := stepToken(t, key, base64.RawURLEncoding.EncodeToString(kid), host)
		request := stepRequest(t, host)
		srv.start("BOLLARD_FAILPOINT=" + point)
		if status, body := srv.stepSign(token, request); status != 0 {
			t.Fatalf("%s: the server lives on: %d %s", point, status, body)
		}
		<-srv.proc.done
		srv.start()
		if status, body := srv.stepSign(token, request); status != http.StatusUnauthorized || !strings.Contains(body, "used already") {
			t.Errorf("%s: the token again: %d %s", point, status, body)
		}
		var list struct {
			Certificates []struct{ State, Subject string } `json:"certificates"`
		}
		srv.cliJSON(&list, "cert", "list")
		var states []string
		for _, one := range list.Certificates {
			if strings.Contains(one.Subject, host) {
				states = append(states, one.State)
			}
		}
		want := map[string]string{"ca.after-intent": "orphaned", "ca.after-issued": "issued"}[point]
		if len(states) != 1 || states[0] != want {
			t.Errorf("%s: certificates are %v, want one %s", point, states, want)
		}
		if status, body := srv.stepSign(stepToken(t, key, base64.RawURLEncoding.EncodeToString(kid), host), stepRequest(t, host)); status != http.StatusCreated {
			t.Errorf("%s: another token: %d %s", point, status, body)
		}
		srv.stop()
	}
	srv.cli("ledger", "verify")
}

// stepToken is one as the step CLI makes it, for whatever port of the server.
func stepToken(t *testing.T, key *ecdsa.PrivateKey, kid, host string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", kid))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	text, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": "ops", "aud": "https://localhost/1.0/sign", "sub": host, "sans": []string{host}, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func stepRequest(t *testing.T, host string) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}}, newECKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// stepSign asks for a certificate; status 0 if the connection broke.
func (s *server) stepSign(token, csr string) (status int, body string) {
	s.t.Helper()
	data, err := json.Marshal(map[string]string{"csr": csr, "ott": token})
	if err != nil {
		s.t.Fatal(err)
	}
	roots, err := os.ReadFile(s.root)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(roots) {
		s.t.Fatal("no root", err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.stepURL()+"/1.0/sign", strings.NewReader(string(data)))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Host = "localhost"
	req.Header.Set("Content-Type", "application/json")
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, ""
	}
	return res.StatusCode, string(answer)
}

// stepURL is what the step CLI takes as --ca-url.
func (s *server) stepURL() string { return strings.TrimSuffix(s.est().url, "/.well-known/est/") }
