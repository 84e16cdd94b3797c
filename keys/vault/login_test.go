package vault_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bollard/keys"
	"bollard/keys/keystest"
)

// selfSigned makes a certificate that is its own root, and its key, in files.
func selfSigned(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// reviewer answers TokenReview as Kubernetes does: good is a service account's token.
func reviewer(t *testing.T, good string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		status := `{"authenticated":false,"error":"unknown token"}`
		if strings.Contains(string(body), good) {
			status = `{"authenticated":true,"user":{"username":"system:serviceaccount:fleet:bollard","uid":"1","groups":["system:serviceaccounts"]}}`
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":`+status+`}`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// accountToken is a token of the service account fleet/bollard, but for its signature.
func accountToken(serial string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256","kid":"`+serial+`"}`)) + "." +
		part([]byte(`{"iss":"kubernetes/serviceaccount","sub":"system:serviceaccount:fleet:bollard","kubernetes.io/serviceaccount/namespace":"fleet",`+
			`"kubernetes.io/serviceaccount/service-account.name":"bollard","kubernetes.io/serviceaccount/service-account.uid":"1","iat":1000000000,"nbf":1000000000,"exp":4102444800}`)) + "." + part([]byte("canary-signature"))
}

// Each way to log in, over TLS with the CA that is named and no other.
func TestLogins(t *testing.T) {
	t.Parallel()
	serverCert, serverKey := selfSigned(t, "Vault")
	clientCert, clientKey := selfSigned(t, "bollard")
	otherCert, otherKey := selfSigned(t, "bollard")
	roots := x509.NewCertPool()
	text, err := os.ReadFile(serverCert)
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(web.CloseIdleConnections)
	s := startVault(t, web, "-cert", serverCert, "-key", serverKey)
	dir := t.TempDir()
	if err := s.AppRole(t.Context(), dir, "ca", nil); err != nil {
		t.Fatal(err)
	}
	jwt, foreign := accountToken("good"), accountToken("foreign")
	client, err := os.ReadFile(clientCert)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		path string
		body map[string]any
	}{
		{"sys/auth/fleet-k8s", map[string]any{"type": "kubernetes"}},
		{"auth/fleet-k8s/config", map[string]any{"kubernetes_host": reviewer(t, jwt), "token_reviewer_jwt": jwt, "disable_local_ca_jwt": true, "kubernetes_ca_cert": string(text)}},
		{"auth/fleet-k8s/role/bollard", map[string]any{"bound_service_account_names": "bollard", "bound_service_account_namespaces": "fleet", "token_policies": "ca"}},
		{"sys/auth/cert", map[string]any{"type": "cert"}},
		{"auth/cert/certs/bollard", map[string]any{"certificate": string(client), "token_policies": "ca"}},
	} {
		if _, err := s.Do(t.Context(), s.Token, step.path, step.body); err != nil {
			t.Fatal(err)
		}
	}
	k := keystest.Keeper(t, keys.Config{})
	uri := func(login string) string {
		return "vault:address=" + s.URL + ";object=key?ca-source=" + serverCert + "&" + login
	}
	appRole := "role-id-source=" + dir + "/ca.role-id&secret-id-source=" + dir + "/ca.secret-id"
	if _, err := k.Create(t.Context(), uri(appRole), keys.RoleCA, keys.P256); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		login string
		want  error
	}{
		"token":                {"token-source=" + keystest.SecretFile(t, s.Token), nil},
		"AppRole":              {appRole, nil},
		"Kubernetes":           {"auth-mount=fleet-k8s&auth-role=bollard&jwt-source=" + keystest.SecretFile(t, jwt), nil},
		"certificate":          {"cert-source=" + clientCert + "&key-source=" + clientKey, nil},
		"certificate by role":  {"auth-role=bollard&cert-source=" + clientCert + "&key-source=" + clientKey, nil},
		"wrong token":          {"token-source=" + keystest.SecretFile(t, "hvs.canary"), keys.ErrLogin},
		"foreign account":      {"auth-mount=fleet-k8s&auth-role=bollard&jwt-source=" + keystest.SecretFile(t, foreign), keys.ErrLogin},
		"another role":         {"auth-mount=fleet-k8s&auth-role=other&jwt-source=" + keystest.SecretFile(t, jwt), keys.ErrLogin},
		"foreign certificate":  {"cert-source=" + otherCert + "&key-source=" + otherKey, keys.ErrLogin},
		"another's key":        {"cert-source=" + otherCert + "&key-source=" + clientKey, keys.ErrLogin},
		"no file":              {"token-source=/nonexistent/token", keys.ErrLogin},
		"two lines":            {"token-source=" + keystest.SecretFile(t, "hvs.canary\nmore"), keys.ErrLogin},
		"a CA that isn't one":  {"token-source=" + keystest.SecretFile(t, s.Token), keys.ErrLogin},
		"a CA of another's":    {"token-source=" + keystest.SecretFile(t, s.Token), keys.ErrUnavailable},
		"the machine's own CA": {"token-source=" + keystest.SecretFile(t, s.Token), keys.ErrUnavailable},
	} {
		at := uri(tt.login)
		switch name {
		case "a CA that isn't one":
			at = strings.Replace(at, serverCert, serverKey, 1)
		case "a CA of another's":
			at = strings.Replace(at, serverCert, otherCert, 1)
		case "the machine's own CA":
			at = strings.Replace(at, "ca-source="+serverCert+"&", "", 1)
		}
		key, err := k.Open(t.Context(), at, keys.RoleCA)
		if err == nil {
			err = keystest.TrySign(key)
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		if err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "Y2FuYXJ5")) {
			t.Errorf("%s: a secret is in the error: %v", name, err)
		}
	}
}
