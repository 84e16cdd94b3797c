package revocation_test

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

	"bollard/ca"
	"bollard/ca/catest"
	"bollard/ca/revocation"
	"bollard/internal/safehttp"
	"bollard/ocpp"
)

// C07.FR.05: what the CA of a certificate says of it, by OCSP and else by CRL; what
// isn't signed for it is no answer.
func TestRevokedByItsCA(t *testing.T) {
	t.Parallel()
	w := newRig(t)
	other := catest.NewOutside(t, w.clock())
	leaf := func(edit func(*x509.Certificate)) *x509.Certificate {
		return w.v2g.Leaf(w.clock(), "NLEXA123456789", edit)
	}
	both := func(c *x509.Certificate) {
		c.OCSPServer, c.CRLDistributionPoints = []string{w.URL + "ocsp"}, []string{w.URL + "crl"}
	}
	ocspOnly := func(c *x509.Certificate) { c.OCSPServer = []string{w.URL + "ocsp"} }
	crlOnly := func(c *x509.Certificate) { c.CRLDistributionPoints = []string{w.URL + "crl"} }
	status := func(s int) func(serial int64) []byte {
		return func(serial int64) []byte {
			return w.v2g.Said(w.clock(), serial, func(r *ocsp.Response) { r.Status, r.RevokedAt = s, w.clock() })
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
		{"responder away, listed", both, none, func(n int64) []byte { return w.v2g.List(w.clock(), nil, n) }, true, true},
		{"responder away, not listed", both, none, func(n int64) []byte { return w.v2g.List(w.clock(), nil, n+1) }, false, true},
		{"unknown to the responder, listed", both, status(ocsp.Unknown), func(n int64) []byte { return w.v2g.List(w.clock(), nil, n) }, true, true},
		{"unknown to the responder", ocspOnly, status(ocsp.Unknown), none, false, false},
		{"list alone", crlOnly, none, func(n int64) []byte { return w.v2g.List(w.clock(), nil, n) }, true, true},
		{"signed by another CA", ocspOnly, func(n int64) []byte {
			der, err := ocsp.CreateResponse(other.Cert, other.Cert, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(n), ThisUpdate: w.clock(), NextUpdate: w.clock().Add(time.Hour)}, other.Key)
			if err != nil {
				t.Error(err)
			}
			return der
		}, none, false, false},
		{"about another certificate", ocspOnly, func(n int64) []byte { return w.v2g.Said(w.clock(), n+1, nil) }, none, false, false},
		{"off the allow-list", func(c *x509.Certificate) { c.OCSPServer = []string{"http://evil.example/"} }, status(ocsp.Good), none, false, false},
		{"no source", nil, none, none, false, false},
	} {
		cert := leaf(test.names)
		w.Answers(func(rw http.ResponseWriter, r *http.Request, _ []byte) {
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
		revoked, err := w.Revoked(t.Context(), cert, w.v2g.Cert)
		if revoked != test.revoked || (err == nil) != test.know {
			t.Errorf("%s: revoked %t, %v", test.name, revoked, err)
		}
	}
}

// A responder that hangs holds nobody up for longer than who asks wants to wait, and
// what it says in the end is there for the next.
func TestRevokedInTime(t *testing.T) {
	t.Parallel()
	w := newRig(t)
	cert := w.v2g.Leaf(w.clock(), "NLEXA123456789", func(c *x509.Certificate) { c.OCSPServer = []string{w.URL} })
	body := w.v2g.Said(w.clock(), cert.SerialNumber.Int64(), nil)
	asked, release := make(chan struct{}), make(chan struct{})
	answer := sync.OnceFunc(func() { close(release) })
	t.Cleanup(answer)
	w.Answers(func(rw http.ResponseWriter, _ *http.Request, _ []byte) {
		close(asked)
		<-release
		rw.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = rw.Write(body)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := w.Revoked(ctx, cert, w.v2g.Cert); !errors.Is(err, context.Canceled) {
		t.Fatalf("the first: %v", err)
	}
	answer()
	if revoked, err := w.Revoked(t.Context(), cert, w.v2g.Cert); revoked || err != nil || w.Asked() != 1 {
		t.Errorf("the next: %t, %v, %d requests", revoked, err, w.Asked())
	}
}

// By hashes only of providers whose root is trusted for that.
func TestRevokedByHash(t *testing.T) {
	t.Parallel()
	w := newRig(t)
	w.Answers(func(rw http.ResponseWriter, _ *http.Request, body []byte) {
		q, err := ocsp.ParseRequest(body)
		if err != nil {
			t.Error(err)
			return
		}
		rw.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = rw.Write(w.v2g.Said(w.clock(), q.SerialNumber.Int64(), func(r *ocsp.Response) {
			r.Status, r.RevokedAt = map[int64]int{7: ocsp.Good, 8: ocsp.Revoked, 9: ocsp.Unknown}[q.SerialNumber.Int64()], w.clock()
		}))
	})
	ask := func(serial int64, url string) (bool, error) {
		return w.RevokedByHash(t.Context(), asked(w.outside(serial), url))
	}
	if _, err := ask(7, w.URL); err == nil {
		t.Error("a root that is trusted for v2g alone vouched for a contract")
	}
	w.trust("mo")
	for serial, want := range map[int64]struct{ revoked, know bool }{7: {false, true}, 8: {true, true}, 9: {false, false}} {
		if revoked, err := ask(serial, w.URL); revoked != want.revoked || (err == nil) != want.know {
			t.Errorf("certificate %d: %t, %v", serial, revoked, err)
		}
	}
	for _, url := range []string{"", "http://evil.example/"} {
		if _, err := ask(7, url); err == nil {
			t.Errorf("learned from %q", url)
		}
	}
}

// stuck are responders of which one never answers.
type stuck struct {
	waiting atomic.Int64
	other   []byte
}

func (*stuck) Get(context.Context, string) (*safehttp.Response, error) {
	return nil, errors.New("no list")
}

func (f *stuck) Post(ctx context.Context, url, _ string, _ []byte) (*safehttp.Response, error) {
	if strings.Contains(url, "slow") {
		f.waiting.Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &safehttp.Response{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/ocsp-response"}}, Body: f.other}, nil
}

// One responder that is slow, however many ask it, leaves room to ask another.
func TestSlowResponderAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		root := catest.NewOutside(t, time.Now())
		at := func(url string) *x509.Certificate {
			return root.Leaf(time.Now(), "NLEXA123456789", func(c *x509.Certificate) { c.OCSPServer = []string{url} })
		}
		other := at("http://other.example/ocsp")
		fetch := &stuck{other: root.Said(time.Now(), other.SerialNumber.Int64(), nil)}
		checker, err := revocation.New(revocation.Config{Authority: &ca.Authority{}, Fetch: fetch})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 64 {
			cert := at("http://slow.example/ocsp")
			go func() { _, _ = checker.Revoked(ctx, cert, root.Cert) }()
		}
		synctest.Wait()
		if revoked, err := checker.Revoked(ctx, other, root.Cert); revoked || err != nil || fetch.waiting.Load() != 4 {
			t.Errorf("the other: %t, %v; the slow one has %d requests", revoked, err, fetch.waiting.Load())
		}
		time.Sleep(time.Minute) // past the patience of what still waits
	})
}

// broken panics where it is asked.
type broken struct{}

func (broken) Get(context.Context, string) (*safehttp.Response, error) { panic("a list") }
func (broken) Post(context.Context, string, string, []byte) (*safehttp.Response, error) {
	panic("a response")
}

// A defect that outsiders' bytes find ends one question, and not the process.
func TestPanicsAreErrors(t *testing.T) {
	t.Parallel()
	w := newRig(t)
	w.asks(nil, broken{})
	cert := w.v2g.Leaf(w.clock(), "NLEXA123456789", func(c *x509.Certificate) {
		c.OCSPServer, c.CRLDistributionPoints = []string{w.URL}, []string{w.URL}
	})
	if revoked, err := w.Revoked(t.Context(), cert, w.v2g.Cert); revoked || err == nil || !strings.Contains(err.Error(), "a response") || !strings.Contains(err.Error(), "a list") {
		t.Errorf("%t, %v", revoked, err)
	}
	w.asks(func(context.Context, []byte) ([]byte, bool, error) { panic("own") }, nil)
	d := w.outside(7)
	_, response := w.Response(t.Context(), asked(d, ""))
	_, _, status := w.Status(t.Context(), ocpp.CertificateStatusRequest{CertificateHashData: d, Source: ocpp.SourceOCSP})
	_, revoked := w.Revoked(t.Context(), cert, w.v2g.Cert)
	_, byHash := w.RevokedByHash(t.Context(), asked(d, ""))
	for name, err := range map[string]error{"Response": response, "Status": status, "Revoked": revoked, "RevokedByHash": byHash} {
		if err == nil || !strings.Contains(err.Error(), "own") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
