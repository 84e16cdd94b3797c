package fleet_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/fleet"
	"bollard/internal/safehttp"
	"bollard/ocpp"
)

// M06.FR.01, .02, .08, .09: for a certificate of the own CA the answer is its
// OCSP response, DER in base64, in each hash algorithm and however the station
// spells the values; Accepted says that it was obtained, not that it is good.
func TestM06FR01OwnCertificate(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	chain := w.issue("CS-1", "SN-CS-1")
	leaf, issuer := chain[0], chain[1]
	for _, version := range []ocpp.Version{ocpp.V201, ocpp.V21} {
		s := w.connected(version, fleet.SecurityBollard)
		for _, algorithm := range []string{"SHA256", "SHA384", "SHA512"} {
			d := hashData(t, algorithm, leaf.SerialNumber, issuer)
			for _, spelt := range []ocpp.CertificateHashData{d, {HashAlgorithm: d.HashAlgorithm, IssuerNameHash: strings.ToUpper(d.IssuerNameHash), IssuerKeyHash: strings.ToUpper(d.IssuerKeyHash), SerialNumber: "00" + strings.ToUpper(d.SerialNumber)}} {
				r, err := ocsp.ParseResponseForCert(s.ask(spelt, "http://169.254.169.254/"), leaf, issuer)
				if err != nil || r.Status != ocsp.Good {
					t.Errorf("%v %s: %+v, %v", version, algorithm, r, err)
				}
			}
		}
		s.close()
	}
	if _, err := w.svc.Revoke(t.Context(), "operator", serialOf(leaf), "keyCompromise"); err != nil {
		t.Fatal(err)
	}
	s := w.connected(ocpp.V201, fleet.SecurityBollard)
	r, err := ocsp.ParseResponseForCert(s.ask(hashData(t, "SHA256", leaf.SerialNumber, issuer), ""), leaf, issuer)
	if err != nil || r.Status != ocsp.Revoked {
		t.Errorf("revoked: %+v, %v", r, err)
	}
	if w.asked() != 0 {
		t.Error("somebody else was asked about an own certificate")
	}
}

// Section 11: the 2.0.1 message inside a 1.6 DataTransfer.
func TestM06FR01DataTransfer16(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	chain := w.issue("CS-1", "SN-CS-1")
	s := w.connected(ocpp.V16, fleet.SecurityBollard)
	inner, err := json.Marshal(statusRequest(hashData(t, "SHA256", chain[0].SerialNumber, chain[1]), "http://h/"))
	if err != nil {
		t.Fatal(err)
	}
	v := s.message(ocpp.FromStation, ocpp.ActionDataTransfer, `{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"GetCertificateStatus","data":`+string(inner)+`}`)
	answer, ok := v.Payload.(ocpp.DataTransferResponse)
	if v.Act != fleet.Answer || !ok || answer.Status != ocpp.StatusAccepted {
		t.Fatalf("verdict %+v", v)
	}
	var text string
	var status ocpp.GetCertificateStatusResponse
	if err := errors.Join(json.Unmarshal(answer.Data, &text), ocpp.DecodeStrict([]byte(text), &status)); err != nil {
		t.Fatal(err)
	}
	if r, err := ocsp.ParseResponseForCert(readStatus(t, status), chain[0], chain[1]); err != nil || r.Status != ocsp.Good {
		t.Errorf("%+v, %v", r, err)
	}
	if v := s.message(ocpp.FromStation, ocpp.ActionDataTransfer, `{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"GetCertificateStatus","data":{}}`); v.Act != fleet.Refuse {
		t.Errorf("data that is no string: %+v", v)
	}
}

