package acme_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	client "golang.org/x/crypto/acme"

	"bollard/ca/acme"
	"bollard/ledger"
)

// Who asks too often waits; each bound is its own.
func TestLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.registered()
	refused := 0
	for range acme.PerFailure + 2 {
		order, err := c.AuthorizeOrder(t.Context(), client.DomainIDs("one.example"))
		if err != nil {
			t.Fatal(err)
		}
		if kind := kindOf(r.prove(c, order, "http-01")); kind == "rateLimited" {
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("%d answers were refused", refused)
	}
	busy := r.raw()
	limited := 0
	for range acme.PerAccount + 3 {
		if status, head, body := busy.post("new-order", `{"identifiers":[]}`); problem(status, head, body) == "rateLimited" && head.Get("Retry-After") != "" {
			limited++
		}
	}
	if limited != 3 {
		t.Errorf("%d messages were refused", limited)
	}
	r.pass(time.Hour)
	if status, head, body := busy.post("new-order", `{"identifiers":[]}`); problem(status, head, body) != "malformed" {
		t.Errorf("after an hour: %d %s", status, body)
	}
}

// Anybody brings about refusals, and failures: one address so many, and all of them so many
// lines of the log.
func TestStrangersDontFillTheLog(t *testing.T) { // promise 12
	t.Parallel()
	var log bytes.Buffer
	r := newRig(t, func(r *rig) { r.config.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	c := r.raw()
	ask := func(address string) int {
		w, req := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "https://127.0.0.1/acme/names/new-order", strings.NewReader("x"))
		req.RemoteAddr = address
		r.server.Config.Handler.ServeHTTP(w, req)
		return w.Code
	}
	for range acme.PerSource {
		if got := ask("192.0.2.1:1"); got != http.StatusUnsupportedMediaType {
			t.Fatalf("status %d", got)
		}
	}
	if got := ask("192.0.2.1:2"); got != http.StatusTooManyRequests {
		t.Errorf("one more: %d", got)
	}
	if got := ask("192.0.2.2:1"); got != http.StatusUnsupportedMediaType {
		t.Errorf("another address: %d", got)
	}
	lines := strings.Count(log.String(), "ACME request refused")
	r.pass(time.Second)
	ask("192.0.2.2:1")
	if want := fmt.Sprintf("unlogged=%d\n", acme.PerSource+2-lines); lines == 0 || lines > 60 || !strings.Contains(log.String(), want) {
		t.Errorf("%d lines, and the log doesn't say %s", lines, want)
	}
	r.pass(time.Hour)
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if status, _, body := c.post("new-order", "{}"); status != http.StatusServiceUnavailable {
			t.Fatalf("%d %s", status, body)
		}
	}
	if lines := strings.Count(log.String(), "couldn't serve"); lines == 0 || lines > 60 {
		t.Errorf("%d lines of what can't be served", lines)
	}
}

// Accounts that cost nothing share what one address may ask, and write no entry for
// what they don't prove.
func TestStrangersShareABound(t *testing.T) { // promise 12
	t.Parallel()
	r := newRig(t, func(r *rig) { r.config.Open = nil })
	asked, refused := 0, 0
	for asked < acme.PerStranger+1 {
		c := r.raw()
		for range acme.PerAccount {
			status, head, body := c.post("new-order", `{"identifiers":[{"type":"dns","value":"one.example"}]}`)
			if asked++; problem(status, head, body) == "rateLimited" {
				refused++
			} else if status != 201 {
				t.Fatalf("%d %s", status, body)
			}
		}
	}
	if refused != asked-acme.PerStranger {
		t.Errorf("%d of %d were refused", refused, asked)
	}
	for e, err := range r.store.Entries(t.Context(), 1) {
		if err != nil || e.Kind == "acme.order" {
			t.Fatalf("an order of strangers is an entry: %s, %v", e.Kind, err)
		}
	}
}

// Without tokens strangers make accounts: those that get no certificate in a day are
// forgotten.
func TestOpenDoor(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(r *rig) { r.config.Open = nil })
	served, idle := r.registered(), r.registered()
	if _, err := r.issue(served, newKey(t), "http-01", "one.example"); err != nil {
		t.Fatal(err)
	}
	ended := r.registered()
	accounts, err := r.store.ACMEAccounts(t.Context())
	if err != nil || len(accounts) != 3 {
		t.Fatalf("accounts %+v, %v", accounts, err)
	}
	for _, a := range accounts {
		if strings.HasSuffix(string(ended.KID), "/"+a.ID) {
			_, err = r.store.UpdateACMEAccount(t.Context(), a.ID, func(a *acme.Account) ([]ledger.Event, error) {
				a.State = acme.AccountRevoked
				return nil, nil
			})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	r.pass(25 * time.Hour)
	r.registered()
	if accounts, err = r.store.ACMEAccounts(t.Context()); err != nil || len(accounts) != 3 {
		t.Errorf("accounts %+v, %v", accounts, err)
	}
	if _, err := ended.AuthorizeOrder(t.Context(), client.DomainIDs("one.example")); kindOf(err) != "unauthorized" {
		t.Errorf("one that an operator ended: %v", err)
	}
	if _, err := idle.AuthorizeOrder(t.Context(), client.DomainIDs("one.example")); kindOf(err) != "accountDoesNotExist" {
		t.Errorf("the idle one: %v", err)
	}
	if _, err := served.AuthorizeOrder(t.Context(), client.DomainIDs("one.example")); err != nil {
		t.Errorf("the other: %v", err)
	}
}
