package est_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/smallstep/pkcs7"

	"bollard/ca"
	"bollard/ca/est"
)

// registrar is a scripted est.Registrar that counts what it was asked.
type registrar struct {
	asked, certified int
	claim            est.Claim
	prove, certify   error
	cert             *x509.Certificate
}

func (r *registrar) Prove(_ context.Context, claim est.Claim) (est.Applicant, error) {
	r.asked++
	r.claim = claim
	if r.prove != nil {
		return nil, r.prove
	}
	return r, nil
}

func (r *registrar) Station() string { return "cs-1" }

func (r *registrar) Certify(context.Context, ca.CSR) (*ca.Issued, error) {
	r.certified++
	if r.certify != nil {
		return nil, r.certify
	}
	return &ca.Issued{Certificate: r.cert}, nil
}

// authority has a root and an issuing CA.
type authority struct{ root, issuing *x509.Certificate }

func (a authority) Roots(ca.Kind) []*x509.Certificate         { return []*x509.Certificate{a.root} }
func (a authority) Intermediates(ca.Kind) []*x509.Certificate { return []*x509.Certificate{a.issuing} }
func (a authority) Paths(ca.Kind) []ca.Path {
	return []ca.Path{{Root: a.root, Chain: []*x509.Certificate{a.issuing}}}
}

type rig struct {
	*registrar
	authority authority
	handler   http.Handler
	served    []string
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{registrar: &registrar{cert: selfSigned(t, "leaf")}, authority: authority{selfSigned(t, "root"), selfSigned(t, "issuing")}}
	handler, err := est.New(est.Config{
		Authority: r.authority, Registrar: r.registrar, Keys: ca.KeyClasses(ca.ProfileStation), RetryAfter: 90 * time.Second,
		Served: func(operation string, status int) { r.served = append(r.served, operation+" "+http.StatusText(status)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	r.handler = handler
	return r
}

func selfSigned(t testing.TB, cn string) *x509.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCSR(t testing.TB) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SN-1"}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func b64(der []byte) string { return base64.StdEncoding.EncodeToString(der) }

// post asks for a certificate.
func post(operation, body string, edit ...func(*http.Request)) *http.Request {
	q := httptest.NewRequest(http.MethodPost, est.Prefix+operation, strings.NewReader(body))
	q.Header.Set("Content-Type", "application/pkcs10")
	q.TLS = &tls.ConnectionState{}
	for _, e := range edit {
		e(q)
	}
	return q
}

func (r *rig) do(q *http.Request) *http.Response {
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, q)
	return w.Result()
}

func bodyOf(t testing.TB, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// certificates of a certs-only answer.
func certificates(t testing.TB, body string) []*x509.Certificate {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
	if err != nil {
		t.Fatalf("%v: %.200s", err, body)
	}
	bag, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return bag.Certificates
}

// What is sent is what others make of the same certificates (RFC 5652 §5.1), but for
// their empty list of revoked ones.
func TestCertsOnlyIsWhatOthersMake(t *testing.T) {
	t.Parallel()
	for _, length := range []int{0, 1, 100, 1000, 70_000} {
		content, err := asn1.Marshal(bytes.Repeat([]byte{7}, length))
		if err != nil {
			t.Fatal(err)
		}
		want, err := asn1.Marshal(struct {
			Type    asn1.ObjectIdentifier
			Content any `asn1:"explicit,tag:0"`
		}{pkcs7.OIDSignedData, struct {
			Version int
			Digests []asn1.RawValue `asn1:"set"`
			Of      struct{ Type asn1.ObjectIdentifier }
			Certs   asn1.RawValue
			Signers []asn1.RawValue `asn1:"set"`
		}{
			1, nil, struct{ Type asn1.ObjectIdentifier }{pkcs7.OIDData},
			asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: content}, nil,
		}})
		if err != nil {
			t.Fatal(err)
		}
		got := est.CertsOnly(content)
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %.80x, want %.80x", length, got, want)
		}
		var plain []byte
		for line := range bytes.Lines(est.Encode(got)) {
			if len(line) > 77 {
				t.Errorf("a line of %d characters", len(line))
			}
			plain = append(plain, bytes.TrimSuffix(line, []byte("\n"))...)
		}
		if again, err := base64.StdEncoding.Strict().DecodeString(string(plain)); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%d bytes aren't encoded as they are: %v", length, err)
		}
	}
}

// RFC 7030 §3.2.2, threat C2: what isn't served is refused before anybody is
// asked who it is for, and each operation asks for what it needs.
func TestOperations(t *testing.T) {
	t.Parallel()
	csr := b64(newCSR(t))
	for _, tt := range []struct {
		method, path   string
		status         int
		allow          string
		asked, renewal bool
	}{
		{"GET", "cacerts", 200, "", false, false},
		{"GET", "csrattrs", 200, "", false, false},
		{"POST", "simpleenroll", 200, "", true, false},
		{"POST", "simplereenroll", 200, "", true, true},
		{"POST", "cacerts", 405, "GET", false, false},
		{"HEAD", "cacerts", 405, "GET", false, false},
		{"PUT", "csrattrs", 405, "GET", false, false},
		{"GET", "simpleenroll", 405, "POST", false, false},
		{"PUT", "simpleenroll", 405, "POST", false, false},
		{"DELETE", "simplereenroll", 405, "POST", false, false},
		{"OPTIONS", "simplereenroll", 405, "POST", false, false},
		{"POST", "fullcmc", 404, "", false, false},
		{"POST", "serverkeygen", 404, "", false, false},
		{"POST", "label/simpleenroll", 404, "", false, false},
		{"GET", "label/cacerts", 404, "", false, false},
		{"POST", "simpleenroll/", 404, "", false, false},
		{"POST", "SimpleEnroll", 404, "", false, false},
		{"POST", "../est/simpleenroll", 404, "", false, false},
		{"POST", "", 404, "", false, false},
		{"GET", "crls", 404, "", false, false},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			q := post("", csr)
			q.Method, q.URL.Path = tt.method, est.Prefix+tt.path
			resp := r.do(q)
			if resp.StatusCode != tt.status || resp.Header.Get("Allow") != tt.allow {
				t.Errorf("%d, Allow %q: %s", resp.StatusCode, resp.Header.Get("Allow"), bodyOf(t, resp))
			}
			if (r.asked == 1) != tt.asked || r.claim.Renewal != tt.renewal || r.certified != r.asked {
				t.Errorf("asked %d times, renewal %t, certified %d", r.asked, r.claim.Renewal, r.certified)
			}
			if len(r.served) != 1 {
				t.Errorf("counted %q", r.served)
			}
		})
	}
	t.Run("elsewhere", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		q := post("simpleenroll", csr)
		q.URL.Path = "/simpleenroll"
		if resp := r.do(q); resp.StatusCode != http.StatusNotFound || r.asked != 0 {
			t.Errorf("%d", resp.StatusCode)
		}
	})
	t.Run("without TLS", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		if resp := r.do(post("simpleenroll", csr, func(q *http.Request) { q.TLS = nil })); resp.StatusCode != http.StatusForbidden || r.asked != 0 {
			t.Errorf("%d", resp.StatusCode)
		}
	})
}

