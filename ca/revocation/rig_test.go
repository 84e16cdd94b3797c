package revocation_test

import (
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bollard/ca"
	"bollard/ca/catest"
	"bollard/ca/revocation"
	"bollard/ca/status"
	"bollard/keys"
	"bollard/ocpp"
	"bollard/store"
)

// rig is a Checker of a real authority, which has its own responder and trusts an outside
// root of use v2g, whose responder may be asked.
type rig struct {
	*catest.Web
	*revocation.Checker
	t    *testing.T
	auth *ca.Authority
	v2g  *catest.Outside

	mu  sync.Mutex
	now time.Time
}

func newRig(t *testing.T) *rig {
	t.Helper()
	w := &rig{Web: catest.NewWeb(t), t: t, now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
	dir := t.TempDir()
	keeper, err := keys.New(keys.Config{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "bollard.db"), Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := ca.Init(t.Context(), ca.InitConfig{Store: db, Keeper: keeper, Organisation: "Example CPO", Country: "NL", Clock: w.clock}); err != nil {
		t.Fatal(err)
	}
	if w.auth, err = ca.New(t.Context(), ca.Config{Store: db, Keeper: keeper, Organisation: "Example CPO", Country: "NL", Clock: w.clock}); err != nil {
		t.Fatal(err)
	}
	own, err := status.New(status.Config{Authority: w.auth, Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	w.v2g = catest.NewOutside(t, w.now)
	w.trust("v2g")
	w.asks(own.Respond, w.Client)
	return w
}

// asks makes a Checker of who may be asked.
func (w *rig) asks(own revocation.Responder, fetch revocation.Fetcher) {
	w.t.Helper()
	var err error
	if w.Checker, err = revocation.New(revocation.Config{Authority: w.auth, Own: own, Fetch: fetch, Clock: w.clock}); err != nil {
		w.t.Fatal(err)
	}
}

// trust trusts the outside root for a use.
func (w *rig) trust(use string) {
	w.t.Helper()
	if _, err := w.auth.AddAnchor(w.t.Context(), use, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.v2g.Cert.Raw}), "operator"); err != nil {
		w.t.Fatal(err)
	}
}

func (w *rig) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *rig) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// issue makes an own certificate and returns it with its issuer.
func (w *rig) issue() (cert, issuer *x509.Certificate) {
	w.t.Helper()
	serial, err := catest.Issue(w.t.Context(), w.auth, catest.StationRequest(w.t))
	if err != nil {
		w.t.Fatal(err)
	}
	record, err := w.auth.Record(w.t.Context(), serial)
	if err != nil {
		w.t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(record.DER); err != nil {
		w.t.Fatal(err)
	}
	return cert, w.auth.Intermediates(ca.KindCSMS)[0]
}

// asked is a question about a certificate, to a responder.
func asked(d ocpp.CertificateHashData, url string) ocpp.OCSPRequestData {
	return ocpp.OCSPRequestData{HashAlgorithm: d.HashAlgorithm, IssuerNameHash: d.IssuerNameHash, IssuerKeyHash: d.IssuerKeyHash, SerialNumber: d.SerialNumber, ResponderURL: url}
}

// obtains says whether there is an OCSP response about a certificate.
func (w *rig) obtains(d ocpp.CertificateHashData, url string) bool {
	der, err := w.Response(w.t.Context(), asked(d, url))
	if (err == nil) != (len(der) > 0) {
		w.t.Errorf("%d bytes, %v", len(der), err)
	}
	return err == nil
}

// outside names a certificate of the outside root.
func (w *rig) outside(serial int64) ocpp.CertificateHashData {
	w.t.Helper()
	return catest.HashData(w.t, "SHA256", big.NewInt(serial), w.v2g.Cert)
}

// is is the status of a certificate by a source; "": it can't be learned.
func (w *rig) is(d ocpp.CertificateHashData, source string, urls ...string) string {
	word, next, err := w.Status(w.t.Context(), ocpp.CertificateStatusRequest{CertificateHashData: d, Source: source, URLs: urls})
	if (err == nil) != (word != "") || err != nil && !next.IsZero() {
		w.t.Errorf("%q until %v, %v", word, next, err)
	}
	return word
}
