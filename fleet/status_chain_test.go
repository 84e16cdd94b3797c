package fleet_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/fleet"
	"bollard/ocpp"
)

// chainStatus sends a GetCertificateChainStatus and checks the answer's form.
func (s *fakeSession) chainStatus(requests ...ocpp.CertificateStatusRequest) []ocpp.CertificateStatus {
	s.r.t.Helper()
	payload, err := json.Marshal(ocpp.GetCertificateChainStatusRequest{Requests: requests})
	if err != nil {
		s.r.t.Fatal(err)
	}
	v := s.message(ocpp.FromStation, ocpp.ActionGetCertificateChainStatus, string(payload))
	answer, ok := v.Payload.(ocpp.GetCertificateChainStatusResponse)
	if v.Act != fleet.Answer || !ok || len(answer.Statuses) != len(requests) {
		s.r.t.Fatalf("verdict %+v", v)
	}
	for i, status := range answer.Statuses { // M07.FR.08
		if status.CertificateHashData != requests[i].CertificateHashData || status.Source != requests[i].Source {
			s.r.t.Errorf("status %d is of another certificate: %+v", i, status)
		}
		if next, err := time.Parse(time.RFC3339, status.NextUpdate); err != nil || next.Before(s.r.clock()) {
			s.r.t.Errorf("nextUpdate %q, %v", status.NextUpdate, err)
		}
	}
	return answer.Statuses
}

func (w *statusRig) chainRequest(source string, serial int64, urls ...string) ocpp.CertificateStatusRequest {
	return ocpp.CertificateStatusRequest{CertificateHashData: hashData(w.t, "SHA256", big.NewInt(serial), w.v2g.cert), Source: source, URLs: urls}
}

// M07.FR.01–.03, .08: by OCSP, any one of the URLs, each certificate for itself.
func TestM07FR01OCSP(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	s := w.connected(ocpp.V21, fleet.SecurityBollard)
	w.answers(func(rw http.ResponseWriter, r *http.Request, body []byte) {
		q, err := ocsp.ParseRequest(body)
		if err != nil || r.URL.Path != "/ok" {
			http.Error(rw, "no", http.StatusNotFound)
			return
		}
		rw.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = rw.Write(w.said(q.SerialNumber.Int64(), func(r *ocsp.Response) {
			r.Status = map[int64]int{1: ocsp.Good, 2: ocsp.Revoked, 3: ocsp.Unknown}[q.SerialNumber.Int64()]
			r.RevokedAt = w.clock()
		}))
	})
	got := s.chainStatus(w.chainRequest(ocpp.SourceOCSP, 1, "http://evil.example/", w.url+"down", w.url+"ok"), w.chainRequest(ocpp.SourceOCSP, 2, w.url+"ok"),
		w.chainRequest(ocpp.SourceOCSP, 3, w.url+"ok"), w.chainRequest(ocpp.SourceOCSP, 4, w.url+"down"))
	for i, want := range []string{ocpp.CertificateGood, ocpp.CertificateRevoked, ocpp.CertificateUnknown, ocpp.CertificateFailed} {
		if got[i].Status != want {
			t.Errorf("certificate %d: %s, want %s", i, got[i].Status, want)
		}
	}
	if want := w.clock().Add(24 * time.Hour).Format(time.RFC3339); got[0].NextUpdate != want {
		t.Errorf("nextUpdate %s, want the response's %s", got[0].NextUpdate, want)
	}
	// A response without nextUpdate still needs one in the message.
	w.serves(w.said(5, func(r *ocsp.Response) { r.NextUpdate = time.Time{} }))
	if got := s.chainStatus(w.chainRequest(ocpp.SourceOCSP, 5, w.url)); got[0].Status != ocpp.CertificateGood {
		t.Errorf("%+v", got)
	}
}

