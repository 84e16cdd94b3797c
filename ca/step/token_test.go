package step_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"bollard/ca"
	"bollard/ca/step"
)

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// A token, each wrong in one way, brings nothing (RFC 7519 §4.1, RFC 8725 §3).
func TestTokens(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	by, other := r.jwk("ops"), r.jwk("others")
	public := by.key.(*ecdsa.PrivateKey).Public()
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := json.Marshal(jose.JSONWebKey{Key: public})
	if err != nil {
		t.Fatal(err)
	}
	confused := func(secret []byte) func(*spec) {
		return func(s *spec) { s.algorithm, s.key = jose.HS256, secret }
	}
	at := func(name string, d time.Duration) func(*spec) {
		return func(s *spec) { s.claims[name] = start.Add(d).Unix() }
	}
	aud := func(list ...string) func(*spec) { return func(s *spec) { s.aud = list } }
	foreign := newOutside(t)
	for name, tt := range map[string]struct {
		edit  func(*spec)
		text  func(string) string
		taken bool
	}{
		"as it should be":        {edit: func(*spec) {}, taken: true},
		"a clock a little ahead": {edit: func(s *spec) { at("nbf", 50*time.Second)(s); at("iat", 50*time.Second)(s) }, taken: true},
		"a clock a little behind": {edit: func(s *spec) {
			at("exp", -50*time.Second)(s)
			at("nbf", -5*time.Minute)(s)
			at("iat", -5*time.Minute)(s)
		}, taken: true},
		"without 1.0":    {edit: func(s *spec) { s.aud[0] = strings.Replace(s.aud[0], "/1.0", "", 1) }, taken: true},
		"for the root":   {edit: spoil("sha", strings.ToUpper(fingerprint(r.authority.Roots(ca.KindCSMS)[0]))), taken: true},
		"without a root": {edit: spoil("sha", nil), taken: true},
		"another root":   {edit: spoil("sha", fingerprint(foreign.cert))},
		"expired": {edit: func(s *spec) {
			at("exp", -70*time.Second)(s)
			at("nbf", -5*time.Minute)(s)
			at("iat", -5*time.Minute)(s)
		}},
		"not yet":                  {edit: at("nbf", 70*time.Second)},
		"issued later":             {edit: at("iat", 70*time.Second)},
		"six minutes":              {edit: func(s *spec) { at("exp", 6*time.Minute)(s); at("nbf", time.Minute)(s) }},
		"six minutes, begun later": {edit: func(s *spec) { at("exp", 6*time.Minute)(s); at("iat", time.Minute)(s) }},
		"for ever":                 {edit: spoil("exp", nil)},
		"since ever":               {edit: spoil("nbf", nil)},
		"issued never":             {edit: spoil("iat", nil)},
		"until beyond time":        {edit: spoil("exp", 1e300)},
		"without an identifier":    {edit: spoil("jti", nil)},
		"a long identifier":        {edit: spoil("jti", strings.Repeat("x", 257))},
		"without a subject":        {edit: spoil("sub", nil)},
		"for another resource":     {edit: func(s *spec) { s.aud[0] = strings.Replace(s.aud[0], "sign", "revoke", 1) }},
		"for SSH":                  {edit: func(s *spec) { s.aud[0] = strings.Replace(s.aud[0], "sign", "ssh/sign", 1) }},
		"for another server":       {edit: aud("https://ca.example/1.0/sign")},
		"for another port":         {edit: aud("https://127.0.0.1:1/1.0/sign")},
		"for plain HTTP":           {edit: func(s *spec) { s.aud[0] = strings.Replace(s.aud[0], "https", "http", 1) }},
		"for two servers":          {edit: func(s *spec) { s.aud = append(s.aud, "https://ca.example/1.0/sign") }},
		"for nobody":               {edit: func(s *spec) { s.claims["aud"] = []string{} }},
		"as if of X5C":             {edit: func(s *spec) { s.aud[0] += "#x5c/ops" }},
		"with SSH's options":       {edit: spoil("step", map[string]any{"ssh": map[string]any{}})},
		"by nobody":                {edit: spoil("iss", nil)},
		"by somebody else":         {edit: spoil("iss", "others")},
		"by who isn't there":       {edit: spoil("iss", "nobody")},
		"another's key":            {edit: func(s *spec) { s.key = other.key }},
		"another's key and kid":    {edit: func(s *spec) { s.key, s.kid = other.key, other.kid }},
		"without kid":              {edit: func(s *spec) { s.kid = "" }},
		"MAC with the public key":  {edit: confused(spki)},
		"MAC with its PEM":         {edit: confused(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))},
		"MAC with its JWK":         {edit: confused(shared)},
		"a key of its own": {edit: func(s *spec) {
			s.key = newKey(t)
			s.head["jwk"] = jose.JSONWebKey{Key: s.key.(*ecdsa.PrivateKey).Public()}
		}},
		"its key in the head": {edit: func(s *spec) { s.head["jwk"] = jose.JSONWebKey{Key: public} }},
		"a chain of its own": {edit: func(s *spec) {
			key := newKey(t)
			s.key = key
			s.head["x5c"] = []string{stdBase64(foreign.leaf(t, key).Raw)}
		}},
		"a chain nobody verified": {edit: func(s *spec) { s.head["x5cInsecure"] = []string{"x"} }},
		"a key elsewhere":         {edit: func(s *spec) { s.head["jku"] = "https://ca.example/keys" }},
		"something critical":      {edit: func(s *spec) { s.head["crit"] = []string{"b64"}; s.head["b64"] = true }},
		"a nonce":                 {edit: func(s *spec) { s.head["nonce"] = "x" }},
		"no algorithm":            {text: unsigned("none")},
		"no algorithm, shouted":   {text: unsigned("NONE")},
		"another claim":           {text: func(s string) string { return swapped(s, "one.example", "two.example") }},
		"without a signature":     {text: func(s string) string { return s[:strings.LastIndexByte(s, '.')+1] }},
		"a claim twice":           {text: func(s string) string { return swapped(s, `"iss"`, `"iss":"ops","iss"`) }},
		"no token":                {text: func(string) string { return "x" }},
		"nothing before the dot":  {text: func(string) string { return ".." }},
	} {
		t.Run(name, func(t *testing.T) {
			edit := tt.edit
			if edit == nil {
				edit = func(*spec) {}
			}
			token := r.token(by, "sign", "one.example", edit)
			if tt.text != nil {
				token = tt.text(token)
			}
			before := r.issued()
			got := r.sign(token, csr(t, newKey(t), "one.example"))
			if tt.taken {
				got.chain(t)
				// RFC 7519 §4.1.7: once.
				if again := r.sign(token, csr(t, newKey(t), "one.example")); again.status != http.StatusUnauthorized || r.issued() != before+1 {
					t.Errorf("used again: %d %s", again.status, again.body)
				}
				return
			}
			if got.status != http.StatusUnauthorized || r.issued() != before {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
}

// unsigned makes of a token one without a signature.
func unsigned(algorithm string) func(string) string {
	return func(text string) string {
		head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + algorithm + `","typ":"JWT"}`))
		return head + "." + strings.Split(text, ".")[1] + "."
	}
}

// swapped replaces something in a token's claims, and leaves its signature.
func swapped(text, old, with string) string {
	parts := strings.Split(text, ".")
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(claims), old, with, 1)))
	return strings.Join(parts, ".")
}

