package ca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // as Vault names keys
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bollard/ca"
	"bollard/keys"
	"bollard/store"
)

// mount is a CA that issues itself, as a PKI mount of a Vault does, and can be told to
// issue something else.
type mount struct {
	mu      sync.Mutex
	key     *ecdsa.PrivateKey
	cert    *x509.Certificate
	role    string
	clock   func() time.Time
	issued  map[string][]byte // by serial number
	revoked map[string]bool
	// alter changes what is signed, swap what is given out of it.
	alter func(*x509.Certificate)
	swap  func(*mount, []byte) []byte
	lose  bool  // issues, and its answer is lost
	keeps bool  // what it issues
	gone  bool  // isn't at its path: finds nothing
	away  error // of every call
}

func (m *mount) Role() string { return m.role }

func (m *mount) Issuer(context.Context) ([]byte, error) {
	if m.cert == nil || m.gone {
		return nil, keys.ErrNotFound
	}
	return m.cert.Raw, m.away
}

func (m *mount) Sign(_ context.Context, o keys.MountOrder) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away != nil {
		return nil, m.away
	}
	csr, err := x509.ParseCertificateRequest(o.Request)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keys.ErrUnfit, err)
	}
	octets := make([]byte, 20)
	if _, err := rand.Read(octets); err != nil {
		return nil, err
	}
	octets[0] = octets[0]&0x3f | 0x20
	point, err := csr.PublicKey.(*ecdsa.PublicKey).Bytes()
	if err != nil {
		return nil, err
	}
	name := sha1.Sum(point) //nolint:gosec // as above
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(octets), Subject: pkix.Name{Organization: []string{"Example CPO"}, CommonName: o.CommonName},
		NotBefore: m.clock().Add(-30 * time.Second), NotAfter: o.NotAfter, SubjectKeyId: name[:],
		OCSPServer: []string{"http://status.example/ocsp"}, IssuingCertificateURL: []string{"http://status.example/csms-issuing-2.crt"},
		CRLDistributionPoints: []string{"http://status.example/csms-issuing-2.crl"}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if o.Role == "" {
		template.RawSubject = csr.RawSubject
		template.ExtraExtensions = slices.DeleteFunc(slices.Clone(csr.Extensions), func(e pkix.Extension) bool { return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 19}) })
	} else {
		template.BasicConstraintsValid = true
	}
	if m.alter != nil {
		m.alter(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, m.cert, csr.PublicKey, m.key)
	if err != nil {
		return nil, err
	}
	if m.swap != nil {
		der = m.swap(m, der)
	}
	if cert, err := x509.ParseCertificate(der); m.keeps && err == nil && m.issued[string(cert.SerialNumber.Bytes())] == nil {
		m.issued[string(cert.SerialNumber.Bytes())] = der
	}
	if m.lose {
		return nil, fmt.Errorf("%w: no answer", keys.ErrUnavailable)
	}
	return der, nil
}

func (m *mount) Certificate(_ context.Context, serial []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away != nil {
		return nil, m.away
	}
	if der := m.issued[string(serial)]; der != nil && !m.gone {
		return der, nil
	}
	return nil, keys.ErrNotFound
}

func (m *mount) Serials(context.Context) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		return nil, nil // as of every 404 of a list
	}
	var list [][]byte
	for serial := range m.issued {
		list = append(list, []byte(serial))
	}
	return list, m.away
}

func (m *mount) Revoke(_ context.Context, serial []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away == nil {
		m.revoked[string(serial)] = true
	}
	return m.away
}

func (m *mount) RevokeShown(ctx context.Context, der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil || cert.CheckSignatureFrom(m.cert) != nil {
		return keys.ErrUnfit
	}
	return m.Revoke(ctx, cert.SerialNumber.Bytes())
}

func (m *mount) Revocations(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away != nil {
		return nil, m.away
	}
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: m.clock(), NextUpdate: m.clock().Add(72 * time.Hour)}
	for serial := range m.revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes([]byte(serial)), RevocationTime: m.clock()})
	}
	return x509.CreateRevocationList(rand.Reader, list, m.cert, m.key)
}

// isRevoked tells by the number as Bollard writes it.
func (m *mount) isRevoked(serial string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := new(big.Int).SetString(serial, 16)
	return ok && m.revoked[string(n.Bytes())]
}

// mountRig is an authority whose stations' certificates a mount issues.
type mountRig struct {
	*ca.Authority
	db    *store.Store
	cfg   ca.Config
	mount *mount
	ahead atomic.Int64 // of start
	told  []string     // CAs that the alarm was raised of
}

func newMountRig(t *testing.T, role string) *mountRig {
	t.Helper()
	dir := t.TempDir()
	r := &mountRig{}
	clock := r.clock
	key := newKey(t)
	r.mount = &mount{key: key, role: role, clock: clock, keeps: true, issued: map[string][]byte{}, revoked: map[string]bool{}}
	keeper, err := keys.New(keys.Config{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	if r.db, err = store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "bollard.db"), Clock: clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.db.Close() })
	r.cfg = ca.Config{
		Store: r.db, Keeper: keeper, Organisation: "Example CPO", Country: "NL", Clock: clock, StatusURL: "http://status.example",
		Mounts: func(string) (ca.Mount, error) { return r.mount, nil },
		Alarm:  func(_ context.Context, issuer string) error { r.told = append(r.told, issuer); return nil },
	}
	if err := ca.Init(t.Context(), ca.InitConfig{Store: r.db, Keeper: keeper, Organisation: "Example CPO", Country: "NL", StatusURL: "http://status.example", Clock: clock}); err != nil {
		t.Fatal(err)
	}
	r.restart(t)
	return r
}

func (r *mountRig) clock() time.Time { return start.Add(time.Duration(r.ahead.Load())) }

func (r *mountRig) restart(t *testing.T) {
	t.Helper()
	a, err := ca.New(t.Context(), r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Authority = a
}

const mountURI = "vault-pki:address=https://vault.example:8200?token-source=/token"

// certify has the root certify the mount's key.
func (r *mountRig) certify(t *testing.T) *x509.Certificate {
	t.Helper()
	cert, err := r.CertifyMount(t.Context(), ca.KindCSMS, mountURI, request(t, r.mount.key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "mount"}}), "operator")
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// inUse is a rig whose mount issues.
func inUse(t *testing.T, role string) *mountRig {
	t.Helper()
	r := newMountRig(t, role)
	r.mount.cert = r.certify(t)
	if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *mountRig) try(t *testing.T, o ca.Order) (*ca.Issued, error) {
	t.Helper()
	p, err := r.Prepare(t.Context(), o)
	if err != nil {
		return nil, err
	}
	return r.Issue(t.Context(), p)
}

// records are those of a station.
func (r *mountRig) records(t *testing.T, station string) []ca.Record {
	t.Helper()
	list, err := r.db.Certificates(t.Context(), ca.Filter{Station: station})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// kinds are those of the ledger's entries about a subject.
func (r *mountRig) kinds(t *testing.T, subject string) []string {
	t.Helper()
	var kinds []string
	for e, err := range r.db.Entries(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Subject == subject {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}
