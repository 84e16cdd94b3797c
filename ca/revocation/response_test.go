package revocation_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/ca/catest"
	"bollard/ocpp"
)

// M06.FR.04: what isn't an OCSP response in force about the certificate, signed
// by who may, is not obtained.
func TestM06FR04BadResponses(t *testing.T) {
	t.Parallel()
	w := newRig(t)
	now := w.clock()
	other := catest.NewOutside(t, now)
	d, good := w.outside(7), w.v2g.Said(now, 7, nil)
	forged := func() []byte {
		der, err := ocsp.CreateResponse(w.v2g.Cert, other.Cert, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(7), ThisUpdate: now, NextUpdate: now.Add(time.Hour), IssuerHash: crypto.SHA256}, other.Key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	foreign := func() []byte {
		der, err := ocsp.CreateResponse(other.Cert, other.Cert, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(7), ThisUpdate: now, NextUpdate: now.Add(time.Hour), IssuerHash: crypto.SHA256}, other.Key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for _, test := range []struct {
		name string
		der  []byte
		ok   bool
	}{
		{"good", good, true},
		{"delegated", w.v2g.Delegated(now, w.v2g, 7, nil), true},
		{"no next update", w.v2g.Said(now, 7, func(r *ocsp.Response) { r.NextUpdate = time.Time{} }), true},
		{"stale", w.v2g.Said(now, 7, func(r *ocsp.Response) { r.NextUpdate = now.Add(-time.Second) }), false},
		{"old without next update", w.v2g.Said(now, 7, func(r *ocsp.Response) { r.ThisUpdate, r.NextUpdate = now.Add(-8*24*time.Hour), time.Time{} }), false},
		{"of the future", w.v2g.Said(now, 7, func(r *ocsp.Response) { r.ThisUpdate = now.Add(time.Hour) }), false},
		{"another serial", w.v2g.Said(now, 8, nil), false},
		{"another hash", w.v2g.Said(now, 7, func(r *ocsp.Response) { r.IssuerHash = crypto.SHA1 }), false},
		{"another issuer", foreign(), false},
		{"forged", forged(), false},
		{"cut", good[:len(good)-1], false},
		{"with a tail", append(bytes.Clone(good), 0), false},
		{"tryLater", ocsp.TryLaterErrorResponse, false},
		{"empty", nil, false},
		{"text", []byte("<html>"), false},
		{"responder of another", w.v2g.Delegated(now, other, 7, nil), false},
		{"responder not for OCSP", w.v2g.Delegated(now, w.v2g, 7, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), false},
		{"responder expired", w.v2g.Delegated(now, w.v2g, 7, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), false},
		{"responder not yet valid", w.v2g.Delegated(now, w.v2g, 7, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }), false},
	} {
		w.Serves(test.der)
		// A URL of its own for each: no cache between them.
		if got := w.obtains(d, w.URL+"?"+strings.ReplaceAll(test.name, " ", "")); got != test.ok {
			t.Errorf("%s: obtained %t", test.name, got)
		}
	}
	w.Answers(func(rw http.ResponseWriter, _ *http.Request, _ []byte) { _, _ = rw.Write(good) })
	if w.obtains(d, w.URL+"?type") {
		t.Error("another media type was taken")
	}
	w.Answers(func(rw http.ResponseWriter, _ *http.Request, _ []byte) {
		rw.Header().Set("Content-Type", "application/ocsp-response")
		rw.WriteHeader(http.StatusInternalServerError)
		_, _ = rw.Write(good)
	})
	if w.obtains(d, w.URL+"?status") {
		t.Error("an answer with status 500 was taken")
	}
}

// The issuer may come along with the response if it leads to a known root; the
// response of an issuer nobody knows is the station's to check.
func TestM06FR03IssuerFromTheResponse(t *testing.T) {
	t.Parallel()
	w := newRig(t)
	now := w.clock()
	for _, known := range []bool{true, false} {
		root := w.v2g
		if !known {
			root = catest.NewOutside(t, now)
		}
		key := catest.NewKey(t)
		sub := root.Issue(&x509.Certificate{Subject: pkix.Name{CommonName: fmt.Sprintf("Sub %t", known)}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, key)
		make := func(signer crypto.Signer) []byte {
			der, err := ocsp.CreateResponse(sub, sub, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(9), ThisUpdate: now, NextUpdate: now.Add(time.Hour), IssuerHash: crypto.SHA256, Certificate: sub}, signer)
			if err != nil {
				t.Fatal(err)
			}
			return der
		}
		d := catest.HashData(t, "SHA256", big.NewInt(9), sub)
		w.Serves(make(key))
		if !w.obtains(d, w.URL) {
			t.Errorf("known %t: not obtained", known)
		}
		want := ocpp.CertificateGood
		if !known { // M07: Bollard itself would say Good
			want = ""
		}
		if got := w.is(d, ocpp.SourceOCSP, w.URL); got != want {
			t.Errorf("known %t: %q", known, got)
		}
	}
}

// M06.FR.10: a response is kept until it is over, a week at most; it is asked
// for once, however many want it; nothing stale is served.
func TestM06FR10Cache(t *testing.T) {
	t.Parallel()
	w := newRig(t)
	d := w.outside(7)
	month := func(r *ocsp.Response) { r.NextUpdate = w.clock().Add(30 * 24 * time.Hour) }
	for _, test := range []struct {
		name string
		life time.Duration
		edit func(*ocsp.Response)
	}{{"a day", 24 * time.Hour, nil}, {"a week of a month", 7 * 24 * time.Hour, month}} {
		before := w.Asked()
		w.Serves(w.v2g.Said(w.clock(), 7, test.edit))
		for range 3 {
			if !w.obtains(d, w.URL) {
				t.Fatalf("%s: not obtained", test.name)
			}
		}
		w.advance(test.life - time.Second)
		if !w.obtains(d, w.URL) || w.Asked() != before+1 {
			t.Errorf("%s: %d requests", test.name, w.Asked()-before)
		}
		w.advance(time.Second)
		w.Answers(nil)
		if w.obtains(d, w.URL) || w.Asked() != before+2 {
			t.Errorf("%s: served after its time, %d requests", test.name, w.Asked()-before)
		}
	}
	// Failures aren't kept.
	w.Serves(w.v2g.Said(w.clock(), 7, nil))
	if !w.obtains(d, w.URL) {
		t.Error("a failure was kept")
	}

	before := w.Asked()
	release := make(chan struct{})
	body := w.v2g.Said(w.clock(), 11, nil)
	w.Answers(func(rw http.ResponseWriter, _ *http.Request, _ []byte) {
		<-release
		rw.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = rw.Write(body)
	})
	var all, started sync.WaitGroup
	for range 16 {
		started.Add(1)
		all.Go(func() {
			started.Done()
			if !w.obtains(w.outside(11), w.URL) {
				t.Error("not obtained")
			}
		})
	}
	started.Wait()
	for w.Asked() == before { // the test ends otherwise
		runtime.Gosched()
	}
	close(release)
	all.Wait()
	if n := w.Asked() - before; n != 1 {
		t.Errorf("16 at once made %d requests", n)
	}
}

// M06.FR.04: hash data in any spelling; what names nothing, and an own serial number
// that was never issued, are an error.
func TestM06FR04HashData(t *testing.T) {
	t.Parallel()
	w := newRig(t)
	cert, issuer := w.issue()
	good := catest.HashData(t, "SHA256", cert.SerialNumber, issuer)
	for name, test := range map[string]struct {
		edit func(*ocpp.CertificateHashData)
		ok   bool
	}{
		"as it is": {func(*ocpp.CertificateHashData) {}, true},
		"capitals": {func(d *ocpp.CertificateHashData) {
			d.IssuerNameHash, d.SerialNumber = strings.ToUpper(d.IssuerNameHash), "00"+strings.ToUpper(d.SerialNumber)
		}, true},
		"never issued": {func(d *ocpp.CertificateHashData) { d.SerialNumber = "1234" }, false},
		"algorithm":    {func(d *ocpp.CertificateHashData) { d.HashAlgorithm = "SHA1" }, false},
		"short hash":   {func(d *ocpp.CertificateHashData) { d.IssuerNameHash = d.IssuerNameHash[2:] }, false},
		"no hex":       {func(d *ocpp.CertificateHashData) { d.IssuerKeyHash = strings.Repeat("zz", 32) }, false},
		"no serial":    {func(d *ocpp.CertificateHashData) { d.SerialNumber = "" }, false},
		"long serial": {func(d *ocpp.CertificateHashData) {
			d.SerialNumber = strings.Repeat("0", 41-len(d.SerialNumber)) + d.SerialNumber
		}, false},
		"serial 0x":      {func(d *ocpp.CertificateHashData) { d.SerialNumber = "0x12" }, false},
		"signed serial":  {func(d *ocpp.CertificateHashData) { d.SerialNumber = "-12" }, false},
		"key of another": {func(d *ocpp.CertificateHashData) { d.IssuerKeyHash = d.IssuerNameHash }, false},
	} {
		d := good
		test.edit(&d)
		if got := w.obtains(d, w.URL); got != test.ok {
			t.Errorf("%s: obtained %t", name, got)
		}
	}
}
