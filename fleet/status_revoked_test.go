package fleet_test

import (
	"context"
	"crypto/x509"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/fleet"
	"bollard/internal/safehttp"
	"bollard/ocpp"
)

// C07.FR.05: what the CA of a certificate says of it, by OCSP and else by CRL; what
// isn't signed for it is no answer.
func TestRevokedByItsCA(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	other := newMaker(t, w.clock())
	leaf := func(edit func(*x509.Certificate)) *x509.Certificate {
		return w.v2g.leaf(w.clock(), "NLEXA123456789", edit)
	}
	both := func(c *x509.Certificate) {
		c.OCSPServer, c.CRLDistributionPoints = []string{w.url + "ocsp"}, []string{w.url + "crl"}
	}
	ocspOnly := func(c *x509.Certificate) { c.OCSPServer = []string{w.url + "ocsp"} }
	crlOnly := func(c *x509.Certificate) { c.CRLDistributionPoints = []string{w.url + "crl"} }
	status := func(s int) func(serial int64) []byte {
		return func(serial int64) []byte {
			return w.said(serial, func(r *ocsp.Response) { r.Status, r.RevokedAt = s, w.clock() })
		}
	}
	none := func(int64) []byte { return nil }
	for _, test := range []struct {
		name          string
		names         func(*x509.Certificate)
		ocsp, crl     func(serial int64) []byte
		revoked, know bool
	}{
		{"good", both, status(ocsp.Good), none, false, true},
		{"revoked", both, status(ocsp.Revoked), none, true, true},
		{"responder away, listed", both, none, func(n int64) []byte { return w.crl(nil, n) }, true, true},
		{"responder away, not listed", both, none, func(n int64) []byte { return w.crl(nil, n+1) }, false, true},
		{"unknown to the responder, listed", both, status(ocsp.Unknown), func(n int64) []byte { return w.crl(nil, n) }, true, true},
		{"unknown to the responder", ocspOnly, status(ocsp.Unknown), none, false, false},
		{"list alone", crlOnly, none, func(n int64) []byte { return w.crl(nil, n) }, true, true},
		{"signed by another CA", ocspOnly, func(n int64) []byte {
			der, err := ocsp.CreateResponse(other.cert, other.cert, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(n), ThisUpdate: w.clock(), NextUpdate: w.clock().Add(time.Hour)}, other.key)
			if err != nil {
				t.Error(err)
			}
			return der
		}, none, false, false},
		{"about another certificate", ocspOnly, func(n int64) []byte { return w.said(n+1, nil) }, none, false, false},
		{"off the allow-list", func(c *x509.Certificate) { c.OCSPServer = []string{"http://evil.example/"} }, status(ocsp.Good), none, false, false},
		{"no source", nil, none, none, false, false},
	} {
		cert := leaf(test.names)
		w.answers(func(rw http.ResponseWriter, r *http.Request, _ []byte) {
			body := map[string]func(int64) []byte{"/ocsp": test.ocsp, "/crl": test.crl}[r.URL.Path](cert.SerialNumber.Int64())
			if body == nil {
				http.Error(rw, "down", http.StatusServiceUnavailable)
				return
			}
			if r.URL.Path == "/ocsp" {
				rw.Header().Set("Content-Type", "application/ocsp-response")
			}
			_, _ = rw.Write(body)
		})
		w.advance(48 * time.Hour) // past every answer that is kept
		revoked, err := w.svc.Revoked(t.Context(), cert, w.v2g.cert)
		if revoked != test.revoked || (err == nil) != test.know {
			t.Errorf("%s: revoked %t, %v", test.name, revoked, err)
		}
	}
}

