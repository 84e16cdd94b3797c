package status_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/ca"
	"bollard/ca/status"
	"bollard/keys"
	"bollard/store"
)

// rig is a status server over a real authority and database.
type rig struct {
	*ca.Authority
	status  *status.Server
	store   *store.Store
	front   *front
	url     string
	root    *x509.Certificate
	issuing *x509.Certificate
	offset  atomic.Int64 // of the clock
	storm   atomic.Bool  // there is no time for what can wait
}

// front stands between server and authority, to let signing fail and to look
// at what happens in between.
type front struct {
	*ca.Authority
	frozen atomic.Bool
	signed atomic.Int64
	lists  atomic.Int64
	pinned atomic.Pointer[ca.OCSPSigner] // instead of the one in force
	list   atomic.Pointer[[]byte]        // instead of a new one, as a PKI mount has it
	mu     sync.Mutex
	after  func() // after a record was read, once
}

var errFrozen = errors.New("the key is gone")

func (f *front) OCSPSigner(ctx context.Context, issuer string) (*ca.OCSPSigner, error) {
	if f.frozen.Load() {
		return nil, errFrozen
	}
	f.signed.Add(1)
	if p := f.pinned.Load(); p != nil {
		return p, nil
	}
	return f.Authority.OCSPSigner(ctx, issuer)
}

func (f *front) SignCRL(ctx context.Context, issuer string) ([]byte, error) {
	if f.frozen.Load() {
		return nil, errFrozen
	}
	f.lists.Add(1)
	if der := f.list.Load(); der != nil {
		return *der, nil
	}
	return f.Authority.SignCRL(ctx, issuer)
}

func (f *front) Record(ctx context.Context, serial string) (ca.Record, error) {
	r, err := f.Authority.Record(ctx, serial)
	f.mu.Lock()
	after := f.after
	f.after = nil
	f.mu.Unlock()
	if after != nil {
		after()
	}
	return r, err
}

func (r *rig) clock() time.Time { return time.Now().Add(time.Duration(r.offset.Load())) }

func (r *rig) advance(d time.Duration) { r.offset.Add(int64(d)) }

func newRig(t testing.TB) *rig { return newRigOf(t, keys.P256, 0) }

func newRigOf(t testing.TB, algorithm keys.Algorithm, limit int) *rig {
	t.Helper()
	r := &rig{}
	dir := t.TempDir()
	keeper, err := keys.New(keys.Config{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	if r.store, err = store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "bollard.db"), Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.store.Close(); err != nil {
			t.Error(err)
		}
	})
	var handler http.Handler
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { handler.ServeHTTP(w, q) }))
	t.Cleanup(web.Close)
	r.url = web.URL
	if err := ca.Init(t.Context(), ca.InitConfig{
		Store: r.store, Keeper: keeper, Algorithm: algorithm, StatusURL: web.URL, Organisation: "Example CPO", Country: "NL", Clock: r.clock,
	}); err != nil {
		t.Fatal(err)
	}
	if r.Authority, err = ca.New(t.Context(), ca.Config{
		Store: r.store, Keeper: keeper, StatusURL: web.URL, Organisation: "Example CPO", Country: "NL", Clock: r.clock,
	}); err != nil {
		t.Fatal(err)
	}
	r.front = &front{Authority: r.Authority}
	if r.status, err = status.New(status.Config{Authority: r.front, Clock: r.clock, MaxResponses: limit, Calm: func() bool { return !r.storm.Load() }}); err != nil {
		t.Fatal(err)
	}
	handler = r.status.Handler()
	r.root, r.issuing = r.Roots(ca.KindCSMS)[0], r.Intermediates(ca.KindCSMS)[0]
	return r
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (r *rig) prepare(t testing.TB) *ca.Prepared {
	t.Helper()
	proven, err := ca.GeneratedKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Prepare(t.Context(), ca.Order{
		Profile: ca.ProfileStation, Key: proven, Subject: ca.Subject{CommonName: "SN-0001"}, Station: "cs1", Requester: "station:cs1",
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (r *rig) issue(t testing.TB) *x509.Certificate {
	t.Helper()
	issued, err := r.Issue(t.Context(), r.prepare(t))
	if err != nil {
		t.Fatal(err)
	}
	return issued.Certificate
}

func (r *rig) revoke(t *testing.T, cert *x509.Certificate, reason string) {
	t.Helper()
	if _, err := r.Revoke(t.Context(), ca.SerialOf(cert), reason, "operator"); err != nil {
		t.Fatal(err)
	}
}

func request(t testing.TB, cert, issuer *x509.Certificate, hash crypto.Hash) []byte {
	t.Helper()
	der, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// post returns the response's DER.
func (r *rig) post(t *testing.T, der []byte) []byte {
	t.Helper()
	answer, err := http.Post(r.url+"/ocsp", "application/ocsp-request", bytes.NewReader(der))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %.100s", answer.Status, err, body)
	}
	return body
}

// ask returns what is said of a certificate, or the error it is answered with.
func (r *rig) ask(t *testing.T, cert *x509.Certificate) (*ocsp.Response, error) {
	t.Helper()
	return ocsp.ParseResponseForCert(r.post(t, request(t, cert, r.issuing, crypto.SHA256)), cert, r.issuing)
}

func refused(err error, with ocsp.ResponseStatus) bool {
	var e ocsp.ResponseError
	return errors.As(err, &e) && e.Status == with
}

func get(t *testing.T, url string) (*http.Response, []byte) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, body
}

func pemFile(t *testing.T, kind string, ders ...[]byte) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "*.pem")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, der := range ders {
		if err := pem.Encode(f, &pem.Block{Type: kind, Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}

func openssl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "openssl", args...).CombinedOutput()
	return string(out), err
}
