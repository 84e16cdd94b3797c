package pool_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"bollard/ca"
	"bollard/ca/est"
	"bollard/contract/pool"
	"bollard/fleet"
)

// nobody proves itself to.
type nobody struct{}

func (nobody) Prove(context.Context, est.Claim) (est.Applicant, error) {
	return nil, errors.New("no station is served here")
}

// enrolment is the EST door with the labels of both editions' CPO sub-CAs.
func (h *house) enrolment() http.Handler {
	h.t.Helper()
	var labels []est.Label
	for kind, profile := range map[ca.Kind]string{ca.KindV2G: ca.ProfileSECC, ca.KindV2G20: ca.ProfileSECC20} {
		labels = append(labels, est.Label{Kind: kind, Keys: h.authority.KeyClasses(profile),
			Registrar: &pool.Operators{Door: h.door, Issuer: h.authority, Kind: kind, Profile: profile, Taken: h.store.SECCTaken}})
	}
	handler, err := est.New(est.Config{Authority: h.authority, Registrar: nobody{}, Keys: ca.KeyClasses(ca.ProfileStation), Labels: labels})
	if err != nil {
		h.t.Fatal(err)
	}
	return handler
}

// est sends a request and returns the status and the certificates of the answer.
func (h *house) est(method, path string, csr []byte, edit func(*http.Request)) (int, []*x509.Certificate) {
	h.t.Helper()
	r := httptest.NewRequest(method, "/.well-known/est/"+path, strings.NewReader(base64.StdEncoding.EncodeToString(csr)))
	r.TLS = &tls.ConnectionState{}
	r.Header.Set("Content-Type", "application/pkcs10")
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	h.enrolment().ServeHTTP(w, r)
	if w.Code != http.StatusOK || strings.HasSuffix(path, "csrattrs") {
		return w.Code, nil
	}
	der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(w.Body.String(), "\n", ""))
	if err != nil {
		h.t.Fatal(err)
	}
	bag, err := pkcs7.Parse(der)
	if err != nil {
		h.t.Fatal(err)
	}
	return w.Code, bag.Certificates
}

