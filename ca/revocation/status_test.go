package revocation_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/ca/catest"
	"bollard/ocpp"
)

// M07.FR.04–.07: by CRL, which must be the issuer's, whole and in force.
func TestM07FR04CRL(t *testing.T) {
	t.Parallel()
	w := newRig(t)
	now := w.clock()
	extension := func(id []int, critical bool, value ...byte) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: id, Critical: critical, Value: value}}
		}
	}
	point := []int{2, 5, 29, 28}
	good := w.v2g.List(now, nil, 2)
	forged := func() []byte { // the same name, another key
		key := catest.NewKey(t)
		issuer := *w.v2g.Cert
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
		{"a point with a name", w.v2g.List(now, extension(point, true, 0x30, 0x02, 0xa0, 0x00), 2), ocpp.CertificateGood, ocpp.CertificateRevoked},
		{"user certificates only", w.v2g.List(now, extension(point, true, 0x30, 0x03, 0x81, 0x01, 0xff), 2), "", ""},
		{"a point and some reasons", w.v2g.List(now, extension(point, true, 0x30, 0x06, 0xa0, 0x00, 0x83, 0x02, 0x06, 0x40), 2), "", ""},
		{"delta", w.v2g.List(now, extension([]int{2, 5, 29, 27}, true, 0x02, 0x01, 0x01), 2), "", ""},
		{"stale", w.v2g.List(now, func(l *x509.RevocationList) { l.ThisUpdate, l.NextUpdate = now.Add(-2*time.Hour), now.Add(-time.Hour) }, 2), "", ""},
		{"of the future", w.v2g.List(now, func(l *x509.RevocationList) { l.ThisUpdate = now.Add(time.Hour) }, 2), "", ""},
		{"forged", forged(), "", ""},
		{"cut", good[:len(good)-2], "", ""},
		{"text", []byte("<html>"), "", ""},
	} {
		w.Serves(test.body)
		url := w.URL + "?" + strings.ReplaceAll(test.name, " ", "")
		of1, of2 := w.is(w.outside(1), ocpp.SourceCRL, "http://evil.example/x.crl", url), w.is(w.outside(2), ocpp.SourceCRL, url)
		if of1 != test.of1 || of2 != test.of2 {
			t.Errorf("%s: %q, %q", test.name, of1, of2)
		}
	}
	w.Answers(func(rw http.ResponseWriter, _ *http.Request, _ []byte) {
		rw.WriteHeader(http.StatusNotFound)
		_, _ = rw.Write(good)
	})
	if got := w.is(w.outside(1), ocpp.SourceCRL, w.URL+"?404"); got != "" {
		t.Errorf("status 404: %s", got)
	}
	// A list is fetched once for all its certificates, and asked for anew when it is over.
	w.Serves(good)
	before := w.Asked()
	for serial := range int64(4) {
		w.is(w.outside(serial+1), ocpp.SourceCRL, w.URL+"?cached")
	}
	if n := w.Asked() - before; n != 1 {
		t.Errorf("%d requests for one list", n)
	}
	w.advance(24 * time.Hour)
	if got := w.is(w.outside(1), ocpp.SourceCRL, w.URL+"?cached"); got != "" {
		t.Errorf("a stale list was used: %s", got)
	}
	unknown := catest.NewOutside(t, now)
	if got := w.is(catest.HashData(t, "SHA256", big.NewInt(1), unknown.Cert), ocpp.SourceCRL, w.URL); got != "" {
		t.Errorf("an issuer nobody knows: %s", got)
	}
}

// M07: for certificates of the own CA the own records answer, whatever the source.
func TestM07FR01OwnCertificates(t *testing.T) {
	t.Parallel()
	w := newRig(t)
	good, issuer := w.issue()
	bad, _ := w.issue()
	if _, err := w.auth.Revoke(t.Context(), ca.SerialOf(bad), "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	of := func(cert *x509.Certificate) ocpp.CertificateHashData {
		return catest.HashData(t, "SHA384", cert.SerialNumber, issuer)
	}
	never := of(good)
	never.SerialNumber = "1234"
	for _, source := range []string{ocpp.SourceOCSP, ocpp.SourceCRL} {
		if got := w.is(of(good), source, w.URL); got != ocpp.CertificateGood {
			t.Errorf("%s: %q", source, got)
		}
		if got := w.is(of(bad), source, w.URL); got != ocpp.CertificateRevoked {
			t.Errorf("%s, revoked: %q", source, got)
		}
		if w.is(never, source, w.URL) == ocpp.CertificateGood {
			t.Errorf("%s: a certificate that was never issued is good", source)
		}
	}
	if w.Asked() != 0 {
		t.Error("somebody else was asked")
	}
}
