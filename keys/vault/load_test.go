package vault_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/ca"
	"bollard/ca/catest"
	"bollard/ca/status"
	"bollard/keys"
	"bollard/keys/keystest"
	"bollard/store"
)

// outcome is what became of one order while Vault came and went.
type outcome struct {
	serial string
	err    error
	took   time.Duration
}

// load issues to a station without end, until its context does.
func load(ctx context.Context, t *testing.T, a *ca.Authority, csr ca.CSR, each func(outcome)) {
	for ctx.Err() == nil {
		began := time.Now()
		p, err := a.Prepare(context.WithoutCancel(ctx), catest.StationOrder(csr))
		if err != nil {
			t.Errorf("prepare: %v", err) // it needs no key
			return
		}
		issued, err := a.Issue(context.WithoutCancel(ctx), p)
		o := outcome{err: err, took: time.Since(began)}
		if err == nil {
			o.serial = issued.Serial
		}
		each(o)
	}
}

// A CA issues without end while its Vault's tokens run out, Vault is sealed, and killed:
// what fails fails as unavailable and in time, answers that were signed ahead are
// served, the CA goes on when Vault does, and what it gave out is on record.
func TestIssuingWhileVaultComesAndGoes(t *testing.T) {
	t.Parallel()
	s := startVault(t, nil)
	base := vaultBase(t, s, map[string]any{"token_ttl": "1s", "token_max_ttl": "1s"}, keys.RoleCA, keys.RoleOCSP)
	k := keystest.Keeper(t, keys.Config{})
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "bollard.db"), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := ca.Init(t.Context(), ca.InitConfig{Store: db, Keeper: k, KeyBase: base, Organisation: "Example CPO", Country: "NL", Clock: time.Now}); err != nil {
		t.Fatal(err)
	}
	a, err := ca.New(t.Context(), ca.Config{Store: db, Keeper: k, KeyBase: base, Organisation: "Example CPO", Country: "NL", Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	answers, err := status.New(status.Config{Authority: a, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	var given []string
	seen, csr := make(chan outcome), catest.StationRequest(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		load(ctx, t, a, csr, func(o outcome) {
			mu.Lock()
			if o.err == nil {
				given = append(given, o.serial)
			}
			mu.Unlock()
			if o.err != nil && (!errors.Is(o.err, keys.ErrUnavailable) || o.took > 10*time.Second) {
				t.Errorf("after %v: %v, want ErrUnavailable", o.took, o.err)
			}
			select {
			case seen <- o:
			case <-ctx.Done():
			}
		})
	})
	// until waits for the next order that went well, or didn't.
	until := func(well bool) outcome {
		t.Helper()
		limit := time.After(time.Minute)
		for {
			select {
			case o := <-seen:
				if (o.err == nil) == well {
					return o
				}
			case <-limit:
				t.Fatalf("waited in vain for an order with %t", well)
			}
		}
	}
	request, list := ask(t, a, until(true).serial), httptest.NewRequest(http.MethodGet, "/csms-issuing.crl", nil)
	served := func() (answer, crl int) {
		t.Helper()
		der, _, err := answers.Respond(t.Context(), request)
		if err == nil {
			if r, err := ocsp.ParseResponse(der, nil); err == nil && r.Status == ocsp.Good {
				answer = 200
			}
		}
		w := httptest.NewRecorder()
		answers.Handler().ServeHTTP(w, list)
		return answer, w.Code
	}
	if answer, crl := served(); answer != 200 || crl != 200 {
		t.Fatalf("before: OCSP %d, CRL %d", answer, crl)
	}
	// Tokens end each second: nobody notices.
	for began := time.Now(); time.Since(began) < 2500*time.Millisecond; {
		if o := <-seen; o.err != nil {
			t.Fatalf("a token ended: %v", o.err)
		}
	}
	for _, trouble := range []struct {
		what      string
		begin, up func() error
	}{
		{"sealed", func() error { return s.Seal(t.Context()) }, func() error { return s.Unseal(t.Context()) }},
		{"killed", func() error { s.Kill(); return nil }, func() error { return errors.Join(s.Restart(t.Context()), s.Unseal(t.Context())) }},
	} {
		if err := trouble.begin(); err != nil {
			t.Fatal(err)
		}
		until(false)
		if answer, crl := served(); answer != 200 || crl != 200 {
			t.Errorf("%s: OCSP %d, CRL %d", trouble.what, answer, crl)
		}
		if err := trouble.up(); err != nil {
			t.Fatal(err)
		}
		until(true)
	}
	stop()
	wg.Wait()
	for _, serial := range given {
		if r, err := db.Certificate(t.Context(), serial); err != nil || r.State != ca.StateIssued {
			t.Errorf("certificate %s that was given out: %s, %v", serial, r.State, err)
		}
	}
}

// ask is an OCSP request about a certificate.
func ask(t *testing.T, a *ca.Authority, serial string) []byte {
	t.Helper()
	r, err := a.Record(t.Context(), serial)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(r.DER)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ocsp.CreateRequest(cert, a.Intermediates(ca.KindCSMS)[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