// RFC 7030 §4.1.3: everybody gets the root and what is below it.
func TestCACertificates(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	q := post("cacerts", "")
	q.Method = http.MethodGet
	resp := r.do(q)
	if kind := resp.Header.Get("Content-Type"); kind != "application/pkcs7-mime" {
		t.Errorf("Content-Type %q", kind)
	}
	if encoding := resp.Header.Get("Content-Transfer-Encoding"); encoding != "base64" {
		t.Errorf("Content-Transfer-Encoding %q", encoding)
	}
	body := bodyOf(t, resp)
	for line := range strings.Lines(body) {
		if len(line) > 77 {
			t.Errorf("a line of %d characters", len(line))
		}
	}
	got := certificates(t, body)
	if len(got) != 2 || !got[0].Equal(r.authority.root) || !got[1].Equal(r.authority.issuing) {
		t.Errorf("got %d certificates", len(got))
	}
}

// RFC 7030 §4.2.3: the answer holds the issued certificate and nothing else.
func TestAnswerHoldsOnlyTheCertificate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	resp := r.do(post("simpleenroll", b64(newCSR(t))))
	if kind := resp.Header.Get("Content-Type"); kind != "application/pkcs7-mime; smime-type=certs-only" {
		t.Errorf("Content-Type %q", kind)
	}
	if got := certificates(t, bodyOf(t, resp)); len(got) != 1 || !got[0].Equal(r.cert) {
		t.Errorf("got %d certificates", len(got))
	}
}

