package step_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"bollard/ca"
	"bollard/ca/step"
	"bollard/keys"
	"bollard/ledger"
	"bollard/store"
)

var start = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// rig is a door over the real store and authority.
type rig struct {
	t         *testing.T
	store     *store.Store
	authority *ca.Authority
	config    step.Config
	server    *httptest.Server
	entries   []ledger.Entry // of the ledger, as far as they were read

	mu   sync.Mutex
	now  time.Time
	tick time.Duration // which passes with each look at the clock
}

func newRig(t *testing.T, edit ...func(*step.Config)) *rig {
	t.Helper()
	r := &rig{t: t, now: start.Add(250 * time.Millisecond)} // clocks don't stand at whole seconds
	dir := t.TempDir()
	var err error
	if r.store, err = store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "bollard.db"), Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.store.Close() })
	keeper, err := keys.New(keys.Config{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Init(t.Context(), ca.InitConfig{Store: r.store, Keeper: keeper, Organisation: "Example CPO", Country: "NL", Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	if r.authority, err = ca.New(t.Context(), ca.Config{Store: r.store, Keeper: keeper, Organisation: "Example CPO", Country: "NL", Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	r.config = step.Config{
		Host: "127.0.0.1", Own: []string{"own.two.example"}, Taken: r.store.StationKnownBy, Store: r.store, Authority: r.authority, Version: "1", Clock: r.clock,
	}
	for _, f := range edit {
		f(&r.config)
	}
	door, err := step.New(r.config)
	if err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewUnstartedServer(door)
	r.server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	r.server.StartTLS()
	t.Cleanup(r.server.Close)
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(r.tick)
	return r.now
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func (r *rig) run(tick time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tick = tick
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signer makes tokens.
type signer struct {
	name      string
	algorithm jose.SignatureAlgorithm
	key       any
	kid       string
	x5c       []string // base64 of DER
}

// jwk adds a provisioner with a key of its own, who has been there for a while.
func (r *rig) jwk(name string, hosts ...string) *signer {
	r.t.Helper()
	if len(hosts) == 0 {
		hosts = []string{"one.example", "*.two.example"}
	}
	return r.add(name, newKey(r.t), r.clock().Add(-time.Hour), hosts...)
}

// add adds a provisioner with a key.
func (r *rig) add(name string, key *ecdsa.PrivateKey, at time.Time, hosts ...string) *signer {
	r.t.Helper()
	public := jose.JSONWebKey{Key: key.Public()}
	data, err := json.Marshal(public)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := step.Add(r.t.Context(), r.store, nil, nil, at, "operator", step.Draft{Name: name, JWK: data, Names: hosts}); err != nil {
		r.t.Fatal(err)
	}
	return &signer{name: name, algorithm: jose.ES256, key: key, kid: thumbprint(r.t, public)}
}

func thumbprint(t testing.TB, key jose.JSONWebKey) string {
	t.Helper()
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return jsonBase64(sum)
}

// outside is somebody else's CA.
type outside struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newOutside(t testing.TB) *outside {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Outside Root"}, NotBefore: start.Add(-time.Hour), NotAfter: start.AddDate(5, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &outside{key, cert}
}

func (o *outside) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.cert.Raw})
}

// leaf of an outside CA, good for tokens but for what edit makes of it.
func (o *outside) leaf(t testing.TB, key *ecdsa.PrivateKey, edit ...func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "deployer"}, NotBefore: start.Add(-time.Hour), NotAfter: start.AddDate(1, 0, 0),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, f := range edit {
		f(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, o.cert, key.Public(), o.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// x5c adds a provisioner of an outside CA's.
func (r *rig) x5c(name string, root *outside) {
	r.t.Helper()
	if _, err := step.Add(r.t.Context(), r.store, nil, nil, r.clock(), "operator", step.Draft{Name: name, Roots: root.pem(), Names: []string{"one.example", "*.two.example"}}); err != nil {
		r.t.Fatal(err)
	}
}

// holder of a leaf signs tokens for an X5C provisioner.
func holder(name string, key *ecdsa.PrivateKey, chain ...*x509.Certificate) *signer {
	s := &signer{name: name, algorithm: jose.ES256, key: key}
	for _, cert := range chain {
		s.x5c = append(s.x5c, stdBase64(cert.Raw))
	}
	return s
}

// spec is a token on its way to be made, which a test may spoil.
type spec struct {
	signer
	aud    []string
	claims map[string]any
	head   map[string]any
}

// token for a resource, as the step CLI makes it.
func (r *rig) token(s *signer, resource, subject string, edit ...func(*spec)) string {
	r.t.Helper()
	now := r.clock()
	sp := &spec{signer: *s, aud: []string{r.server.URL + "/1.0/" + resource}, head: map[string]any{}}
	if s.x5c != nil {
		sp.aud[0] += "#x5c/" + s.name
		sp.head["x5c"] = s.x5c
	}
	root := sha256.Sum256(r.authority.Roots(ca.KindCSMS)[0].Raw)
	sp.claims = map[string]any{
		"iss": s.name, "sub": subject, "jti": rand.Text(), "sha": hex.EncodeToString(root[:]),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	if resource == "sign" {
		sp.claims["sans"] = []string{subject}
	}
	for _, f := range edit {
		f(sp)
	}
	if sp.claims["aud"] == nil && len(sp.aud) == 1 {
		sp.claims["aud"] = sp.aud[0]
	} else if sp.claims["aud"] == nil {
		sp.claims["aud"] = sp.aud
	}
	options := (&jose.SignerOptions{}).WithType("JWT")
	if sp.kid != "" {
		options.WithHeader("kid", sp.kid)
	}
	for name, value := range sp.head {
		options.WithHeader(jose.HeaderKey(name), value)
	}
	maker, err := jose.NewSigner(jose.SigningKey{Algorithm: sp.algorithm, Key: sp.key}, options)
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := jwt.Signed(maker).Claims(sp.claims).Serialize()
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// csr for names, the first as common name.
func csr(t testing.TB, key crypto.Signer, names ...string) string {
	t.Helper()
	return request(t, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: names[0]}, DNSNames: names})
}

func request(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// answer of the door.
type answer struct {
	status  int
	message string // of a refusal
	body    []byte
}

// chain of an answer.
func (a answer) chain(t testing.TB) []*x509.Certificate {
	t.Helper()
	var out struct {
		Crt   string   `json:"crt"`
		CA    string   `json:"ca"`
		Chain []string `json:"certChain"`
	}
	if err := json.Unmarshal(a.body, &out); err != nil || a.status != http.StatusCreated || len(out.Chain) < 2 || out.Crt != out.Chain[0] || out.CA != out.Chain[1] {
		t.Fatalf("%d %s", a.status, a.body)
	}
	var list []*x509.Certificate
	for _, text := range out.Chain {
		block, _ := pem.Decode([]byte(text))
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, cert)
	}
	return list
}

// do asks the door; with a certificate if one is given.
func (r *rig) do(method, path string, in any, with ...tls.Certificate) answer {
	r.t.Helper()
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case string:
		body = bytes.NewReader([]byte(in))
	default:
		data, err := json.Marshal(in)
		if err != nil {
			r.t.Fatal(err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.server.URL+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return r.send(req, with...)
}

func (r *rig) send(req *http.Request, with ...tls.Certificate) answer {
	r.t.Helper()
	client := r.server.Client()
	if len(with) > 0 {
		transport := client.Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.Certificates = with
		client = &http.Client{Transport: transport}
		defer transport.CloseIdleConnections()
	}
	res, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	out := answer{status: res.StatusCode}
	if out.body, err = io.ReadAll(res.Body); err != nil {
		r.t.Fatal(err)
	}
	if res.StatusCode >= 400 {
		var refused struct {
			Status  int    `json:"status"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal(out.body, &refused); err != nil || refused.Status != res.StatusCode || refused.Message == "" {
			r.t.Fatalf("it isn't step's error: %d %s", res.StatusCode, out.body)
		}
		out.message = refused.Message
	}
	return out
}

func (r *rig) sign(token, csr string) answer {
	r.t.Helper()
	return r.do(http.MethodPost, "/1.0/sign", map[string]string{"csr": csr, "ott": token, "notBefore": "", "notAfter": ""})
}

// certified is a certificate by a token, with its key.
func (r *rig) certified(s *signer, names ...string) (tls.Certificate, *x509.Certificate) {
	r.t.Helper()
	key := newKey(r.t)
	chain := r.sign(r.token(s, "sign", names[0], sans(names...)), csr(r.t, key, names...)).chain(r.t)
	return tls.Certificate{Certificate: [][]byte{chain[0].Raw, chain[1].Raw}, PrivateKey: key, Leaf: chain[0]}, chain[0]
}

func sans(names ...string) func(*spec) { return func(s *spec) { s.claims["sans"] = names } }

// events of a kind in the ledger.
func (r *rig) events(kind string) []ledger.Entry {
	r.t.Helper()
	for e, err := range r.store.Entries(r.t.Context(), uint64(len(r.entries))+1) {
		if err != nil {
			r.t.Fatal(err)
		}
		r.entries = append(r.entries, e)
	}
	var list []ledger.Entry
	for _, e := range r.entries {
		if e.Kind == kind {
			list = append(list, e)
		}
	}
	return list
}

// issued is how many certificates for servers there are.
func (r *rig) issued() int {
	r.t.Helper()
	list, err := r.store.Certificates(r.t.Context(), ca.Filter{Profile: ca.ProfileServer})
	if err != nil {
		r.t.Fatal(err)
	}
	return len(list)
}

// spoil edits the claims of a token.
func spoil(name string, value any) func(*spec) {
	return func(s *spec) {
		if value == nil {
			delete(s.claims, name)
			return
		}
		s.claims[name] = value
	}
}

func jsonBase64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func stdBase64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
