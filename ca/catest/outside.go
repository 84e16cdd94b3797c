package catest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/internal/safehttp"
	"bollard/ocpp"
)

// Outside is a CA of others, such as a maker's of stations or a provider's of contracts.
type Outside struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey

	t      testing.TB
	issued int64
}

// NewOutside makes a root, with 20 years to live.
func NewOutside(t testing.TB, now time.Time) *Outside {
	t.Helper()
	o := NewUncertified(t)
	o.Cert = o.Issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Maker Root", Organization: []string{"Maker"}}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, o.Key)
	return o
}

// NewUncertified is one whose certificate is for the test to set; until then it signs what
// it issues as that certificate.
func NewUncertified(t testing.TB) *Outside {
	t.Helper()
	return &Outside{t: t, Key: NewKey(t)}
}

// NewKey is one on P-256.
func NewKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Issue certifies a key, under the next serial number.
func (o *Outside) Issue(template *x509.Certificate, key crypto.Signer) *x509.Certificate {
	o.t.Helper()
	o.issued++
	template.SerialNumber = big.NewInt(o.issued)
	parent := o.Cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), o.Key)
	if err != nil {
		o.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		o.t.Fatal(err)
	}
	return cert
}

// Leaf makes a certificate and lets edit change it first.
func (o *Outside) Leaf(now time.Time, cn string, edit func(*x509.Certificate)) *x509.Certificate {
	o.t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: cn, Organization: []string{"Maker"}}, NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(5, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	if edit != nil {
		edit(template)
	}
	return o.Issue(template, NewKey(o.t))
}

// Said is its OCSP response about a serial number, good unless edit says otherwise.
func (o *Outside) Said(now time.Time, serial int64, edit func(*ocsp.Response)) []byte {
	o.t.Helper()
	template := ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(serial), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(24 * time.Hour), IssuerHash: crypto.SHA256}
	if edit != nil {
		edit(&template)
	}
	return o.respond(o.Cert, template, o.Key)
}

// Delegated is one that a responder signed whose certificate is by a CA, as edit has it.
func (o *Outside) Delegated(now time.Time, by *Outside, serial int64, edit func(*x509.Certificate)) []byte {
	o.t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "Responder"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, KeyUsage: x509.KeyUsageDigitalSignature}
	if edit != nil {
		edit(template)
	}
	key := NewKey(o.t)
	cert := by.Issue(template, key)
	return o.respond(cert, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(serial), Certificate: cert,
		ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(24 * time.Hour), IssuerHash: crypto.SHA256}, key)
}

func (o *Outside) respond(responder *x509.Certificate, template ocsp.Response, key crypto.Signer) []byte {
	o.t.Helper()
	der, err := ocsp.CreateResponse(o.Cert, responder, template, key)
	if err != nil {
		o.t.Fatal(err)
	}
	return der
}

// List is its revocation list.
func (o *Outside) List(now time.Time, edit func(*x509.RevocationList), revoked ...int64) []byte {
	o.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(24 * time.Hour)}
	for _, serial := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: now})
	}
	if edit != nil {
		edit(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, o.Cert, o.Key)
	if err != nil {
		o.t.Fatal(err)
	}
	return der
}

// HashData names a certificate of an issuer as a station does.
func HashData(t testing.TB, algorithm string, serial *big.Int, issuer *x509.Certificate) ocpp.CertificateHashData {
	t.Helper()
	h := map[string]crypto.Hash{"SHA256": crypto.SHA256, "SHA384": crypto.SHA384, "SHA512": crypto.SHA512}[algorithm]
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key); err != nil {
		t.Fatal(err)
	}
	sum := func(b []byte) string {
		w := h.New()
		w.Write(b)
		return hex.EncodeToString(w.Sum(nil))
	}
	return ocpp.CertificateHashData{HashAlgorithm: algorithm, IssuerNameHash: sum(issuer.RawSubject), IssuerKeyHash: sum(key.Bits.Bytes), SerialNumber: serial.Text(16)}
}

// Web is where responders and lists of others are: a server on loopback under the name
// responder.example, and a client that may ask it. The client may ask inside.example too,
// whose address isn't public.
type Web struct {
	URL    string // ends with a slash
	Port   int
	Client *safehttp.Client

	mu     sync.Mutex
	hits   int
	answer http.HandlerFunc
}

// NewWeb starts one that answers nothing yet.
func NewWeb(t testing.TB) *Web {
	t.Helper()
	w := &Web{}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.hits++
		answer := w.answer
		w.mu.Unlock()
		if answer == nil {
			http.Error(rw, "nothing here", http.StatusTeapot)
			return
		}
		answer(rw, r)
	}))
	t.Cleanup(server.Close)
	w.Port = server.Listener.Addr().(*net.TCPAddr).Port
	w.URL = fmt.Sprintf("http://responder.example:%d/", w.Port)
	var err error
	w.Client, err = safehttp.New(safehttp.Config{Hosts: []string{"responder.example", "inside.example"}, Ports: []int{w.Port}, Redirects: 2,
		AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Timeout: 5 * time.Second,
		Resolver: resolver{"responder.example": "127.0.0.1", "inside.example": "169.254.169.254"}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

type resolver map[string]string

func (r resolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	text, ok := r[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{netip.MustParseAddr(text)}, nil
}

// Asked is how many requests there were.
func (w *Web) Asked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hits
}

// Answers has f answer from now on; nil: nothing is there.
func (w *Web) Answers(f func(w http.ResponseWriter, r *http.Request, body []byte)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.answer = nil; f == nil {
		return
	}
	w.answer = func(rw http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil {
			f(rw, r, body)
		}
	}
}

// Serves answers every POST with an OCSP response and every GET with a list.
func (w *Web) Serves(answer []byte) {
	w.Answers(func(rw http.ResponseWriter, r *http.Request, _ []byte) {
		if r.Method == http.MethodPost {
			rw.Header().Set("Content-Type", "application/ocsp-response")
		}
		_, _ = rw.Write(answer)
	})
}
