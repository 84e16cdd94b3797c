package subscriber_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bollard/ca/subscriber"
	"bollard/keys"
)

const name = "front.example"

// authority is an ACME server that believes what it finds, and certifies as it is told.
// Real ones are in e2e.
type authority struct {
	t     *testing.T
	root  *x509.Certificate
	shown *x509.Certificate // as the one that certified: the root
	key   *ecdsa.PrivateKey
	draft func(*x509.Certificate, *x509.CertificateRequest) // changes what is certified
	sub   *subscriber.Subscriber                            // who proves
	chain []byte
	got   atomic.Int32 // certificates
	url   string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key, draft: func(*x509.Certificate, *x509.CertificateRequest) {}}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.shown = a.root
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Replay-Nonce", rand.Text())
	say := func(status int, location string, v any) {
		w.Header().Set("Location", a.url+location)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	order := map[string]any{"status": "ready", "finalize": a.url + "/finalize", "authorizations": []string{a.url + "/authz"}}
	challenge := map[string]any{"type": "http-01", "url": a.url + "/challenge", "token": "tok", "status": "pending"}
	switch r.URL.Path {
	case "/directory":
		say(200, "", map[string]string{"newNonce": a.url + "/nonce", "newAccount": a.url + "/account", "newOrder": a.url + "/order", "revokeCert": a.url + "/revoke", "keyChange": a.url + "/key"})
	case "/nonce":
	case "/account":
		say(201, "/account/1", map[string]string{"status": "valid"})
	case "/order":
		order["status"] = "pending"
		say(201, "/order/1", order)
	case "/authz":
		status := "pending"
		if a.proven() {
			status = "valid"
		}
		say(200, "", map[string]any{"status": status, "identifier": map[string]string{"type": "dns", "value": name}, "challenges": []any{challenge}})
	case "/challenge":
		say(200, "", challenge)
	case "/finalize":
		a.certify(r.Body)
		order["status"], order["certificate"] = "valid", a.url+"/certificate"
		say(200, "/order/1", order)
	case "/certificate":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(a.chain)
	default:
		a.t.Errorf("the CA is asked for %s", r.URL.Path)
	}
}

// proven looks for the proof where a CA looks.
func (a *authority) proven() bool {
	w := httptest.NewRecorder()
	a.sub.ServeHTTP(w, httptest.NewRequest(http.MethodGet, subscriber.Prefix+"tok", nil))
	return w.Code == http.StatusOK && strings.HasPrefix(w.Body.String(), "tok.")
}

func (a *authority) certify(body io.Reader) {
	var jws struct{ Payload string }
	var payload struct{ CSR string }
	err := json.NewDecoder(body).Decode(&jws)
	raw, err2 := base64.RawURLEncoding.DecodeString(jws.Payload)
	err3 := json.Unmarshal(raw, &payload)
	der, err4 := base64.RawURLEncoding.DecodeString(payload.CSR)
	csr, err5 := x509.ParseCertificateRequest(der)
	if err := errors.Join(err, err2, err3, err4, err5); err != nil {
		a.t.Error(err)
		return
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(int64(a.got.Add(1)) + 1), DNSNames: csr.DNSNames, PublicKey: csr.PublicKey,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(89 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	a.draft(leaf, csr)
	made, err := x509.CreateCertificate(rand.Reader, leaf, a.root, leaf.PublicKey, a.key)
	if err != nil {
		a.t.Error(err)
		return
	}
	a.chain = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.shown.Raw})...)
}

// rig is a subscriber of an authority.
type rig struct {
	*authority
	cfg   subscriber.Config
	now   atomic.Int64 // seconds after the start
	taken []string
}