// Every kind of key there is signs with its own algorithm, and with no other.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("testdata/rsa.pem") // 2048 bits, of no use elsewhere
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	modulus, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		signs   any
		take    []jose.SignatureAlgorithm
		refused []jose.SignatureAlgorithm
	}{
		"P-384":   {signs: p384, take: []jose.SignatureAlgorithm{jose.ES384}},
		"Ed25519": {signs: edwards, take: []jose.SignatureAlgorithm{jose.EdDSA}},
		"RSA":     {signs: modulus, take: []jose.SignatureAlgorithm{jose.RS256, jose.PS256}, refused: []jose.SignatureAlgorithm{jose.RS512, jose.PS384}},
	} {
		t.Run(name, func(t *testing.T) {
			public := (&jose.JSONWebKey{Key: tt.signs}).Public()
			data, err := json.Marshal(public)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := step.Add(t.Context(), r.store, nil, nil, start, "operator", step.Draft{Name: name, JWK: data, Names: []string{"one.example"}}); err != nil {
				t.Fatal(err)
			}
			for _, algorithm := range tt.take {
				r.certified(&signer{name: name, algorithm: algorithm, key: tt.signs, kid: thumbprint(t, public)}, "one.example")
			}
			for _, algorithm := range tt.refused {
				s := &signer{name: name, algorithm: algorithm, key: tt.signs, kid: thumbprint(t, public)}
				if got := r.sign(r.token(s, "sign", "one.example"), csr(t, newKey(t), "one.example")); got.status != http.StatusUnauthorized {
					t.Errorf("%s: %d", algorithm, got.status)
				}
			}
		})
	}
}

