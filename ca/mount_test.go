package ca_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // as Vault names keys
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bollard/ca"
	"bollard/keys"
	"bollard/ledger"
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

// A station's certificate comes from the mount, under the number it has there, on record
// before it is given out; chain, OCSP signer and list are the mount's.
func TestMountIssues(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"", "stations"} {
		t.Run("role "+role, func(t *testing.T) {
			t.Parallel()
			r := inUse(t, role)
			key := newKey(t)
			o := order(t, key)
			if role == "" { // word for word
				csr, err := ca.ParseCSR(request(t, key, &x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"Example CPO"}, CommonName: "SN-0001"}}))
				if err != nil {
					t.Fatal(err)
				}
				o.Key = csr.Key
			}
			issued, err := r.try(t, o)
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AddCert(r.Roots(ca.KindCSMS)[0])
			between := x509.NewCertPool()
			for _, c := range issued.Chain {
				between.AddCert(c)
			}
			if _, err := issued.Certificate.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: r.clock(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
				t.Error(err)
			}
			if issued.Issuer != "csms-issuing-2" || issued.Serial != ca.SerialOf(issued.Certificate) {
				t.Errorf("issued by %s as %s", issued.Issuer, issued.Serial)
			}
			record, err := r.db.Certificate(t.Context(), issued.Serial)
			if err != nil || record.State != ca.StateIssued || !record.NotAfter.Equal(issued.Certificate.NotAfter) || !record.NotBefore.Equal(issued.Certificate.NotBefore) {
				t.Errorf("record %+v, %v", record, err)
			}
			if list := r.records(t, "cs1"); len(list) != 1 {
				t.Errorf("%d records of one certificate", len(list))
			}
			if got := r.kinds(t, issued.Serial); !slices.Equal(got, []string{"certificate.numbered", "certificate.issued"}) {
				t.Errorf("entries %v", got)
			}
			signer, err := r.OCSPSigner(t.Context(), "csms-issuing-2")
			if err != nil {
				t.Fatal(err)
			}
			if err := signer.Certificate.CheckSignatureFrom(r.mount.cert); err != nil {
				t.Errorf("OCSP signer: %v", err)
			}
			der, err := r.SignCRL(t.Context(), "csms-issuing-2")
			if err != nil {
				t.Fatal(err)
			}
			if list, err := x509.ParseRevocationList(der); err != nil || list.CheckSignatureFrom(r.mount.cert) != nil {
				t.Errorf("list: %v", err)
			}
		})
	}
}

// Whatever of a certificate is another than was asked for: it is given to nobody, on
// record as an orphan with an entry that says what, and revoked at the mount.
func TestMountAnswerIsCompared(t *testing.T) {
	t.Parallel()
	extension := func(oid asn1.ObjectIdentifier, critical bool, value string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oid, Critical: critical, Value: []byte(value)})
		}
	}
	r := inUse(t, "stations")
	for _, tt := range []struct {
		name  string
		alter func(*x509.Certificate)
		fault string
	}{
		{"common name", func(c *x509.Certificate) { c.Subject.CommonName = "SN-0002" }, "subject"},
		{"organisation", func(c *x509.Certificate) { c.Subject.Organization = []string{"Another"} }, "subject"},
		{"country", func(c *x509.Certificate) { c.Subject.Country = []string{"NL"} }, "subject"},
		{"alternative name", func(c *x509.Certificate) { c.DNSNames = []string{"csms.example"} }, "2.5.29.17"},
		{"alternative address", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }, "2.5.29.17"},
		{"key usage", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }, "2.5.29.15"},
		{"no key usage", func(c *x509.Certificate) { c.KeyUsage = 0 }, "2.5.29.15 is missing"},
		{"extended key usage", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "2.5.29.37"},
		{"a CA", func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = true, true }, "2.5.29.19"},
		{"policy", func(c *x509.Certificate) { c.Policies = []x509.OID{policy(t)} }, "2.5.29.32"},
		{"list elsewhere", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://vault.example/crl"} }, "2.5.29.31"},
		{"no list", func(c *x509.Certificate) { c.CRLDistributionPoints = nil }, "2.5.29.31 is missing"},
		{"OCSP elsewhere", func(c *x509.Certificate) { c.OCSPServer = []string{"http://vault.example/ocsp"} }, "1.3.6.1.5.5.7.1.1"},
		{"issuer elsewhere", func(c *x509.Certificate) { c.IssuingCertificateURL = nil }, "1.3.6.1.5.5.7.1.1"},
		{"name of the key", func(c *x509.Certificate) { c.SubjectKeyId = []byte("another") }, "2.5.29.14"},
		{"further extension", extension(asn1.ObjectIdentifier{1, 2, 3}, false, "\x05\x00"), "1.2.3"},
		{"critical", extension(asn1.ObjectIdentifier{2, 5, 29, 15}, false, "\x03\x02\x07\x80"), "2.5.29.15"},
		{"begins too early", func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(-3 * time.Hour) }, "begins"},
		{"begins too late", func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(time.Hour) }, "begins"},
		{"ends too late", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Second) }, "ends"},
		{"ends too early", func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(32 * 24 * time.Hour) }, "limits of the mount"},
		{"hash", func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA384 }, "signed with"},
		{"serial number too long", func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 159) }, "serial number"},
	} {
		r.mount.alter = tt.alter
		r.refused(t, tt.name, tt.fault)
	}
}