// M06.FR.03: a foreign responder's answer goes to the station as it is.
func TestM06FR03ForeignResponder(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	s := w.connected(ocpp.V201, fleet.SecurityBollard)
	d := hashData(t, "SHA256", big.NewInt(7), w.v2g.cert)
	want := w.said(7, nil)
	w.answers(func(rw http.ResponseWriter, r *http.Request, body []byte) {
		q, err := ocsp.ParseRequest(body)
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/ocsp-request" ||
			q.SerialNumber.Int64() != 7 || q.HashAlgorithm != crypto.SHA256 || fmt.Sprintf("%x", q.IssuerNameHash) != d.IssuerNameHash || fmt.Sprintf("%x", q.IssuerKeyHash) != d.IssuerKeyHash {
			t.Errorf("request %+v, %v", q, err)
		}
		rw.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = rw.Write(want)
	})
	if got := s.ask(d, w.url); !equalDER(got, want) {
		t.Errorf("got %x", got)
	}
	for _, status := range []int{ocsp.Revoked, ocsp.Unknown} {
		want := w.said(8, func(r *ocsp.Response) { r.Status = status; r.RevokedAt = w.clock() })
		w.serves(want)
		w.advance(48 * time.Hour) // out of the cache
		want = w.said(8, func(r *ocsp.Response) { r.Status = status; r.RevokedAt = w.clock() })
		w.serves(want)
		if got := s.ask(hashData(t, "SHA256", big.NewInt(8), w.v2g.cert), w.url); !equalDER(got, want) {
			t.Errorf("status %d: got %x", status, got)
		}
	}
}

// M06.FR.04: what isn't an OCSP response in force about the certificate, signed
// by who may, is not obtained.
func TestM06FR04BadResponses(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	now := w.clock()
	other := newMaker(t, now)
	good := w.said(7, nil)
	forged := func() []byte {
		der, err := ocsp.CreateResponse(w.v2g.cert, other.cert, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(7), ThisUpdate: now, NextUpdate: now.Add(time.Hour), IssuerHash: crypto.SHA256}, other.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	foreign := func() []byte {
		der, err := ocsp.CreateResponse(other.cert, other.cert, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(7), ThisUpdate: now, NextUpdate: now.Add(time.Hour), IssuerHash: crypto.SHA256}, other.key)
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
		{"delegated", w.delegated(w.v2g, 7, nil), true},
		{"no next update", w.said(7, func(r *ocsp.Response) { r.NextUpdate = time.Time{} }), true},
		{"stale", w.said(7, func(r *ocsp.Response) { r.NextUpdate = now.Add(-time.Second) }), false},
		{"old without next update", w.said(7, func(r *ocsp.Response) { r.ThisUpdate, r.NextUpdate = now.Add(-8*24*time.Hour), time.Time{} }), false},
		{"of the future", w.said(7, func(r *ocsp.Response) { r.ThisUpdate = now.Add(time.Hour) }), false},
		{"another serial", w.said(8, nil), false},
		{"another hash", w.said(7, func(r *ocsp.Response) { r.IssuerHash = crypto.SHA1 }), false},
		{"another issuer", foreign(), false},
		{"forged", forged(), false},
		{"cut", good[:len(good)-1], false},
		{"with a tail", append(bytes.Clone(good), 0), false},
		{"tryLater", ocsp.TryLaterErrorResponse, false},
		{"empty", nil, false},
		{"text", []byte("<html>"), false},
		{"responder of another", w.delegated(other, 7, nil), false},
		{"responder not for OCSP", w.delegated(w.v2g, 7, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), false},
		{"responder expired", w.delegated(w.v2g, 7, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), false},
		{"responder not yet valid", w.delegated(w.v2g, 7, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }), false},
	} {
		s := w.connected(ocpp.V201, fleet.SecurityBollard)
		w.serves(test.der)
		// A URL of its own for each: no cache between them.
		if got := s.ask(hashData(t, "SHA256", big.NewInt(7), w.v2g.cert), w.url+"?"+strings.ReplaceAll(test.name, " ", "")); (got != nil) != test.ok {
			t.Errorf("%s: obtained %t", test.name, got != nil)
		}
		s.close()
	}
	s := w.connected(ocpp.V201, fleet.SecurityBollard)
	d := hashData(t, "SHA256", big.NewInt(7), w.v2g.cert)
	w.answers(func(rw http.ResponseWriter, _ *http.Request, _ []byte) { _, _ = rw.Write(good) })
	if s.ask(d, w.url+"?type") != nil {
		t.Error("another media type was taken")
	}
	w.answers(func(rw http.ResponseWriter, _ *http.Request, _ []byte) {
		rw.Header().Set("Content-Type", "application/ocsp-response")
		rw.WriteHeader(http.StatusInternalServerError)
		_, _ = rw.Write(good)
	})
	if s.ask(d, w.url+"?status") != nil {
		t.Error("an answer with status 500 was taken")
	}
}