func newRig(t *testing.T, algorithms ...keys.Algorithm) *rig {
	t.Helper()
	r := &rig{authority: newAuthority(t)}
	begin := time.Now()
	clock := func() time.Time { return begin.Add(time.Duration(r.now.Load()) * time.Second) }
	keeper, err := keys.New(keys.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	r.cfg = subscriber.Config{Directory: r.url + "/directory", Name: name, Keeper: keeper, Dir: filepath.Join(t.TempDir(), "acme"), Algorithm: algorithms,
		Taken: func(_ context.Context, leaf *x509.Certificate) error {
			r.taken = append(r.taken, leaf.SerialNumber.String())
			return nil
		}, Clock: clock, Log: slog.New(slog.DiscardHandler)}
	r.open()
	return r
}

// open is a start of the process.
func (r *rig) open() {
	r.t.Helper()
	sub, err := subscriber.New(r.t.Context(), r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.sub = sub
}

func TestCertificateIsKeptAndRenewed(t *testing.T) { // RFC 8555 §7
	t.Parallel()
	r := newRig(t, keys.P256, keys.RSA2048)
	if r.sub.Certificate(keys.P256) != nil {
		t.Fatal("there is a certificate before one was asked for")
	}
	if err := r.sub.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := r.sub.Certificate(keys.P256)
	if _, ok := r.sub.Certificate(keys.RSA2048).Leaf.PublicKey.(*rsa.PublicKey); !ok || len(first.Certificate) != 2 || len(r.taken) != 2 {
		t.Fatalf("chain of %d, RSA %v, taken %v", len(first.Certificate), ok, r.taken)
	}
	if r.proven() {
		t.Error("the proof is still shown")
	}
	// Another process has it at once, and asks for none.
	r.open()
	if got := r.sub.Certificate(keys.P256); got == nil || !got.Leaf.Equal(first.Leaf) {
		t.Error("after a restart it isn't there")
	}
	if err := r.sub.Renew(t.Context()); err != nil || r.got.Load() != 2 {
		t.Errorf("%v; %d certificates, want 2 in all", err, r.got.Load())
	}
	// A third of 90 hours before its end another one is asked for, for another key.
	r.now.Store(60 * 3600)
	if err := r.sub.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := r.sub.Certificate(keys.P256)
	if second.Leaf.Equal(first.Leaf) || second.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(first.Leaf.PublicKey) {
		t.Error("renewed, it is the same certificate or key")
	}
	files, err := filepath.Glob(filepath.Join(r.cfg.Dir, "*"))
	if err != nil || len(files) != 5 { // the account's key, two keys, two chains
		t.Errorf("%v, %v", files, err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// What a CA gives is used for nothing but what was asked for, and what there is stays.
func TestOtherCertificatesArentUsed(t *testing.T) {
	t.Parallel()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for want, draft := range map[string]func(*x509.Certificate, *x509.CertificateRequest){
		"another key":       func(c *x509.Certificate, _ *x509.CertificateRequest) { c.PublicKey = other.Public() },
		"not front.example": func(c *x509.Certificate, _ *x509.CertificateRequest) { c.DNSNames = []string{"back.example"} },
		"it ended":          func(c *x509.Certificate, _ *x509.CertificateRequest) { c.NotAfter = time.Now().Add(-time.Minute) },
		"it is a CA's":      func(c *x509.Certificate, _ *x509.CertificateRequest) { c.IsCA, c.BasicConstraintsValid = true, true },
		"it isn't for servers": func(c *x509.Certificate, _ *x509.CertificateRequest) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		},
		"certify the one before": func(*x509.Certificate, *x509.CertificateRequest) {}, // below
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, keys.P256)
			if err := r.sub.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			have := r.sub.Certificate(keys.P256)
			r.draft = draft
			if want == "certify the one before" {
				r.shown = newAuthority(t).root
			}
			r.now.Store(70 * 3600)
			if err := r.sub.Renew(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
			r.open()
			if got := r.sub.Certificate(keys.P256); got == nil || !got.Leaf.Equal(have.Leaf) {
				t.Error("what was there isn't in use any more")
			}
			if files, err := filepath.Glob(filepath.Join(r.cfg.Dir, "*")); err != nil || len(files) != 3 {
				t.Errorf("%v, %v", files, err)
			}
		})
	}
}

// One that ended isn't shown: the own CA's is.
func TestEndedCertificateIsntShown(t *testing.T) {
	t.Parallel()
	r := newRig(t, keys.P256)
	if err := r.sub.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	changed := 0
	r.cfg.Changed = func() { changed++ }
	r.cfg.Taken = func(context.Context, *x509.Certificate) error { return errors.New("no") }
	r.open()
	for _, at := range []struct {
		hours   int64
		shown   bool
		changes int
	}{{88, true, 0}, {90, false, 1}, {91, false, 1}} {
		r.now.Store(at.hours * 3600)
		if err := r.sub.Renew(t.Context()); err == nil {
			t.Error("it is renewed")
		}
		if got := r.sub.Certificate(keys.P256); (got != nil) != at.shown || changed != at.changes {
			t.Errorf("after %d hours: shown %t, changed %d times", at.hours, got != nil, changed)
		}
	}
}

// Refused by the ledger, a certificate isn't shown.
func TestUnrecordedCertificateIsntUsed(t *testing.T) {
	t.Parallel()
	r := newRig(t, keys.P256)
	full := errors.New("disk full")
	r.cfg.Taken = func(context.Context, *x509.Certificate) error { return full }
	r.open()
	if err := r.sub.Renew(t.Context()); !errors.Is(err, full) || r.sub.Certificate(keys.P256) != nil {
		t.Errorf("%v, %v", err, r.sub.Certificate(keys.P256))
	}
}

// What is damaged on disk is passed over.
func TestDamagedFilesArePassedOver(t *testing.T) {
	t.Parallel()
	for what, damage := range map[string]func(chain, key string) error{
		"cut chain":  func(chain, _ string) error { return os.Truncate(chain, 100) },
		"no key":     func(_, key string) error { return os.Remove(key) },
		"long chain": func(chain, _ string) error { return os.Truncate(chain, 1<<20) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, keys.P256)
			if err := r.sub.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			chains, err := filepath.Glob(filepath.Join(r.cfg.Dir, "*.pem"))
			if err != nil || len(chains) != 1 {
				t.Fatal(chains, err)
			}
			if err := damage(chains[0], strings.TrimSuffix(chains[0], ".pem")+".key"); err != nil {
				t.Fatal(err)
			}
			r.open()
			if r.sub.Certificate(keys.P256) != nil {
				t.Error("it is used")
			}
			if until, err := subscriber.Until(r.cfg.Dir, keys.P256); err != nil || !until.IsZero() {
				t.Errorf("until %s, %v", until, err)
			}
			if err := r.sub.Renew(t.Context()); err != nil || r.sub.Certificate(keys.P256) == nil {
				t.Errorf("%v: no other is there", err)
			}
			if files, err := filepath.Glob(filepath.Join(r.cfg.Dir, "*")); err != nil || len(files) != 3 {
				t.Errorf("%v, %v", files, err)
			}
			if until, err := subscriber.Until(r.cfg.Dir, keys.P256); err != nil || !until.Equal(r.sub.Certificate(keys.P256).Leaf.NotAfter) {
				t.Errorf("until %s, %v", until, err)
			}
		})
	}
}
