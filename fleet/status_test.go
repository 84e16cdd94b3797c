package fleet_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/ca/catest"
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
			d := catest.HashData(t, algorithm, leaf.SerialNumber, issuer)
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
	r, err := ocsp.ParseResponseForCert(s.ask(catest.HashData(t, "SHA256", leaf.SerialNumber, issuer), ""), leaf, issuer)
	if err != nil || r.Status != ocsp.Revoked {
		t.Errorf("revoked: %+v, %v", r, err)
	}
	if w.Asked() != 0 {
		t.Error("somebody else was asked about an own certificate")
	}
}

// Section 11: the 2.0.1 message inside a 1.6 DataTransfer.
func TestM06FR01DataTransfer16(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	chain := w.issue("CS-1", "SN-CS-1")
	s := w.connected(ocpp.V16, fleet.SecurityBollard)
	inner, err := json.Marshal(statusRequest(catest.HashData(t, "SHA256", chain[0].SerialNumber, chain[1]), "http://h/"))
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
	d := catest.HashData(t, "SHA256", big.NewInt(7), w.v2g.Cert)
	want := w.v2g.Said(w.clock(), 7, nil)
	w.Answers(func(rw http.ResponseWriter, r *http.Request, body []byte) {
		q, err := ocsp.ParseRequest(body)
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/ocsp-request" ||
			q.SerialNumber.Int64() != 7 || q.HashAlgorithm != crypto.SHA256 || fmt.Sprintf("%x", q.IssuerNameHash) != d.IssuerNameHash || fmt.Sprintf("%x", q.IssuerKeyHash) != d.IssuerKeyHash {
			t.Errorf("request %+v, %v", q, err)
		}
		rw.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = rw.Write(want)
	})
	if got := s.ask(d, w.URL); !equalDER(got, want) {
		t.Errorf("got %x", got)
	}
	for _, status := range []int{ocsp.Revoked, ocsp.Unknown} {
		want := w.v2g.Said(w.clock(), 8, func(r *ocsp.Response) { r.Status = status; r.RevokedAt = w.clock() })
		w.Serves(want)
		w.advance(48 * time.Hour) // out of the cache
		want = w.v2g.Said(w.clock(), 8, func(r *ocsp.Response) { r.Status = status; r.RevokedAt = w.clock() })
		w.Serves(want)
		if got := s.ask(catest.HashData(t, "SHA256", big.NewInt(8), w.v2g.Cert), w.URL); !equalDER(got, want) {
			t.Errorf("status %d: got %x", status, got)
		}
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
		der := w.v2g.Delegated(w.clock(), w.v2g.Outside, 7, func(c *x509.Certificate) {
			for i := range test.names {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("a-rather-long-name-%04d.example", i))
			}
		})
		w.Serves(der)
		for version, want := range map[ocpp.Version]bool{ocpp.V201: test.v201, ocpp.V21: test.v1} {
			s := w.connected(version, fleet.SecurityBollard)
			if got := s.ask(catest.HashData(t, "SHA256", big.NewInt(7), w.v2g.Cert), fmt.Sprintf("%s?%d", w.URL, test.names)); (got != nil) != want {
				t.Errorf("%d bytes in %v: obtained %t", len(der), version, got != nil)
			}
			s.close()
		}
	}
}

// M06.FR.04: what nothing is known of is answered with Failed; what is no such message is
// refused.
func TestM06FR04BadRequests(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	chain := w.issue("CS-1", "SN-CS-1")
	s := w.connected(ocpp.V201, fleet.SecurityBollard)
	d := catest.HashData(t, "SHA256", chain[0].SerialNumber, chain[1])
	d.SerialNumber = "1234"
	if s.ask(d, w.URL) != nil {
		t.Error("obtained for a certificate that was never issued")
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
	w.Serves(w.v2g.Said(w.clock(), 7, nil))
	s := w.connected(ocpp.V201, fleet.SecurityBollard)
	d := catest.HashData(t, "SHA256", big.NewInt(7), w.v2g.Cert)
	for _, url := range []string{
		"", "responder.example", "//responder.example/", "file:///etc/passwd", "gopher://responder.example/", "ftp://responder.example/",
		"http://169.254.169.254/latest/meta-data/", "http://inside.example/", fmt.Sprintf("http://inside.example:%d/", w.Port),
		fmt.Sprintf("http://127.0.0.1:%d/", w.Port), fmt.Sprintf("http://[::1]:%d/", w.Port), fmt.Sprintf("http://localhost:%d/", w.Port),
		fmt.Sprintf("http://2130706433:%d/", w.Port), fmt.Sprintf("http://responder.example.evil.example:%d/", w.Port),
		fmt.Sprintf("http://responder.example@127.0.0.1:%d/", w.Port), fmt.Sprintf("http://u:p@responder.example:%d/", w.Port),
		"http://responder.example:22/", "http://responder.example:0/", fmt.Sprintf("http://responder.example:%d/#x", w.Port),
		fmt.Sprintf("http://responder.example:%d/\r\nX-Evil: 1", w.Port), "http://\x1b[31m/", w.URL + strings.Repeat("x", 600),
	} {
		if s.ask(d, url) != nil {
			t.Errorf("%q: obtained", url)
		}
	}
	if n := w.Asked(); n != 0 {
		t.Errorf("the server was reached %d times", n)
	}
	if log := w.logged(); strings.Contains(log, "\x1b") || strings.Contains(log, "X-Evil: 1\n") {
		t.Error("a URL reached the log raw")
	}
	w.Answers(func(rw http.ResponseWriter, r *http.Request, _ []byte) {
		http.Redirect(rw, r, fmt.Sprintf("http://127.0.0.1:%d/", w.Port), http.StatusTemporaryRedirect)
	})
	if s.ask(d, w.URL) != nil || w.Asked() != 1 {
		t.Errorf("a redirect was followed: %d requests", w.Asked())
	}
	w.asks(nil, nil)
	if s.ask(d, w.URL) != nil {
		t.Error("obtained without any client")
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
	w.asks(nil, slow)
	s := w.connected(ocpp.V21, fleet.SecurityBollard)
	d := catest.HashData(t, "SHA256", big.NewInt(7), w.v2g.Cert)
	if s.ask(d, w.URL) != nil {
		t.Error("obtained")
	}
	s.chainStatus(ocpp.CertificateStatusRequest{CertificateHashData: d, Source: ocpp.SourceCRL, URLs: []string{w.URL}})
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
	w.Serves(w.v2g.Said(w.clock(), 7, nil))
	data, url := catest.HashData(t, "SHA256", big.NewInt(7), w.v2g.Cert), w.URL
	const burst = 3 * 64
	for n := range burst {
		if s.ask(data, url) == nil {
			t.Fatalf("question %d isn't answered", n)
		}
	}
	asked := w.Asked()
	if s.ask(data, url) != nil {
		t.Error("more than its EVSEs have is answered")
	}
	chain := []ocpp.CertificateStatusRequest{w.chainRequest(ocpp.SourceOCSP, 7, url), w.chainRequest(ocpp.SourceOCSP, 7, url)}
	for _, got := range s.chainStatus(chain...) {
		if got.Status != ocpp.CertificateFailed {
			t.Errorf("a chain beyond it: %+v", got)
		}
	}
	if w.Asked() != asked {
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