// A responder that hangs holds nobody up for longer than who asks wants to wait, and
// what it says in the end is there for the next.
func TestRevokedInTime(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	cert := w.v2g.leaf(w.clock(), "NLEXA123456789", func(c *x509.Certificate) { c.OCSPServer = []string{w.url} })
	body := w.said(cert.SerialNumber.Int64(), nil)
	asked, release := make(chan struct{}), make(chan struct{})
	answer := sync.OnceFunc(func() { close(release) })
	t.Cleanup(answer)
	w.answers(func(rw http.ResponseWriter, _ *http.Request, _ []byte) {
		close(asked)
		<-release
		rw.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = rw.Write(body)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := w.svc.Revoked(ctx, cert, w.v2g.cert); !errors.Is(err, context.Canceled) {
		t.Fatalf("the first: %v", err)
	}
	answer()
	if revoked, err := w.svc.Revoked(t.Context(), cert, w.v2g.cert); revoked || err != nil || w.asked() != 1 {
		t.Errorf("the next: %t, %v, %d requests", revoked, err, w.asked())
	}
}

// By hashes only of providers whose root is trusted for that.
func TestRevokedByHash(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	w.answers(func(rw http.ResponseWriter, _ *http.Request, body []byte) {
		q, err := ocsp.ParseRequest(body)
		if err != nil {
			t.Error(err)
			return
		}
		rw.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = rw.Write(w.said(q.SerialNumber.Int64(), func(r *ocsp.Response) {
			r.Status, r.RevokedAt = map[int64]int{7: ocsp.Good, 8: ocsp.Revoked, 9: ocsp.Unknown}[q.SerialNumber.Int64()], w.clock()
		}))
	})
	ask := func(serial int64, url string) (bool, error) {
		d := hashData(t, "SHA256", big.NewInt(serial), w.v2g.cert)
		return w.svc.RevokedByHash(t.Context(), ocpp.OCSPRequestData{HashAlgorithm: d.HashAlgorithm, IssuerNameHash: d.IssuerNameHash, IssuerKeyHash: d.IssuerKeyHash, SerialNumber: d.SerialNumber, ResponderURL: url})
	}
	if _, err := ask(7, w.url); err == nil {
		t.Error("a root that is trusted for v2g alone vouched for a contract")
	}
	w.trustFor("mo", w.v2g)
	for serial, want := range map[int64]struct{ revoked, know bool }{7: {false, true}, 8: {true, true}, 9: {false, false}} {
		if revoked, err := ask(serial, w.url); revoked != want.revoked || (err == nil) != want.know {
			t.Errorf("certificate %d: %t, %v", serial, revoked, err)
		}
	}
	for _, url := range []string{"", "http://evil.example/"} {
		if _, err := ask(7, url); err == nil {
			t.Errorf("learned from %q", url)
		}
	}
}

// One responder that is slow, however many ask it, leaves room to ask another.
func TestSlowResponderAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		outside := fleet.Outside()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var slow atomic.Int64
		for range 64 {
			go func() {
				_, _ = outside(ctx, "http://slow.example/ocsp", func() (*safehttp.Response, error) { slow.Add(1); <-ctx.Done(); return nil, ctx.Err() })
			}()
		}
		synctest.Wait()
		if _, err := outside(ctx, "http://other.example/ocsp", func() (*safehttp.Response, error) { return &safehttp.Response{}, nil }); err != nil || slow.Load() != 4 {
			t.Errorf("the other: %v; the slow one has %d requests", err, slow.Load())
		}
	})
}

// broken panics where it is asked.
type broken struct{}

func (broken) Get(context.Context, string) (*safehttp.Response, error) { panic("a list") }
func (broken) Post(context.Context, string, string, []byte) (*safehttp.Response, error) {
	panic("a response")
}

// A defect that outsiders' bytes find ends one question, and not the process.
func TestStatusSurvivesPanics(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	w.svc.AttachStatus(nil, broken{})
	cert := w.v2g.leaf(w.clock(), "NLEXA123456789", func(c *x509.Certificate) {
		c.OCSPServer, c.CRLDistributionPoints = []string{w.url}, []string{w.url}
	})
	if revoked, err := w.svc.Revoked(t.Context(), cert, w.v2g.cert); revoked || err == nil || !strings.Contains(err.Error(), "a response") || !strings.Contains(err.Error(), "a list") {
		t.Errorf("%t, %v", revoked, err)
	}
	w.svc.AttachStatus(func(context.Context, []byte) ([]byte, bool, error) { panic("own") }, nil)
	s := w.open(w.admit(withPassword(claim(t, "CS-9"), w.add(fleet.Enrolment{Identity: "CS-9"}))), ocpp.V21)
	v := s.message(ocpp.FromStation, ocpp.ActionGetCertificateChainStatus, marshal(t, ocpp.GetCertificateChainStatusRequest{Requests: []ocpp.CertificateStatusRequest{
		{CertificateHashData: hashData(t, "SHA256", big.NewInt(7), w.v2g.cert), Source: ocpp.SourceOCSP, URLs: []string{w.url}},
	}}))
	if got, ok := v.Payload.(ocpp.GetCertificateChainStatusResponse); !ok || len(got.Statuses) != 1 || got.Statuses[0].Status != ocpp.CertificateFailed {
		t.Errorf("verdict %+v", v)
	}
}