// refused has the rig's mount refused, for a fault, and tells it to revoke what it made.
func (r *mountRig) refused(t *testing.T, name, fault string) {
	t.Helper()
	r.told = nil
	issued, err := r.try(t, order(t, newKey(t)))
	if !errors.Is(err, ca.ErrMountAnswer) || !strings.Contains(err.Error(), fault) {
		t.Errorf("%s: %v, %v; want it refused for %q", name, issued, err, fault)
	}
	if !slices.Equal(r.told, []string{"csms-issuing-2"}) {
		t.Errorf("%s: the alarm is raised of %v", name, r.told)
	}
	newest := r.records(t, "cs1")[0]
	if newest.State != ca.StateOrphaned || newest.DER != nil {
		t.Errorf("%s: record %+v", name, newest)
	}
	if got := r.kinds(t, newest.Serial); !slices.Contains(got, "certificate.refused") {
		t.Errorf("%s: entries %v", name, got)
	}
	r.ahead.Add(int64(2 * time.Minute))
	if err := r.SettleMounts(t.Context()); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	for serial, der := range r.mount.issued {
		cert, err := x509.ParseCertificate(der)
		if err != nil || cert.CheckSignatureFrom(r.mount.cert) != nil {
			continue // none of the mount's
		}
		if len(cert.ExtKeyUsage) == 1 && cert.ExtKeyUsage[0] == x509.ExtKeyUsageOCSPSigning {
			continue
		}
		if !r.mount.revoked[serial] {
			t.Errorf("%s: certificate %x isn't revoked at the mount", name, serial)
		}
	}
}

func policy(t *testing.T) x509.OID {
	t.Helper()
	oid, err := x509.OIDFromInts([]uint64{1, 3, 6, 1, 4, 1, 99999, 1})
	if err != nil {
		t.Fatal(err)
	}
	return oid
}

