package fleet_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
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

	responder "bollard/ca/status"
	"bollard/fleet"
	"bollard/internal/safehttp"
	"bollard/ocpp"
)

// statusRig is a fleet that answers for its own CA and may ask one outside
// responder, which answers for a root of use v2g.
type statusRig struct {
	*rig
	v2g  *maker
	url  string
	port int

	mu     sync.Mutex
	hits   int
	answer func(w http.ResponseWriter, r *http.Request, body []byte)
}

type resolver map[string]string

func (r resolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	text, ok := r[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{netip.MustParseAddr(text)}, nil
}

func newStatusRig(t *testing.T) *statusRig {
	t.Helper()
	w := &statusRig{rig: newRig(t)}
	w.add(fleet.Enrolment{})
	w.v2g = newMaker(t, w.clock())
	w.trustFor("v2g", w.v2g)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		w.mu.Lock()
		w.hits++
		answer := w.answer
		w.mu.Unlock()
		if err != nil || answer == nil {
			http.Error(rw, "nothing here", http.StatusTeapot)
			return
		}
		answer(rw, r, body)
	}))
	t.Cleanup(server.Close)
	w.port = server.Listener.Addr().(*net.TCPAddr).Port
	w.url = fmt.Sprintf("http://responder.example:%d/", w.port)
	client, err := safehttp.New(safehttp.Config{Hosts: []string{"responder.example", "inside.example"}, Ports: []int{w.port}, Redirects: 2,
		AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Timeout: 5 * time.Second,
		Resolver: resolver{"responder.example": "127.0.0.1", "inside.example": "169.254.169.254"}})
	if err != nil {
		t.Fatal(err)
	}
	own, err := responder.New(responder.Config{Authority: w.auth, Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	w.svc.AttachStatus(own.Respond, client)
	return w
}

func (w *statusRig) asked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hits
}

func (w *statusRig) answers(f func(w http.ResponseWriter, r *http.Request, body []byte)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = f
}

// serves answers every POST with an OCSP response and every GET with a body.
func (w *statusRig) serves(response []byte) {
	w.answers(func(rw http.ResponseWriter, r *http.Request, _ []byte) {
		if r.Method == http.MethodPost {
			rw.Header().Set("Content-Type", "application/ocsp-response")
		}
		_, _ = rw.Write(response)
	})
}

// hashData names a certificate as a station does.
func hashData(t testing.TB, algorithm string, serial *big.Int, issuer *x509.Certificate) ocpp.CertificateHashData {
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

func statusRequest(d ocpp.CertificateHashData, url string) string {
	b, err := json.Marshal(ocpp.GetCertificateStatusRequest{OCSPRequestData: ocpp.OCSPRequestData{HashAlgorithm: d.HashAlgorithm,
		IssuerNameHash: d.IssuerNameHash, IssuerKeyHash: d.IssuerKeyHash, SerialNumber: d.SerialNumber, ResponderURL: url}})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// ask sends a GetCertificateStatus; nil: Failed.
func (s *fakeSession) ask(d ocpp.CertificateHashData, url string) []byte {
	s.r.t.Helper()
	v := s.message(ocpp.FromStation, ocpp.ActionGetCertificateStatus, statusRequest(d, url))
	answer, ok := v.Payload.(ocpp.GetCertificateStatusResponse)
	if v.Act != fleet.Answer || !ok {
		s.r.t.Fatalf("verdict %+v", v)
	}
	return readStatus(s.r.t, answer)
}

func readStatus(t testing.TB, answer ocpp.GetCertificateStatusResponse) []byte {
	t.Helper()
	switch {
	case answer.Status == ocpp.StatusFailed && answer.OCSPResult == "":
		return nil
	case answer.Status != ocpp.StatusAccepted:
		t.Fatalf("answer %+v", answer)
	}
	der, err := base64.StdEncoding.DecodeString(answer.OCSPResult)
	if err != nil || len(der) == 0 {
		t.Fatalf("ocspResult: %v", err)
	}
	return der
}

// said is an OCSP response of the outside root about a serial number.
func (w *statusRig) said(serial int64, edit func(*ocsp.Response)) []byte {
	w.t.Helper()
	template := ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(serial), ThisUpdate: w.clock().Add(-time.Hour), NextUpdate: w.clock().Add(24 * time.Hour), IssuerHash: crypto.SHA256}
	if edit != nil {
		edit(&template)
	}
	der, err := ocsp.CreateResponse(w.v2g.cert, w.v2g.cert, template, w.v2g.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return der
}

// delegated is a response signed by a certificate of its own.
func (w *statusRig) delegated(by *maker, serial int64, edit func(*x509.Certificate)) []byte {
	w.t.Helper()
	key := newKey(w.t)
	now := w.clock()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "Responder"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, KeyUsage: x509.KeyUsageDigitalSignature}
	if edit != nil {
		edit(template)
	}
	cert := by.sign(template, key)
	return w.signedBy(cert, key, serial)
}

func (w *statusRig) signedBy(cert *x509.Certificate, key *ecdsa.PrivateKey, serial int64) []byte {
	w.t.Helper()
	der, err := ocsp.CreateResponse(w.v2g.cert, cert, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(serial), Certificate: cert,
		ThisUpdate: w.clock().Add(-time.Hour), NextUpdate: w.clock().Add(24 * time.Hour), IssuerHash: crypto.SHA256}, key)
	if err != nil {
		w.t.Fatal(err)
	}
	return der
}

// crl is a revocation list of the outside root.
func (w *statusRig) crl(edit func(*x509.RevocationList), revoked ...int64) []byte {
	w.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: w.clock().Add(-time.Hour), NextUpdate: w.clock().Add(24 * time.Hour)}
	for _, serial := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: w.clock()})
	}
	if edit != nil {
		edit(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, w.v2g.cert, w.v2g.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return der
}

func equalDER(a, b []byte) bool { return len(a) > 0 && bytes.Equal(a, b) }