func csrFor(t *testing.T, key *ecdsa.PrivateKey, name string, extensions ...pkix.Extension) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}, ExtraExtensions: extensions}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func keyOn(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// An operator with a token enrols its stations at the CPO sub-CA: for its own SECC
// identifiers, with keys of the edition, each key for one of them; nobody else does.
func TestOperatorsEnrol(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	abc, other := h.client("abc", pool.RoleCPO, "DE*ABC", "NL-ABC"), h.client("xyz", pool.RoleCPO, "DE*XYZ")
	asker, provider := h.client("asker", pool.RoleCPO), h.client("exa", pool.RoleMO, "NL-EXA")
	by := func(c *client) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+c.bearer) }
	}
	const name, path = "DE*ABC*E*1", "v2g/simpleenroll"
	key := keyOn(t, elliptic.P256())
	csr := csrFor(t, key, name)

	status, got := h.est(http.MethodPost, path, csr, by(abc))
	if status != http.StatusOK || len(got) != 1 || got[0].Subject.CommonName != name || !key.PublicKey.Equal(got[0].PublicKey) {
		t.Fatalf("status %d, %d certificates", status, len(got))
	}
	status, cas := h.est(http.MethodGet, "v2g/cacerts", nil, nil)
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range cas {
		if c.Equal(h.authority.Roots(ca.KindV2G)[0]) {
			roots.AddCert(c)
		} else {
			between.AddCert(c)
		}
	}
	if _, err := got[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: h.clock(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); status != http.StatusOK || len(cas) != 3 || err != nil {
		t.Errorf("status %d, %d CA certificates, which don't lead there: %v", status, len(cas), err)
	}
	if status, _ := h.est(http.MethodGet, "v2g/csrattrs", nil, nil); status != http.StatusOK {
		t.Errorf("csrattrs: %d", status)
	}
	// A lost answer is found again, also by the token itself in place of an access token.
	basic := func(r *http.Request) { r.SetBasicAuth("abc", abc.secret) }
	if status, again := h.est(http.MethodPost, path, csrFor(t, key, name), basic); status != http.StatusOK || !again[0].Equal(got[0]) {
		t.Errorf("again: %d, another certificate", status)
	}
	h.now.Add(int64((70 * day).Seconds()))
	abc.login("abc")
	other.login("xyz")
	asker.login("asker")
	provider.login("exa")
	status, next := h.est(http.MethodPost, path, csr, by(abc))
	if status != http.StatusOK || next[0].Equal(got[0]) {
		t.Errorf("due: %d, or the old certificate", status)
	}

	isCA := pkix.Extension{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}
	for what, tt := range map[string]struct {
		method, path string
		csr          []byte
		who          func(*http.Request)
		status       int
	}{
		"no token":                   {path: path, csr: csr, status: 401},
		"a wrong secret":             {path: path, csr: csr, who: func(r *http.Request) { r.SetBasicAuth("abc", "x") }, status: 401},
		"a provider":                 {path: path, csr: csr, who: by(provider), status: 403},
		"who only asks for cars":     {path: path, csr: csrFor(t, keyOn(t, elliptic.P256()), name), who: by(asker), status: 403},
		"another's identifier":       {path: path, csr: csrFor(t, keyOn(t, elliptic.P256()), "DE*XYZ*E*1"), who: by(abc), status: 403},
		"no identifier":              {path: path, csr: csrFor(t, keyOn(t, elliptic.P256()), "DEABC ../"), who: by(abc), status: 400},
		"another spelling of its":    {path: path, csr: csrFor(t, keyOn(t, elliptic.P256()), "de-abc-E-2"), who: by(abc), status: 200},
		"another's key":              {path: path, csr: csrFor(t, key, "DE*XYZ*E*1"), who: by(other), status: 400},
		"a key for two of its":       {path: path, csr: csrFor(t, key, "DE*ABC*E*2"), who: by(abc), status: 400},
		"a key of -20":               {path: path, csr: csrFor(t, keyOn(t, elliptic.P521()), name), who: by(abc), status: 400},
		"CA:TRUE":                    {path: path, csr: csrFor(t, keyOn(t, elliptic.P256()), name, isCA), who: by(abc), status: 400},
		"a CA that isn't there":      {path: "v2g-20/simpleenroll", csr: csr, who: by(abc), status: 404},
		"a label there isn't":        {path: "mo/simpleenroll", csr: csr, who: by(abc), status: 404},
		"renewal by the old one":     {path: "v2g/simplereenroll", csr: csr, who: by(abc), status: 404},
		"another method":             {method: http.MethodGet, path: path, who: by(abc), status: 405},
		"stations' door, by a token": {path: "simpleenroll", csr: csr, who: by(abc), status: 503},
	} {
		if tt.method == "" {
			tt.method = http.MethodPost
		}
		if status, _ := h.est(tt.method, tt.path, tt.csr, tt.who); status != tt.status {
			t.Errorf("%s: %d, want %d", what, status, tt.status)
		}
	}
	if kinds := h.kinds("pool:abc"); !strings.Contains(kinds, "pool.refused") || strings.Count(kinds, "pool.refused") != 2 {
		t.Errorf("on record: %s", kinds)
	}
	issued, err := h.store.Certificates(t.Context(), ca.Filter{Profile: ca.ProfileSECC})
	if err != nil || len(issued) != 3 {
		t.Fatalf("%d certificates: %v", len(issued), err)
	}
	if _, err := h.authority.Revoke(t.Context(), ca.SerialOf(next[0]), "cessationOfOperation", "operator"); err != nil {
		t.Fatal(err)
	}
	if status, _ := h.est(http.MethodPost, path, csr, by(abc)); status != http.StatusBadRequest {
		t.Errorf("a key whose certificate was revoked: %d", status)
	}
	// What a station of the own fleet is called is nobody else's, however it is spelled.
	if err := h.store.AddStations(t.Context(), []fleet.Station{{Identity: "CS-1", SECCs: []fleet.SECC{{ID: "DE*ABC*E*7"}}}}); err != nil {
		t.Fatal(err)
	}
	for _, own := range []string{"DE*ABC*E*7", "deabce7", "DE-ABC-E-7"} {
		if status, _ := h.est(http.MethodPost, path, csrFor(t, keyOn(t, elliptic.P256()), own), by(abc)); status != http.StatusForbidden {
			t.Errorf("%s, which is the own fleet's: %d", own, status)
		}
	}
	if _, err := h.tokens.Revoke(t.Context(), "operator", "abc"); err != nil {
		t.Fatal(err)
	}
	if status, _ := h.est(http.MethodPost, path, csrFor(t, keyOn(t, elliptic.P256()), name), by(abc)); status != http.StatusUnauthorized {
		t.Errorf("a token that was revoked: %d", status)
	}
}

// A token has so many new certificates a day and no more, whoever has its secret.
func TestOperatorsEnrolSoManyADay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	abc := h.client("abc", pool.RoleCPO, "DE*ABC")
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+abc.bearer) }
	h.door.Enrolled("abc", 4999)
	for i, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
		if status, _ := h.est(http.MethodPost, "v2g/simpleenroll", csrFor(t, keyOn(t, elliptic.P256()), "DE*ABC*E*1"), bearer); status != want {
			t.Errorf("%d: %d", i, status)
		}
	}
	h.now.Add(int64((24 * time.Hour).Seconds()))
	abc.login("abc")
	if status, _ := h.est(http.MethodPost, "v2g/simpleenroll", csrFor(t, keyOn(t, elliptic.P256()), "DE*ABC*E*1"), bearer); status != http.StatusOK {
		t.Errorf("on the next day: %d", status)
	}
}