// What isn't the CA's own at all is refused too: another's key, signature or number.
func TestMountAnswerOfSomebodyElse(t *testing.T) {
	t.Parallel()
	resigned := func(change func(m *mount, c *x509.Certificate, parent *x509.Certificate) (key any, by *ecdsa.PrivateKey)) func(*mount, []byte) []byte {
		return func(m *mount, der []byte) []byte {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Error(err)
				return nil
			}
			parent := *m.cert
			c.ExtraExtensions = c.Extensions
			key, by := change(m, c, &parent)
			parent.PublicKey = by.Public()
			der, err = x509.CreateCertificate(rand.Reader, c, &parent, key, by)
			if err != nil {
				t.Error(err)
			}
			return der
		}
	}
	other := newKey(t)
	r := inUse(t, "stations")
	signer, err := r.OCSPSigner(t.Context(), "csms-issuing-2")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		swap  func(*mount, []byte) []byte
		fault string
	}{
		{"key", resigned(func(m *mount, _, _ *x509.Certificate) (any, *ecdsa.PrivateKey) { return other.Public(), m.key }), "its key is another"},
		{"signature", resigned(func(_ *mount, c, _ *x509.Certificate) (any, *ecdsa.PrivateKey) { return c.PublicKey, other }), "its signature"},
		{"issuer", resigned(func(m *mount, c, parent *x509.Certificate) (any, *ecdsa.PrivateKey) {
			parent.RawSubject, parent.Subject = nil, pkix.Name{CommonName: "another CA"}
			return c.PublicKey, m.key
		}), "its issuer"},
		{"what nobody looks at", func(m *mount, der []byte) []byte { return withUniqueID(t, m, der) }, "something else in it"},
		{"no certificate", func(*mount, []byte) []byte { return []byte("canary") }, "can't be read"},
		{"known number", resigned(func(m *mount, c, _ *x509.Certificate) (any, *ecdsa.PrivateKey) {
			for serial := range m.issued {
				c.SerialNumber = new(big.Int).SetBytes([]byte(serial))
			}
			return c.PublicKey, m.key
		}), "serial number is another"},
	} {
		r.mount.swap = tt.swap
		r.refused(t, tt.name, tt.fault)
	}
	if record, err := r.db.Certificate(t.Context(), ca.SerialOf(signer.Certificate)); err != nil || record.State != ca.StateIssued {
		t.Errorf("another certificate suffered: %s, %v", record.State, err)
	}
}

// withUniqueID is a certificate with an issuerUniqueID (RFC 5280 §4.1.2.8), which
// crypto/x509 skips.
func withUniqueID(t *testing.T, m *mount, der []byte) []byte {
	var whole struct {
		TBS       []asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &whole); err != nil {
		t.Error(err)
	}
	last := len(whole.TBS) - 1
	whole.TBS = slices.Insert(whole.TBS, last, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte{0, 0x5a}})
	tbs, err := asn1.Marshal(whole.TBS)
	if err != nil {
		t.Error(err)
	}
	digest := sha256.Sum256(tbs)
	signature, err := m.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Error(err)
	}
	whole.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	if der, err = asn1.Marshal(whole); err != nil {
		t.Error(err)
	}
	return der
}

// What would come out as something else isn't asked for: nothing is recorded.
func TestMountIsntAskedForOtherNames(t *testing.T) {
	t.Parallel()
	r := inUse(t, "")
	before := len(r.mount.issued)
	for name, template := range map[string]*x509.CertificateRequest{
		"subject":   {Subject: pkix.Name{CommonName: "SN-0001"}},
		"extension": {Subject: pkix.Name{Organization: []string{"Example CPO"}, CommonName: "SN-0001"}, DNSNames: []string{"csms.example"}},
	} {
		key := newKey(t)
		csr, err := ca.ParseCSR(request(t, key, template))
		if err != nil {
			t.Fatal(err)
		}
		o := order(t, key)
		o.Key = csr.Key
		if _, err := r.try(t, o); !errors.Is(err, ca.ErrMounted) {
			t.Errorf("%s: %v, want ErrMounted", name, err)
		}
	}
	if len(r.mount.issued) != before || len(r.records(t, "cs1")) != 0 {
		t.Error("the mount was asked")
	}
}

