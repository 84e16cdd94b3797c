package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"
	"time"

	"bollard/ca"
	"bollard/keys"
)

// rig is an authority over a store in memory with its clock at now.
type rig struct {
	*ca.Authority
	store  *ca.MemStore
	keeper *keys.Keeper
	dir    string
	now    time.Time
	curves []ca.KeyClass // of ISO 15118-20, beside P-521

	assurance ca.Assurance
}

var start = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func newRig(t *testing.T) *rig {
	t.Helper()
	r := bareRig(t)
	if err := ca.Init(t.Context(), r.initConfig()); err != nil {
		t.Fatal(err)
	}
	r.open(t)
	return r
}

// bareRig has no hierarchy yet.
func bareRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{store: ca.NewMemStore(), dir: t.TempDir(), now: start}
	keeper, err := keys.New(keys.Config{Dir: r.dir})
	if err != nil {
		t.Fatal(err)
	}
	r.keeper = keeper
	return r
}

func (r *rig) clock() time.Time { return r.now }

func (r *rig) initConfig() ca.InitConfig {
	return ca.InitConfig{Store: r.store, Keeper: r.keeper, Organisation: "Example CPO", Country: "NL", Clock: r.clock}
}

func (r *rig) config() ca.Config {
	return ca.Config{Store: r.store, Keeper: r.keeper, Organisation: "Example CPO", Country: "NL", Curves20: r.curves, Assurance: r.assurance, Clock: r.clock}
}

func (r *rig) open(t *testing.T) {
	t.Helper()
	a, err := ca.New(t.Context(), r.config())
	if err != nil {
		t.Fatal(err)
	}
	r.Authority = a
}

// order for station cs1 with the key of a request.
func order(t *testing.T, key crypto.Signer) ca.Order {
	t.Helper()
	csr, err := ca.ParseCSR(request(t, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "whatever"}}))
	if err != nil {
		t.Fatal(err)
	}
	return ca.Order{
		Profile: ca.ProfileStation, Key: csr.Key, Subject: ca.Subject{CommonName: "SN-0001"},
		Station: "cs1", Requester: "station:cs1",
	}
}

func (r *rig) issue(t *testing.T, o ca.Order) *ca.Issued {
	t.Helper()
	p, err := r.Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := r.Issue(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

func newKey(t *testing.T) *ecdsa.PrivateKey { return newCurveKey(t, elliptic.P256()) }

func newCurveKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRSA(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func request(t *testing.T, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// Signed is the certificate of a preparation whose record was lost.
func (r *rig) Signed(t *testing.T, p *ca.Prepared) *x509.Certificate {
	t.Helper()
	der, err := p.Signed()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
