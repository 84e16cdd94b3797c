package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// stepVersion is what Bollard is measured beside.
const stepVersion = "v0.30.2"

// stepProvisioner is the name and key id of the JWK provisioner: clients prove
// themselves with a signed token each, step-ca's own default.
const stepProvisioner = "bench"

// stepCA is smallstep's step-ca as its documentation sets it up: root and
// intermediate of P-256, one JWK provisioner, its default template.
type stepCA struct {
	binary   string
	dir      string
	database bool // bbolt; else none, which step-ca allows and forgets used tokens with
	own      *authority
	key      *ecdsa.PrivateKey // of the provisioner
}

// installStepCA builds step-ca below tools unless it is there, in the exact
// version, from the Go module proxy.
func installStepCA(ctx context.Context, tools string) (string, error) {
	tools, err := filepath.Abs(tools)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(tools, "step-ca")
	out, err := exec.CommandContext(ctx, "go", "version", "-m", binary).Output()
	if err == nil && strings.Contains(string(out), "github.com/smallstep/certificates\t"+stepVersion+"\t") {
		return binary, nil
	}
	fmt.Fprintf(os.Stderr, "building step-ca %s into %s, once; it takes some minutes\n", stepVersion, tools)
	cmd := exec.CommandContext(ctx, "go", "install", "github.com/smallstep/certificates/cmd/step-ca@"+stepVersion)
	// Without cgo, as smallstep's releases are built: no HSM, the same arithmetic.
	cmd.Env = append(os.Environ(), "GOBIN="+tools, "CGO_ENABLED=0")
	out, err = cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("couldn't build step-ca: %w: %s", err, out)
	}
	return binary, nil
}

// newStepCA makes its files below dir. own certifies its intermediate.
func newStepCA(binary, dir string, database bool, own *authority) (*stepCA, error) {
	s := &stepCA{binary: binary, dir: dir, database: database, own: own}
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		return nil, err
	}
	between, err := own.intermediate("Bench Step Issuing")
	if err != nil {
		return nil, err
	}
	s.key = between.key // any P-256 key serves; this one saves a file
	keyDER, err := x509.MarshalPKCS8PrivateKey(between.key)
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{
		"root.pem": own.pem(), "issuing.pem": between.pem(),
		"issuing.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	} {
		err = writePrivate(filepath.Join(dir, name), content)
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *stepCA) name() string {
	if s.database {
		return "step-ca bbolt"
	}
	return "step-ca no DB"
}

func (s *stepCA) version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "version", "-m", s.binary).Output()
	if err != nil {
		return "", fmt.Errorf("couldn't ask step-ca for its version: %w", err)
	}
	lines := strings.SplitN(string(out), "\n", 4)
	if len(lines) < 3 {
		return "", fmt.Errorf("go version -m says %q of step-ca", out)
	}
	_, compiler, _ := strings.Cut(lines[0], ": ")
	return "step-ca " + strings.Join(strings.Fields(lines[2])[2:3], "") + ", " + compiler + ", no cgo", nil
}

func (s *stepCA) command(ctx context.Context, listen, _ string) (*exec.Cmd, error) {
	point, err := s.key.PublicKey.Bytes() // 4, X, Y (SEC 1 §2.3.3)
	if err != nil {
		return nil, err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	conf := map[string]any{
		"root": filepath.Join(s.dir, "root.pem"), "crt": filepath.Join(s.dir, "issuing.pem"), "key": filepath.Join(s.dir, "issuing.key"),
		"address": listen, "dnsNames": []string{"localhost"},
		"authority": map[string]any{"provisioners": []any{map[string]any{
			"type": "JWK", "name": stepProvisioner,
			"key": map[string]any{"use": "sig", "kty": "EC", "kid": stepProvisioner, "crv": "P-256", "alg": "ES256", "x": b64(point[1:33]), "y": b64(point[33:])},
		}}},
	}
	if s.database {
		conf["db"] = map[string]any{"type": "bbolt", "dataSource": filepath.Join(s.dir, "step.db")}
	}
	raw, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir, "ca.json")
	err = writePrivate(file, raw)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, s.binary, file)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "STEPPATH="+s.dir)
	return cmd, nil
}

func (s *stepCA) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.own.cert)
	return pool
}

// credentials are tokens: JWTs (RFC 7519) signed with ES256, good once.
func (s *stepCA) credentials(_ context.Context, list []applicant) ([]string, error) {
	tokens := make([]string, len(list))
	for i, q := range list {
		token, err := s.token(q.serial, time.Now())
		if err != nil {
			return nil, err
		}
		tokens[i] = token
	}
	return tokens, nil
}

func (s *stepCA) token(subject string, now time.Time) (string, error) {
	head, err := json.Marshal(map[string]any{"alg": "ES256", "typ": "JWT", "kid": stepProvisioner})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": stepProvisioner, "aud": "https://localhost/1.0/sign", "sub": subject, "sans": []string{subject},
		"jti": rand.Text(), "iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	})
	if err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64(head) + "." + b64(claims)
	sum := sha256.Sum256([]byte(signed))
	r, v, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return "", fmt.Errorf("couldn't sign a token: %w", err)
	}
	var signature [64]byte // R and S of equal length (RFC 7518 §3.4)
	r.FillBytes(signature[:32])
	v.FillBytes(signature[32:])
	return signed + "." + b64(signature[:]), nil
}

func (s *stepCA) ask(ctx context.Context, address string, q applicant, token string) (*http.Request, error) {
	body, err := json.Marshal(map[string]string{
		"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: q.csr})), "ott": token,
	})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+"/1.0/sign", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

func (s *stepCA) read(body []byte) ([]*x509.Certificate, error) {
	var answer struct {
		Chain []string `json:"certChain"`
	}
	err := json.Unmarshal(body, &answer)
	if err != nil {
		return nil, fmt.Errorf("couldn't read step-ca's answer: %w", err)
	}
	return readPEM([]byte(strings.Join(answer.Chain, "")))
}
