package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ca"
)

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