func TestHeads(t *testing.T) {
	t.Parallel()
	header := func(name string, values ...string) func(*http.Request) {
		return func(q *http.Request) { q.Header[name] = values }
	}
	for name, tt := range map[string]struct {
		edit   func(*http.Request)
		status int
		asked  int
	}{
		"as it should be":                {func(*http.Request) {}, 200, 1},
		"with a parameter":               {header("Content-Type", `application/pkcs10; charset="x"`), 200, 1},
		"upper case":                     {header("Content-Type", "Application/PKCS10"), 200, 1},
		"transfer encoding said":         {header("Content-Transfer-Encoding", "base64"), 200, 1},
		"another transfer encoding said": {header("Content-Transfer-Encoding", "binary"), 200, 1}, // RFC 8951: left aside
		"identity":                       {header("Content-Encoding", "identity"), 200, 1},
		"no type":                        {header("Content-Type"), 415, 0},
		"two types":                      {header("Content-Type", "application/pkcs10", "application/pkcs10"), 415, 0},
		"a form":                         {header("Content-Type", "application/x-www-form-urlencoded"), 415, 0},
		"another CSR type":               {header("Content-Type", "application/x-pem-file"), 415, 0},
		"CMC":                            {header("Content-Type", "application/pkcs7-mime; smime-type=CMC-request"), 415, 0},
		"a type that can't be read":      {header("Content-Type", "application/pkcs10; x="), 415, 0},
		"compressed":                     {header("Content-Encoding", "gzip"), 415, 0},
		"announced too large":            {func(q *http.Request) { q.ContentLength = est.MaxBody + 1 }, 413, 0},
		"too large without having said so": {func(q *http.Request) {
			q.ContentLength, q.Body = -1, io.NopCloser(strings.NewReader(strings.Repeat("A", est.MaxBody+1)))
		}, 413, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			resp := r.do(post("simpleenroll", b64(newCSR(t)), tt.edit))
			if resp.StatusCode != tt.status || r.asked != tt.asked {
				t.Errorf("%d after %d claims: %s", resp.StatusCode, r.asked, bodyOf(t, resp))
			}
		})
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	der := newCSR(t)
	text := b64(der)
	armoured := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	lines := func(end string) string {
		var out strings.Builder
		for rest := text; rest != ""; {
			n := min(64, len(rest))
			out.WriteString(rest[:n] + end)
			rest = rest[n:]
		}
		return out.String()
	}
	forged := bytes.Clone(der)
	forged[len(forged)-1] ^= 1
	for name, tt := range map[string]struct {
		body, says string // says "": taken
	}{
		"one line":              {text, ""},
		"lines":                 {lines("\n"), ""},
		"lines with CR":         {lines("\r\n"), ""},
		"blanks around":         {"\r\n\t " + text + "\n \n", ""},
		"empty":                 {"", "is empty"},
		"blank":                 {" \r\n", "is empty"},
		"PEM":                   {armoured, "PEM armour"},
		"DER":                   {string(der), "binary DER"},
		"prose":                 {"please sign", "isn't base64"},
		"no padding":            {"MA", "isn't base64"},
		"URL alphabet":          {"MII-_A==", "isn't base64"},
		"two in one":            {b64(append(bytes.Clone(der), der...)), "refused"},
		"base64 of PEM":         {b64([]byte(armoured)), "isn't base64 of a DER"},
		"base64 of base64":      {b64([]byte(text)), "isn't base64 of a DER"},
		"something behind":      {b64(append(bytes.Clone(der), 0)), "refused"},
		"cut":                   {b64(der[:len(der)-3]), "refused"},
		"a certificate":         {b64(selfSigned(t, "x").Raw), "refused"},
		"forged signature":      {b64(forged), "signature doesn't verify"},
		"huge":                  {b64(append([]byte{0x30, 0x82, 0x40, 0}, make([]byte, 0x3000)...)), "refused"},
		"a JSON of the request": {`{"csr":"` + text + `"}`, "isn't base64"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			resp := r.do(post("simpleenroll", tt.body))
			body := bodyOf(t, resp)
			switch {
			case tt.says == "" && resp.StatusCode != http.StatusOK:
				t.Errorf("%d: %s", resp.StatusCode, body)
			case tt.says != "" && (resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, tt.says) || r.certified != 0):
				t.Errorf("%d, want 400 with %q: %s", resp.StatusCode, tt.says, body)
			}
		})
	}
}