// The issuer may come along with the response if it leads to a known root; the
// response of an issuer nobody knows is the station's to check.
func TestM06FR03IssuerFromTheResponse(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	now := w.clock()
	for _, known := range []bool{true, false} {
		root := w.v2g
		if !known {
			root = newMaker(t, now)
		}
		key := newKey(t)
		sub := root.sign(&x509.Certificate{Subject: pkix.Name{CommonName: fmt.Sprintf("Sub %t", known)}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, key)
		make := func(signer crypto.Signer) []byte {
			der, err := ocsp.CreateResponse(sub, sub, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(9), ThisUpdate: now, NextUpdate: now.Add(time.Hour), IssuerHash: crypto.SHA256, Certificate: sub}, signer)
			if err != nil {
				t.Fatal(err)
			}
			return der
		}
		d := hashData(t, "SHA256", big.NewInt(9), sub)
		s := w.connected(ocpp.V21, fleet.SecurityBollard)
		w.serves(make(key))
		if s.ask(d, w.url) == nil {
			t.Errorf("known %t: not obtained", known)
		}
		got := s.chainStatus(ocpp.CertificateStatusRequest{CertificateHashData: d, Source: ocpp.SourceOCSP, URLs: []string{w.url}})
		want := ocpp.CertificateGood
		if !known { // M07: Bollard itself would say Good
			want = ocpp.CertificateFailed
		}
		if got[0].Status != want {
			t.Errorf("known %t: chain status %+v", known, got)
		}
		s.close()
	}
}

// The result must fit the message: 5500 characters in 2.0.1, 18000 in 2.1.
func TestM06FR02ResultFits(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	for _, test := range []struct {
		names    int
		v201, v1 bool
	}{{1, true, true}, {150, false, true}, {600, false, false}} {
		der := w.delegated(w.v2g, 7, func(c *x509.Certificate) {
			for i := range test.names {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("a-rather-long-name-%04d.example", i))
			}
		})
		w.serves(der)
		for version, want := range map[ocpp.Version]bool{ocpp.V201: test.v201, ocpp.V21: test.v1} {
			s := w.connected(version, fleet.SecurityBollard)
			if got := s.ask(hashData(t, "SHA256", big.NewInt(7), w.v2g.cert), fmt.Sprintf("%s?%d", w.url, test.names)); (got != nil) != want {
				t.Errorf("%d bytes in %v: obtained %t", len(der), version, got != nil)
			}
			s.close()
		}
	}
}

// M06.FR.04: hash data that names nothing, and an own serial number that was
// never issued, are answered with Failed; what is no such message is refused.
func TestM06FR04BadRequests(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	chain := w.issue("CS-1", "SN-CS-1")
	s := w.connected(ocpp.V201, fleet.SecurityBollard)
	good := hashData(t, "SHA256", chain[0].SerialNumber, chain[1])
	for name, edit := range map[string]func(*ocpp.CertificateHashData){
		"never issued":   func(d *ocpp.CertificateHashData) { d.SerialNumber = "1234" },
		"algorithm":      func(d *ocpp.CertificateHashData) { d.HashAlgorithm = "SHA1" },
		"short hash":     func(d *ocpp.CertificateHashData) { d.IssuerNameHash = d.IssuerNameHash[2:] },
		"no hex":         func(d *ocpp.CertificateHashData) { d.IssuerKeyHash = strings.Repeat("zz", 32) },
		"no serial":      func(d *ocpp.CertificateHashData) { d.SerialNumber = "" },
		"long serial":    func(d *ocpp.CertificateHashData) { d.SerialNumber = "00" + strings.Repeat("f", 39) },
		"serial 0x":      func(d *ocpp.CertificateHashData) { d.SerialNumber = "0x12" },
		"signed serial":  func(d *ocpp.CertificateHashData) { d.SerialNumber = "-12" },
		"key of another": func(d *ocpp.CertificateHashData) { d.IssuerKeyHash = d.IssuerNameHash },
	} {
		d := good
		edit(&d)
		if s.ask(d, w.url) != nil {
			t.Errorf("%s: obtained", name)
		}
	}
	for _, payload := range []string{`[]`, `{"ocspRequestData":7}`, `{"ocspRequestData":{"serialNumber":"1","SerialNumber":"2"}}`} {
		if v := s.message(ocpp.FromStation, ocpp.ActionGetCertificateStatus, payload); v.Act != fleet.Refuse {
			t.Errorf("%s: %+v", payload, v)
		}
	}
}