// A mount isn't used before it shows the certificate it was given, and issues as asked.
func TestMountIsTriedBeforeItIsUsed(t *testing.T) {
	t.Parallel()
	r := newMountRig(t, "stations")
	if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, ca.ErrNoHierarchy) {
		t.Errorf("without a mount: %v", err)
	}
	cert := r.certify(t)
	if again := r.certify(t); !again.Equal(cert) {
		t.Error("certified twice")
	}
	fails := func(what string) {
		t.Helper()
		if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); err == nil {
			t.Errorf("%s: used", what)
		}
		r.restart(t)
		issued, err := r.try(t, order(t, newKey(t)))
		if err != nil || issued.Issuer != "csms-issuing" {
			t.Errorf("%s: issued by %v, %v", what, issued, err)
		}
	}
	fails("no certificate")
	r.mount.cert = r.Intermediates(ca.KindCSMS)[0]
	fails("another certificate")
	r.mount.cert = cert
	r.mount.alter = func(c *x509.Certificate) { c.OCSPServer = []string{"http://vault.example/ocsp"} }
	fails("other pointers")
	r.mount.alter = nil
	if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); err != nil {
		t.Fatal(err)
	}
	r.restart(t)
	issued, err := r.try(t, order(t, newKey(t)))
	if err != nil || issued.Issuer != "csms-issuing-2" {
		t.Errorf("issued by %v, %v", issued, err)
	}
	if err := r.CheckKeys(t.Context()); err != nil {
		t.Error(err)
	}
	// What another mount is certified for meanwhile changes nothing, and the way back is open.
	r.mount.key, r.mount.cert = newKey(t), nil
	r.certify(t)
	if list, err := r.MigrateKeys(t.Context(), "softkms:back", false, "operator"); err != nil || len(list) == 0 || list[0].Kept != "" {
		t.Fatalf("%+v, %v", list, err)
	}
	if issued, err := r.try(t, order(t, newKey(t))); err != nil || issued.Issuer != "csms-issuing-4" {
		t.Errorf("issued by %v, %v", issued, err)
	}
}