// X5C: the chain leads to the provisioner's root, from a certificate that may sign, is in
// force, and is no station's.
func TestX5C(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root, foreign := newOutside(t), newOutside(t)
	r.x5c("deployers", root)
	r.x5c("elsewhere", foreign)
	by := r.jwk("ops")
	ours, cert := r.certified(by, "one.example")
	stations := newKey(t)
	born := root.leaf(t, stations)
	if err := r.authority.RecordExternal(t.Context(), born, "cs-1", "station:cs-1"); err != nil {
		t.Fatal(err)
	}
	key, gone := newKey(t), newKey(t)
	left := root.leaf(t, gone)
	r.certified(holder("deployers", gone, left), "one.example")
	if _, err := r.authority.Revoke(t.Context(), ca.SerialOf(left), "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	with := func(edit func(*x509.Certificate)) *signer { return holder("deployers", key, root.leaf(t, key, edit)) }
	for name, tt := range map[string]struct {
		by    *signer
		edit  func(*spec)
		taken bool
	}{
		"as it should be":             {by: holder("deployers", key, root.leaf(t, key)), taken: true},
		"no purposes":                 {by: with(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), taken: true},
		"with the root":               {by: holder("deployers", key, root.leaf(t, key), root.cert), taken: true},
		"without a fragment":          {by: holder("deployers", key, root.leaf(t, key)), edit: func(s *spec) { s.aud[0], _, _ = strings.Cut(s.aud[0], "#") }, taken: true},
		"another provisioner's aud":   {by: holder("deployers", key, root.leaf(t, key)), edit: func(s *spec) { s.aud[0] = strings.Replace(s.aud[0], "deployers", "elsewhere", 1) }},
		"another root":                {by: holder("deployers", key, foreign.leaf(t, key))},
		"another root, brought along": {by: holder("deployers", key, foreign.leaf(t, key), foreign.cert)},
		"no chain":                    {by: &signer{name: "deployers", algorithm: jose.ES256, key: key, kid: "x"}, edit: func(s *spec) { s.aud[0] += "#x5c/deployers" }},
		"another's certificate":       {by: holder("deployers", newKey(t), root.leaf(t, key))},
		"not for signatures":          {by: with(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })},
		"for nothing said":            {by: with(func(c *x509.Certificate) { c.KeyUsage = 0 })},
		"for servers":                 {by: with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })},
		"a CA's": {by: with(func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage = true, x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign
		})},
		"ended":                        {by: with(func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Second) })},
		"not yet begun":                {by: with(func(c *x509.Certificate) { c.NotBefore = start.Add(time.Second) })},
		"ends too soon":                {by: with(func(c *x509.Certificate) { c.NotAfter = start.Add(4 * time.Minute) })},
		"revoked here":                 {by: holder("deployers", gone, left)},
		"a station's":                  {by: holder("deployers", stations, born)},
		"with a station's key":         {by: holder("deployers", stations, root.leaf(t, stations))},
		"with a key certified here":    {by: holder("deployers", ours.PrivateKey.(*ecdsa.PrivateKey), root.leaf(t, ours.PrivateKey.(*ecdsa.PrivateKey)))},
		"one from here":                {by: holder("deployers", ours.PrivateKey.(*ecdsa.PrivateKey), cert)},
		"at a provisioner with a key":  {by: holder("ops", key, root.leaf(t, key)), edit: func(s *spec) { s.aud[0], _, _ = strings.Cut(s.aud[0], "#") }},
		"a key where a chain is due":   {by: &signer{name: "deployers", algorithm: jose.ES256, key: by.key, kid: by.kid}},
		"nobody's request for the key": {by: holder("deployers", key, root.leaf(t, key)), edit: spoil("sans", []string{"three.example"})},
	} {
		t.Run(name, func(t *testing.T) {
			edit := tt.edit
			if edit == nil {
				edit = func(*spec) {}
			}
			before := r.issued()
			got := r.sign(r.token(tt.by, "sign", "one.example", edit), csr(t, newKey(t), "one.example"))
			switch {
			case tt.taken:
				got.chain(t)
			case got.status != http.StatusUnauthorized && got.status != http.StatusForbidden || r.issued() != before:
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
	// A certificate doesn't outlast the one that signed for it, whenever it is made.
	brief := start.Add(time.Hour)
	s := with(func(c *x509.Certificate) { c.NotAfter = brief })
	r.run(time.Second)
	if _, cert := r.certified(s, "one.example"); !cert.NotAfter.Equal(brief) {
		t.Errorf("it lasts until %s", cert.NotAfter)
	}
	if listed, err := r.store.Certificate(t.Context(), ca.SerialOf(left)); err != nil || !listed.External || listed.State != ca.StateRevoked {
		t.Errorf("who signed isn't on record: %+v, %v", listed.State, err)
	}
}

// What a certificate signed for ends with it, renewed or not. It is the one on record that
// counts, which has another serial number where its own was taken.
func TestSignerEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root, key := newOutside(t), newKey(t)
	r.x5c("deployers", root)
	_, ours := r.certified(r.jwk("ops"), "one.example")
	leaf := root.leaf(t, key, func(c *x509.Certificate) {
		c.SerialNumber, c.NotAfter = ours.SerialNumber, start.Add(100*24*time.Hour)
	})
	by := holder("deployers", key, leaf)
	shown, _ := r.certified(by, "one.example")
	used := r.events("step.token-used")
	signer := used[len(used)-1].Data["signer"]
	if record, err := r.store.Certificate(t.Context(), signer); err != nil || !bytes.Equal(record.DER, leaf.Raw) {
		t.Fatalf("the ledger names %s as signer: %v", signer, err)
	}
	r.pass(80 * 24 * time.Hour)
	renewed := r.do(http.MethodPost, "/renew", nil, shown).chain(t)[0]
	if !renewed.NotAfter.Equal(leaf.NotAfter) {
		t.Errorf("renewed, it lasts until %s", renewed.NotAfter)
	}
	if _, err := r.authority.Revoke(t.Context(), signer, "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	before := r.issued()
	again := tls.Certificate{Certificate: [][]byte{renewed.Raw}, PrivateKey: shown.PrivateKey}
	for name, cert := range map[string]tls.Certificate{"the first": shown, "its renewal": again} {
		if got := r.do(http.MethodPost, "/renew", nil, cert); got.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	got := r.sign(r.token(by, "sign", "one.example"), csr(t, newKey(t), "one.example"))
	refused := r.events("step.refused")
	if got.status != http.StatusUnauthorized || r.issued() != before || len(refused) != 3 || !strings.Contains(refused[2].Data["why"], "certificate "+signer+" is revoked") {
		t.Errorf("it signs: %d %s, refused: %+v", got.status, got.body, refused)
	}
}

// Whatever a stranger sends is refused in step's words, never with a panic.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"csr":"x","ott":"y","notBefore":"","notAfter":"24h"}`))
	f.Add([]byte(`{"serial":"0x17","ott":"","reasonCode":4,"reason":"","passive":true}`))
	f.Add([]byte(`eyJhbGciOiJFUzI1NiIsIng1YyI6WyJNQT09Il19.eyJpc3MiOiJhIn0.AAAA`))
	f.Add([]byte(`eyJhbGciOiJub25lIn0.eyJpc3MiOiJhIn0.`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, err := range step.Parse(data) {
			t.Errorf("%T: %v", err, err)
		}
	})
}