// M07.FR.04–.07: by CRL, which must be the issuer's, whole and in force.
func TestM07FR04CRL(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	s := w.connected(ocpp.V21, fleet.SecurityBollard)
	now := w.clock()
	extension := func(id []int, critical bool, value ...byte) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: id, Critical: critical, Value: value}}
		}
	}
	point := []int{2, 5, 29, 28}
	good := w.crl(nil, 2)
	forged := func() []byte { // the same name, another key
		key := newKey(t)
		issuer := *w.v2g.cert
		issuer.PublicKey = key.Public()
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}, &issuer, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for _, test := range []struct {
		name string
		body []byte
		of1  string // certificate 1, which no list has
		of2  string // certificate 2, which is revoked
	}{
		{"good", good, ocpp.CertificateGood, ocpp.CertificateRevoked},
		{"PEM", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: good}), ocpp.CertificateGood, ocpp.CertificateRevoked},
		{"a point with a name", w.crl(extension(point, true, 0x30, 0x02, 0xa0, 0x00), 2), ocpp.CertificateGood, ocpp.CertificateRevoked},
		{"user certificates only", w.crl(extension(point, true, 0x30, 0x03, 0x81, 0x01, 0xff), 2), ocpp.CertificateFailed, ocpp.CertificateFailed},
		{"a point and some reasons", w.crl(extension(point, true, 0x30, 0x06, 0xa0, 0x00, 0x83, 0x02, 0x06, 0x40), 2), ocpp.CertificateFailed, ocpp.CertificateFailed},
		{"delta", w.crl(extension([]int{2, 5, 29, 27}, true, 0x02, 0x01, 0x01), 2), ocpp.CertificateFailed, ocpp.CertificateFailed},
		{"stale", w.crl(func(l *x509.RevocationList) { l.ThisUpdate, l.NextUpdate = now.Add(-2*time.Hour), now.Add(-time.Hour) }, 2), ocpp.CertificateFailed, ocpp.CertificateFailed},
		{"of the future", w.crl(func(l *x509.RevocationList) { l.ThisUpdate = now.Add(time.Hour) }, 2), ocpp.CertificateFailed, ocpp.CertificateFailed},
		{"forged", forged(), ocpp.CertificateFailed, ocpp.CertificateFailed},
		{"cut", good[:len(good)-2], ocpp.CertificateFailed, ocpp.CertificateFailed},
		{"text", []byte("<html>"), ocpp.CertificateFailed, ocpp.CertificateFailed},
	} {
		w.serves(test.body)
		url := w.url + "?" + strings.ReplaceAll(test.name, " ", "")
		got := s.chainStatus(w.chainRequest(ocpp.SourceCRL, 1, "http://evil.example/x.crl", url), w.chainRequest(ocpp.SourceCRL, 2, url))
		if got[0].Status != test.of1 || got[1].Status != test.of2 {
			t.Errorf("%s: %s, %s", test.name, got[0].Status, got[1].Status)
		}
	}
	w.answers(func(rw http.ResponseWriter, _ *http.Request, _ []byte) {
		rw.WriteHeader(http.StatusNotFound)
		_, _ = rw.Write(good)
	})
	if got := s.chainStatus(w.chainRequest(ocpp.SourceCRL, 1, w.url+"?404")); got[0].Status != ocpp.CertificateFailed {
		t.Errorf("status 404: %+v", got)
	}
	// A list is fetched once for all its certificates, and asked for anew when it is over.
	w.serves(good)
	before := w.asked()
	for serial := range int64(4) {
		s.chainStatus(w.chainRequest(ocpp.SourceCRL, serial+1, w.url+"?cached"))
	}
	if n := w.asked() - before; n != 1 {
		t.Errorf("%d requests for one list", n)
	}
	w.advance(24 * time.Hour)
	if got := s.chainStatus(w.chainRequest(ocpp.SourceCRL, 1, w.url+"?cached")); got[0].Status != ocpp.CertificateFailed {
		t.Errorf("a stale list was used: %+v", got)
	}
	unknown := newMaker(t, now)
	r := w.chainRequest(ocpp.SourceCRL, 1, w.url)
	r.CertificateHashData = hashData(t, "SHA256", big.NewInt(1), unknown.cert)
	if got := s.chainStatus(r); got[0].Status != ocpp.CertificateFailed {
		t.Errorf("an issuer nobody knows: %+v", got)
	}
}

// M07: for certificates of the own CA the own records answer, whatever the source.
func TestM07FR01OwnCertificates(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	good, bad := w.issue("CS-1", "SN-CS-1"), w.issue("CS-1", "SN-CS-1")
	if _, err := w.svc.Revoke(t.Context(), "operator", serialOf(bad[0]), "keyCompromise"); err != nil {
		t.Fatal(err)
	}
	s := w.connected(ocpp.V21, fleet.SecurityBollard)
	var requests []ocpp.CertificateStatusRequest
	for _, source := range []string{ocpp.SourceOCSP, ocpp.SourceCRL} {
		for _, chain := range [][]*x509.Certificate{good, bad} {
			requests = append(requests, ocpp.CertificateStatusRequest{CertificateHashData: hashData(t, "SHA384", chain[0].SerialNumber, chain[1]), Source: source, URLs: []string{w.url}})
		}
	}
	for i, status := range s.chainStatus(requests...) {
		if want := []string{ocpp.CertificateGood, ocpp.CertificateRevoked}[i%2]; status.Status != want {
			t.Errorf("%d: %s, want %s", i, status.Status, want)
		}
	}
	requests[0].CertificateHashData.SerialNumber = "1234"
	if got := s.chainStatus(requests[0]); got[0].Status == ocpp.CertificateGood {
		t.Error("a certificate that was never issued is good")
	}
	if w.asked() != 0 {
		t.Error("somebody else was asked")
	}
}

func TestM07FR08Bounds(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	s := w.connected(ocpp.V21, fleet.SecurityBollard)
	one := w.chainRequest(ocpp.SourceOCSP, 1, w.url)
	edit := func(f func(*ocpp.CertificateStatusRequest)) []ocpp.CertificateStatusRequest {
		r := one
		f(&r)
		return []ocpp.CertificateStatusRequest{r}
	}
	for name, requests := range map[string][]ocpp.CertificateStatusRequest{
		"none":      nil,
		"five":      {one, one, one, one, one},
		"no URL":    edit(func(r *ocpp.CertificateStatusRequest) { r.URLs = nil }),
		"six URLs":  edit(func(r *ocpp.CertificateStatusRequest) { r.URLs = []string{"a", "b", "c", "d", "e", "f"} }),
		"source":    edit(func(r *ocpp.CertificateStatusRequest) { r.Source = "LDAP" }),
		"algorithm": edit(func(r *ocpp.CertificateStatusRequest) { r.CertificateHashData.HashAlgorithm = "MD5" }),
		"long hash": edit(func(r *ocpp.CertificateStatusRequest) { r.CertificateHashData.IssuerKeyHash = strings.Repeat("a", 129) }),
	} {
		payload, err := json.Marshal(ocpp.GetCertificateChainStatusRequest{Requests: requests})
		if err != nil {
			t.Fatal(err)
		}
		if v := s.message(ocpp.FromStation, ocpp.ActionGetCertificateChainStatus, string(payload)); v.Act != fleet.Refuse {
			t.Errorf("%s: %+v", name, v)
		}
	}
	bad := one
	bad.CertificateHashData.SerialNumber = "x"
	if got := s.chainStatus(bad, one); got[0].Status != ocpp.CertificateFailed {
		t.Errorf("%+v", got)
	}
	if w.asked() != 1 {
		t.Errorf("%d requests", w.asked())
	}
}