// Who can't be judged now and what can't be signed now is told to come back;
// refusals keep their status, and the operator's reason stays here.
func TestAnswers(t *testing.T) {
	t.Parallel()
	refusal := &est.Refusal{Status: 429, Public: "slower", Reason: "secret reason", RetryAfter: 3 * time.Second}
	for name, tt := range map[string]struct {
		prove, certify error
		status         int
		retry, auth    string
	}{
		"unproven":                {prove: &est.Refusal{Status: 401, Public: "who?", Reason: "secret reason"}, status: 401, auth: `Basic realm="enrolment", charset="UTF-8"`},
		"refused":                 {certify: refusal, status: 429, retry: "3"},
		"a decision under errors": {certify: errors.Join(errors.New("secret reason"), refusal), status: 429, retry: "3"},
		"can't be judged now":     {prove: errors.New("secret reason"), status: 503, retry: "90"},
		"can't be signed now":     {certify: errors.New("secret reason"), status: 202, retry: "90"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.prove, r.certify = tt.prove, tt.certify
			resp := r.do(post("simpleenroll", b64(newCSR(t))))
			body := bodyOf(t, resp)
			got := []any{resp.StatusCode, resp.Header.Get("Retry-After"), resp.Header.Get("WWW-Authenticate")}
			if diff := cmp.Diff([]any{tt.status, tt.retry, tt.auth}, got); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(body, "secret reason") {
				t.Errorf("the client was told %q", body)
			}
		})
	}
}

// A stranger's body isn't read.
func TestUnprovenBodyIsNotRead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.prove = &est.Refusal{Status: 401, Public: "who?"}
	body := &tripwire{}
	resp := r.do(post("simpleenroll", "", func(q *http.Request) { q.Body, q.ContentLength = body, 10 }))
	if resp.StatusCode != http.StatusUnauthorized || body.read {
		t.Errorf("%d, body read: %t", resp.StatusCode, body.read)
	}
}

type tripwire struct{ read bool }

func (t *tripwire) Read([]byte) (int, error) { t.read = true; return 0, io.EOF }
func (*tripwire) Close() error               { return nil }

func TestClaimCarriesBasicAndSource(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cert := selfSigned(t, "station")
	r.do(post("simpleenroll", b64(newCSR(t)), func(q *http.Request) {
		q.SetBasicAuth("CS-1", "p:w")
		q.TLS.PeerCertificates = []*x509.Certificate{cert}
		q.RemoteAddr = "192.0.2.9:1234"
	}))
	c := r.claim
	if c.Basic == nil || c.Basic.User != "CS-1" || string(c.Basic.Secret) != "p:w" || c.Source.String() != "192.0.2.9" || len(c.Certificates) != 1 {
		t.Errorf("claim %+v", c)
	}
}

// RFC 7030 §4.5.2: what a request should bring, from the profile.
func TestCSRAttributes(t *testing.T) {
	t.Parallel()
	der, err := est.CSRAttributes([]ca.KeyClass{ca.ClassP256, ca.ClassP384, ca.ClassP521, ca.ClassRSA2048, ca.ClassRSA3072})
	if err != nil {
		t.Fatal(err)
	}
	// As `openssl asn1parse` reads it: SEQUENCE of (id-ecPublicKey, SET of the
	// curves in DER's order), ecdsa-with-SHA256, (rsaEncryption, SET of 2048 and
	// 3072), sha256WithRSAEncryption.
	want := "3051" + "3023" + "06072a8648ce3d0201" + "3118" + "06052b81040022" + "06052b81040023" + "06082a8648ce3d030107" +
		"06082a8648ce3d040302" +
		"3015" + "06092a864886f70d010101" + "3108" + "02020800" + "02020c00" +
		"06092a864886f70d01010b"
	if got := hexOf(der); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, err := est.CSRAttributes([]ca.KeyClass{"ed448"}); err == nil {
		t.Error("a key class without object identifier was left out silently")
	}
	// Every class of the profile has one.
	if _, err := est.CSRAttributes(ca.KeyClasses(ca.ProfileStation)); err != nil {
		t.Error(err)
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var out strings.Builder
	for _, c := range b {
		out.WriteByte(digits[c>>4])
		out.WriteByte(digits[c&15])
	}
	return out.String()
}

// What is decoded is what any strict base64 decoder gives without the white
// space, and DER.
func FuzzDecodeBody(f *testing.F) {
	der := newCSR(f)
	f.Add([]byte(b64(der)))
	f.Add([]byte(" " + b64(der)[:40] + "\r\n" + b64(der)[40:] + "\n"))
	f.Add(der)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	f.Add([]byte(""))
	f.Add([]byte("MA=="))
	f.Add([]byte("MB=="))
	f.Add([]byte("0\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, refused := est.DecodeBody(data)
		if refused != nil {
			if refused.Status != 400 || refused.Public == "" || len(got) != 0 {
				t.Fatalf("refusal %+v", refused)
			}
			return
		}
		text := strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "").Replace(string(data))
		want, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || !bytes.Equal(got, want) || got[0] != 0x30 {
			t.Fatalf("decoded %x, %v", got, err)
		}
	})
}
