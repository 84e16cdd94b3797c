package tpm_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/ca"
	"bollard/ca/catest"
	"bollard/ca/status"
	"bollard/internal/testlog"
	"bollard/keys"
	"bollard/keys/keystest"
	"bollard/store"
)

// limit is how long a use of the TPM may take in these tests.
const limit = time.Second

// rig is a CA whose keys are in a TPM.
type rig struct {
	db      *store.Store
	ca      *ca.Authority
	answers *status.Server
	csr     ca.CSR
	log     *testlog.Buffer
}

func newRig(t *testing.T, device string) *rig {
	t.Helper()
	r := &rig{log: &testlog.Buffer{}}
	k := keystest.Keeper(t, keys.Config{Dir: t.TempDir(), HSMTimeout: limit, Log: slog.New(slog.NewTextHandler(r.log, nil))})
	var err error
	if r.db, err = store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "bollard.db"), Clock: time.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.db.Close() })
	of := base(t, device)
	if err := ca.Init(t.Context(), ca.InitConfig{Store: r.db, Keeper: k, KeyBase: of, Organisation: "Example CPO", Country: "NL", Clock: time.Now}); err != nil {
		t.Fatal(err)
	}
	if r.ca, err = ca.New(t.Context(), ca.Config{Store: r.db, Keeper: k, KeyBase: of, Organisation: "Example CPO", Country: "NL", Clock: time.Now}); err != nil {
		t.Fatal(err)
	}
	if r.answers, err = status.New(status.Config{Authority: r.ca, Clock: time.Now}); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	if r.csr, err = ca.ParseCSR(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})); err != nil {
		t.Fatal(err)
	}
	return r
}

// issue is one certificate for a station.
func (r *rig) issue(t *testing.T) (*ca.Issued, error) {
	p, err := r.ca.Prepare(context.Background(), catest.StationOrder(r.csr))
	if err != nil {
		t.Errorf("prepare: %v", err) // it needs no key
		return nil, err
	}
	return r.ca.Issue(context.Background(), p)
}

// served are OCSP's answer about a certificate, and its CA's list.
func (r *rig) served(t *testing.T, request []byte) (good bool, crl int) {
	t.Helper()
	der, _, err := r.answers.Respond(t.Context(), request)
	if err == nil {
		answer, err := ocsp.ParseResponse(der, r.ca.Intermediates(ca.KindCSMS)[0])
		good = err == nil && answer.Status == ocsp.Good
	}
	w := httptest.NewRecorder()
	r.answers.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/csms-issuing.crl", nil))
	return good, w.Code
}

// A CA issues without end while its TPM hangs, and is killed: what fails fails as
// unavailable and in time, answers that were signed ahead are served, the CA goes on when
// the TPM does, and what it gave out is on record.
func TestIssuingWhileTheTPMComesAndGoes(t *testing.T) {
	t.Parallel()
	d := startTPM(t)
	r := newRig(t, d.socket())
	first, err := r.issue(t)
	if err != nil {
		t.Fatal(err)
	}
	request, err := ocsp.CreateRequest(first.Certificate, r.ca.Intermediates(ca.KindCSMS)[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	if good, crl := r.served(t, request); !good || crl != http.StatusOK {
		t.Fatalf("before: OCSP %t, CRL %d", good, crl)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	outcomes, given := make(chan error), []string{first.Serial}
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			issued, err := r.issue(t)
			switch took := time.Since(began); {
			case err == nil:
				given = append(given, issued.Serial)
			case !errors.Is(err, keys.ErrUnavailable) || took > 5*limit:
				t.Errorf("after %v: %v, want ErrUnavailable", took, err)
			}
			select {
			case outcomes <- err:
			case <-ctx.Done():
			}
		}
	})
	// until waits for the next order that went well, or didn't.
	until := func(well bool) {
		t.Helper()
		late := time.After(time.Minute)
		for {
			select {
			case err := <-outcomes:
				if (err == nil) == well {
					return
				}
			case <-late:
				t.Fatalf("waited in vain for an order with %t", well)
			}
		}
	}
	for _, trouble := range []struct {
		what      string
		begin, up func() error
	}{
		{"stopped", func() error { return d.signal(syscall.SIGSTOP) }, func() error { return d.signal(syscall.SIGCONT) }},
		{"killed", func() error { d.kill(); return nil }, d.start},
		{"stopped, then killed", func() error { return d.signal(syscall.SIGSTOP) }, func() error { d.kill(); return d.start() }},
	} {
		if err := trouble.begin(); err != nil {
			t.Fatal(err)
		}
		until(false)
		if good, crl := r.served(t, request); !good || crl != http.StatusOK {
			t.Errorf("%s: OCSP %t, CRL %d", trouble.what, good, crl)
		}
		if err := trouble.up(); err != nil {
			t.Fatal(err)
		}
		until(true)
	}
	stop()
	wg.Wait()
	for _, serial := range given {
		if c, err := r.db.Certificate(t.Context(), serial); err != nil || c.State != ca.StateIssued {
			t.Errorf("certificate %s that was given out: %s, %v", serial, c.State, err)
		}
	}
	if log := r.log.String(); !strings.Contains(log, "holds keys is gone") || !strings.Contains(log, "holds keys is back") || strings.Contains(log, "canary") {
		t.Errorf("log: %s", log)
	}
}