// No URL from a station leads Bollard off the allow-list (promise 11).
func TestM06FR04ResponderURLTricks(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	w.serves(w.said(7, nil))
	s := w.connected(ocpp.V201, fleet.SecurityBollard)
	d := hashData(t, "SHA256", big.NewInt(7), w.v2g.cert)
	for _, url := range []string{
		"", "responder.example", "//responder.example/", "file:///etc/passwd", "gopher://responder.example/", "ftp://responder.example/",
		"http://169.254.169.254/latest/meta-data/", "http://inside.example/", fmt.Sprintf("http://inside.example:%d/", w.port),
		fmt.Sprintf("http://127.0.0.1:%d/", w.port), fmt.Sprintf("http://[::1]:%d/", w.port), fmt.Sprintf("http://localhost:%d/", w.port),
		fmt.Sprintf("http://2130706433:%d/", w.port), fmt.Sprintf("http://responder.example.evil.example:%d/", w.port),
		fmt.Sprintf("http://responder.example@127.0.0.1:%d/", w.port), fmt.Sprintf("http://u:p@responder.example:%d/", w.port),
		"http://responder.example:22/", "http://responder.example:0/", fmt.Sprintf("http://responder.example:%d/#x", w.port),
		fmt.Sprintf("http://responder.example:%d/\r\nX-Evil: 1", w.port), "http://\x1b[31m/", w.url + strings.Repeat("x", 600),
	} {
		if s.ask(d, url) != nil {
			t.Errorf("%q: obtained", url)
		}
	}
	if n := w.asked(); n != 0 {
		t.Errorf("the server was reached %d times", n)
	}
	if log := w.logged(); strings.Contains(log, "\x1b") || strings.Contains(log, "X-Evil: 1\n") {
		t.Error("a URL reached the log raw")
	}
	w.answers(func(rw http.ResponseWriter, r *http.Request, _ []byte) {
		http.Redirect(rw, r, fmt.Sprintf("http://127.0.0.1:%d/", w.port), http.StatusTemporaryRedirect)
	})
	if s.ask(d, w.url) != nil || w.asked() != 1 {
		t.Errorf("a redirect was followed: %d requests", w.asked())
	}
	w.svc.AttachStatus(nil, nil)
	if s.ask(d, w.url) != nil {
		t.Error("obtained without any client")
	}
}

// M06.FR.10: a response is kept until it is over, a week at most; it is asked
// for once, however many want it; nothing stale is served.
func TestM06FR10Cache(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	s := w.connected(ocpp.V201, fleet.SecurityBollard)
	d := hashData(t, "SHA256", big.NewInt(7), w.v2g.cert)
	month := func(r *ocsp.Response) { r.NextUpdate = w.clock().Add(30 * 24 * time.Hour) }
	for _, test := range []struct {
		name string
		life time.Duration
		edit func(*ocsp.Response)
	}{{"a day", 24 * time.Hour, nil}, {"a week of a month", 7 * 24 * time.Hour, month}} {
		before := w.asked()
		w.serves(w.said(7, test.edit))
		for range 3 {
			if s.ask(d, w.url) == nil {
				t.Fatalf("%s: not obtained", test.name)
			}
		}
		w.advance(test.life - time.Second)
		if s.ask(d, w.url) == nil || w.asked() != before+1 {
			t.Errorf("%s: %d requests", test.name, w.asked()-before)
		}
		w.advance(time.Second)
		w.answers(nil)
		if s.ask(d, w.url) != nil || w.asked() != before+2 {
			t.Errorf("%s: served after its time, %d requests", test.name, w.asked()-before)
		}
	}
	// Failures aren't kept.
	w.serves(w.said(7, nil))
	if s.ask(d, w.url) == nil {
		t.Error("a failure was kept")
	}

	before := w.asked()
	release := make(chan struct{})
	body := w.said(11, nil)
	w.answers(func(rw http.ResponseWriter, _ *http.Request, _ []byte) {
		<-release
		rw.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = rw.Write(body)
	})
	var all, started sync.WaitGroup
	for range 16 {
		started.Add(1)
		all.Go(func() {
			started.Done()
			if s.ask(hashData(t, "SHA256", big.NewInt(11), w.v2g.cert), w.url) == nil {
				t.Error("not obtained")
			}
		})
	}
	started.Wait()
	eventually(t, "asked", func() bool { return w.asked() > before })
	close(release)
	all.Wait()
	if n := w.asked() - before; n != 1 {
		t.Errorf("16 at once made %d requests", n)
	}
}