// A revocation counts here at once, and is told the mount until it takes it, over restarts.
func TestRevocationIsPassedOn(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	issued, err := r.try(t, order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	r.mount.away = keys.ErrUnavailable
	record, err := r.Revoke(t.Context(), issued.Serial, "keyCompromise", "operator")
	if err != nil || record.State != ca.StateRevoked {
		t.Fatalf("%s, %v", record.State, err)
	}
	if err := r.SettleMounts(t.Context()); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("while it is away: %v", err)
	}
	r.restart(t)
	r.mount.away = nil
	ctx, stop := context.WithCancel(t.Context())
	seen := &revocations{seen: make(chan string, 1)}
	r.Watch(seen)
	done := make(chan error, 1)
	go func() { done <- r.MaintainMounts(ctx) }()
	if got := <-seen.seen; got != issued.Serial {
		t.Errorf("%s was told of", got)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !r.mount.isRevoked(issued.Serial) {
		t.Error("the mount wasn't told")
	}
	if got := r.kinds(t, issued.Serial); !slices.Contains(got, "mount.settled") {
		t.Errorf("entries %v", got)
	}
}

// revocations hears of them.
type revocations struct{ seen chan string }

func (w *revocations) Revoked(_, serial string) { w.seen <- serial }
func (w *revocations) Changed()                 {}

// A certificate whose answer was lost is found at the mount by its key, put on record
// and revoked there; one being issued for the same key isn't touched.
func TestLostAnswerIsFound(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	r.mount.lose = true
	o := order(t, newKey(t))
	if _, err := r.try(t, o); !errors.Is(err, keys.ErrUnavailable) {
		t.Fatalf("%v, want ErrUnavailable", err)
	}
	r.mount.lose = false
	r.ahead.Add(int64(100 * time.Second)) // Vault's own limit is 90
	if err := r.SettleMounts(t.Context()); err == nil {
		t.Error("settled while the mount may still issue it")
	}
	r.ahead.Add(int64(20 * time.Second))
	if _, err := r.Prepare(t.Context(), o); err != nil { // and a run that ends here
		t.Fatal(err)
	}
	if err := r.SettleMounts(t.Context()); err == nil {
		t.Error("settled while one is issued for the key")
	}
	r.restart(t)
	r.ahead.Add(int64(2 * time.Minute))
	good, err := r.try(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SettleMounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	states, found := map[ca.State]int{}, 0
	for _, record := range r.records(t, "cs1") {
		states[record.State]++
		if record.State != ca.StateOrphaned || record.DER == nil {
			continue
		}
		found++
		if !r.mount.isRevoked(record.Serial) {
			t.Errorf("%s isn't revoked at the mount", record.Serial)
		}
	}
	// None is revoked: a key with a revoked certificate gets no other.
	if found != 1 || states[ca.StateOrphaned] != 3 || states[ca.StateIssued] != 1 || len(states) != 2 {
		t.Errorf("%d found, records %v", found, states)
	}
	if r.mount.isRevoked(good.Serial) {
		t.Error("the good one is revoked")
	}
	if n, err := r.db.Unsettled(t.Context(), "csms-issuing-2", 10); err != nil || len(n) != 0 {
		t.Errorf("%d left, %v", len(n), err)
	}
}

// While nothing, or another CA, is at a mount's path nothing is found there: what has to
// be revoked or looked for stays so, until the mount is back.
func TestNothingIsSettledWithoutTheMount(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	issued, err := r.try(t, order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Revoke(t.Context(), issued.Serial, "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	r.mount.lose = true
	if _, err := r.try(t, order(t, newKey(t))); !errors.Is(err, keys.ErrUnavailable) {
		t.Fatalf("%v, want ErrUnavailable", err)
	}
	r.mount.lose = false
	r.ahead.Add(int64(2 * time.Minute))
	waits := func(what string) {
		t.Helper()
		if err := r.SettleMounts(t.Context()); err == nil {
			t.Errorf("%s: settled", what)
		}
		if list, err := r.db.Unsettled(t.Context(), "csms-issuing-2", 10); err != nil || len(list) != 2 {
			t.Errorf("%s: %d to be settled, %v", what, len(list), err)
		}
	}
	r.mount.gone = true
	waits("nothing there")
	r.mount.gone = false
	cert, all := r.mount.cert, r.mount.issued
	r.mount.cert, r.mount.issued = r.Roots(ca.KindCSMS)[0], map[string][]byte{}
	waits("another CA there")
	r.mount.cert, r.mount.issued = cert, all
	if err := r.SettleMounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(r.mount.revoked) != 2 {
		t.Errorf("%d certificates are revoked", len(r.mount.revoked))
	}
}

// A mount that keeps nothing is shown what it has to revoke.
func TestMountThatKeepsNothing(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	r.mount.keeps = false
	issued, err := r.try(t, order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Revoke(t.Context(), issued.Serial, "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	if err := r.SettleMounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !r.mount.isRevoked(issued.Serial) {
		t.Error("it isn't revoked at the mount")
	}
}

// fullStore doesn't write what follows an answer, as on a full disk.
type fullStore struct {
	*store.Store
	full atomic.Bool
}

var errFull = errors.New("disk is full")

func (s *fullStore) Renumber(ctx context.Context, serial string, to ca.Intent, events ...ledger.Event) error {
	if s.full.Load() {
		return errFull
	}
	return s.Store.Renumber(ctx, serial, to, events...)
}

func (s *fullStore) GiveUp(ctx context.Context, serial string, at time.Time, events ...ledger.Event) error {
	if s.full.Load() {
		return errFull
	}
	return s.Store.GiveUp(ctx, serial, at, events...)
}

// What a mount issued and couldn't be recorded is looked for without a restart, and an
// order that was left lying that long isn't gone on with.
func TestUnrecordedAnswerIsFound(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	full := &fullStore{Store: r.db}
	r.cfg.Store = full
	r.restart(t)
	full.full.Store(true)
	if issued, err := r.try(t, order(t, newKey(t))); !errors.Is(err, errFull) {
		t.Fatalf("%v, %v, want %v", issued, err, errFull)
	}
	full.full.Store(false)
	left, err := r.Prepare(t.Context(), order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	r.ahead.Add(int64(11 * time.Minute))
	if err := r.SettleMounts(t.Context()); err == nil { // given up now
		t.Error("settled at once")
	}
	r.ahead.Add(int64(2 * time.Minute))
	if err := r.SettleMounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := len(r.mount.issued)
	if issued, err := r.Issue(t.Context(), left); err == nil || len(r.mount.issued) != before {
		t.Errorf("%v was asked for after it was given up: %v", issued, err)
	}
	if len(r.mount.revoked) != 1 {
		t.Errorf("%d certificates are revoked", len(r.mount.revoked))
	}
	if list, err := r.db.Unsettled(t.Context(), "csms-issuing-2", 10); err != nil || len(list) != 0 {
		t.Errorf("%d left, %v", len(list), err)
	}
}

// The CA certificate of a mount that is given up before it issued is revoked in the same
// write, so that the root's list has it; until then people may revoke it. That of a mount
// which issues stays, and is the same however often it is asked for.
func TestMountThatIsGivenUpIsRevoked(t *testing.T) {
	t.Parallel()
	r := newMountRig(t, "stations")
	onList := func(what string, cert *x509.Certificate, want bool) {
		t.Helper()
		der, err := r.SignCRL(t.Context(), "csms-root")
		if err != nil {
			t.Fatal(err)
		}
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(cert.SerialNumber) == 0 })
		if got != want {
			t.Errorf("%s: on the root's list %t", what, got)
		}
	}
	wrong := r.certify(t)
	onList("waits", wrong, false)
	r.mount.key = newKey(t)
	right := r.certify(t)
	onList("another key", wrong, true)
	if got := r.kinds(t, ca.SerialOf(wrong)); !slices.Contains(got, "certificate.revoked") {
		t.Errorf("entries %v", got)
	}
	if record, err := r.Revoke(t.Context(), ca.SerialOf(right), "superseded", "operator"); err != nil || record.State != ca.StateRevoked {
		t.Errorf("revoked by people: %s, %v", record.State, err)
	}
	onList("by people", right, true)
	r.mount.cert = right
	if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); err == nil {
		t.Error("a revoked one is used")
	}
	r.mount.cert = r.certify(t)
	r.mount.alter = func(c *x509.Certificate) {
		c.IssuingCertificateURL, c.CRLDistributionPoints = []string{"http://status.example/csms-issuing-3.crt"}, []string{"http://status.example/csms-issuing-3.crl"}
	}
	if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); err != nil {
		t.Fatal(err)
	}
	again := r.certify(t)
	if list, err := r.db.Requests(t.Context(), ca.KindCSMS); err != nil || len(list) != 2 || list[0].Waiting || !again.Equal(r.mount.cert) {
		t.Errorf("the mount that issues was certified once more: %+v, %v", list, err)
	}
	if _, err := r.Revoke(t.Context(), ca.SerialOf(r.mount.cert), "superseded", "operator"); err == nil {
		t.Error("the CA that issues was revoked")
	}
	used := r.mount.cert
	r.mount.key = newKey(t)
	other := r.certify(t)
	if _, err := r.MigrateKeys(t.Context(), "softkms:back", false, "operator"); err != nil {
		t.Fatal(err)
	}
	onList("the way back", other, true)
	onList("used", used, false)
	if _, err := r.Revoke(t.Context(), ca.SerialOf(used), "superseded", "operator"); err == nil {
		t.Error("the CA that issued was revoked")
	}
}

// The root certifies a mount's key again when it is time; the command that certified it
// prints the new certificate, and the mount issues with either.
func TestCertificateOfAMountIsRenewed(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	r.ahead.Add(int64(400 * 24 * time.Hour))
	if list, err := r.RenewCAs(t.Context(), ca.KindCSMS, "operator"); err != nil || len(list) != 1 || list[0].Name != "csms-issuing-2" {
		t.Fatalf("%+v, %v", list, err)
	}
	next := r.certify(t)
	if !next.NotAfter.After(r.mount.cert.NotAfter) {
		t.Errorf("it ends on %s, as before", next.NotAfter)
	}
	for range 2 {
		if issued, err := r.try(t, order(t, newKey(t))); err != nil || !issued.Chain[0].Equal(next) {
			t.Errorf("issued under %v, %v", issued, err)
		}
		r.mount.cert = next
	}
	if err := r.CheckKeys(t.Context()); err != nil {
		t.Error(err)
	}
}

// A mount's list is served only if it is the CA's, and in force.
func TestListOfAMountIsChecked(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	clock := r.mount.clock
	for name, at := range map[string]time.Duration{"over": -73 * time.Hour, "to come": time.Hour} {
		r.mount.clock = func() time.Time { return clock().Add(at) }
		if _, err := r.SignCRL(t.Context(), "csms-issuing-2"); err == nil {
			t.Errorf("%s: served", name)
		}
	}
	r.mount.clock = clock
	right := r.mount.key
	r.mount.key = newKey(t)
	cert := *r.mount.cert
	cert.PublicKey = r.mount.key.Public()
	r.mount.cert = &cert
	if _, err := r.SignCRL(t.Context(), "csms-issuing-2"); err == nil {
		t.Error("another's: served")
	}
	r.mount.key = right
}