// slowFetcher never answers before its context ends.
type slowFetcher struct{ left chan time.Duration }

func (f slowFetcher) wait(ctx context.Context) (*safehttp.Response, error) {
	deadline, _ := ctx.Deadline()
	f.left <- time.Until(deadline)
	return nil, errors.New("too slow")
}
func (f slowFetcher) Get(ctx context.Context, _ string) (*safehttp.Response, error) {
	return f.wait(ctx)
}
func (f slowFetcher) Post(ctx context.Context, _, _ string, _ []byte) (*safehttp.Response, error) {
	return f.wait(ctx)
}

// M06.FR.04: who answers slowly is given up after ten seconds.
func TestM06FR04TimeLimit(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	slow := slowFetcher{make(chan time.Duration, 8)}
	w.svc.AttachStatus(nil, slow)
	s := w.connected(ocpp.V21, fleet.SecurityBollard)
	d := hashData(t, "SHA256", big.NewInt(7), w.v2g.cert)
	if s.ask(d, w.url) != nil {
		t.Error("obtained")
	}
	s.chainStatus(ocpp.CertificateStatusRequest{CertificateHashData: d, Source: ocpp.SourceCRL, URLs: []string{w.url}})
	for range 2 {
		if left := <-slow.left; left <= 0 || left > 10*time.Second {
			t.Errorf("%v left", left)
		}
	}
}

func TestM06BackEndsThatAnswer(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	for _, mode := range []fleet.SecurityMode{fleet.SecurityBackend, fleet.SecurityObserve} {
		s := w.connected(ocpp.V21, mode)
		for _, action := range []string{ocpp.ActionGetCertificateStatus, ocpp.ActionGetCertificateChainStatus} {
			if v := s.message(ocpp.FromStation, action, `{}`); v.Act != fleet.Pass {
				t.Errorf("%s %s: %+v", mode, action, v)
			}
		}
		s.close()
	}
	for _, test := range []struct {
		v             ocpp.Version
		status, chain bool
	}{{ocpp.V16, false, false}, {ocpp.V201, true, false}, {ocpp.V21, true, true}} {
		if w.svc.Interest(test.v, ocpp.FromStation, ocpp.ActionGetCertificateStatus) != test.status || w.svc.Interest(test.v, ocpp.FromStation, ocpp.ActionGetCertificateChainStatus) != test.chain {
			t.Errorf("interest in %v", test.v)
		}
	}
}

// A station asks about as many certificates as all its EVSEs have, and then one a second;
// beyond that it is told Failed at once, nobody is asked for it, and other stations go on.
func TestM06QuestionsOfAStationAreBounded(t *testing.T) { // M06.FR.04
	t.Parallel()
	w := newStatusRig(t)
	s := w.connected(ocpp.V21, fleet.SecurityBollard)
	w.serves(w.said(7, nil))
	data, url := hashData(t, "SHA256", big.NewInt(7), w.v2g.cert), w.url
	const burst = 3 * 64
	for n := range burst {
		if s.ask(data, url) == nil {
			t.Fatalf("question %d isn't answered", n)
		}
	}
	asked := w.asked()
	if s.ask(data, url) != nil {
		t.Error("more than its EVSEs have is answered")
	}
	chain := []ocpp.CertificateStatusRequest{w.chainRequest(ocpp.SourceOCSP, 7, url), w.chainRequest(ocpp.SourceOCSP, 7, url)}
	for _, got := range s.chainStatus(chain...) {
		if got.Status != ocpp.CertificateFailed {
			t.Errorf("a chain beyond it: %+v", got)
		}
	}
	if w.asked() != asked {
		t.Error("somebody was asked for it")
	}
	other := w.openWith(w.admit(withPassword(claim(t, "CS-2"), w.add(fleet.Enrolment{Identity: "CS-2"}))), ocpp.V21, fleet.SecurityBollard, nil)
	if other.ask(data, url) == nil {
		t.Error("another station pays for it")
	}
	w.advance(2 * time.Second)
	for _, got := range s.chainStatus(chain...) {
		if got.Status != ocpp.CertificateGood {
			t.Errorf("two seconds later: %+v", got)
		}
	}
}
