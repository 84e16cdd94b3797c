package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"testing"
	"time"
)

// A shape leaves out the values that are named there and nothing else: any
// other change has zlint look again.
func TestShapesDiffer(t *testing.T) {
	t.Parallel()
	a, _ := lintRig(t)
	by := a.hierarchy(KindCSMS).issuing
	planned := func(o Order) plan {
		p, err := a.plan(by, profiles[ProfileStation], o, lintStart.AddDate(0, 2, 0))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	shaped := func(p plan, change func(*x509.Certificate)) (shape, error) {
		c, err := template(p)
		if err != nil {
			t.Fatal(err)
		}
		change(c)
		tbs, err := by.outline(c, p.key)
		if err != nil {
			return shape{}, err
		}
		s, ok := shapeOf(tbs, ProfileStation)
		if !ok {
			t.Error("a certificate without a shape")
		}
		return s, nil
	}
	same := func(*x509.Certificate) {}
	p := planned(lintOrder(t, ProfileStation, false))
	p.serial = big.NewInt(0).Lsh(big.NewInt(0x4b), 120)
	want, err := shaped(p, same)
	if err != nil {
		t.Fatal(err)
	}

	next := planned(lintOrder(t, ProfileStation, false))
	next.serial = big.NewInt(0).Lsh(big.NewInt(0x51), 120)
	next.subject.CommonName = "UV-9"
	next.notBefore, next.notAfter = next.notBefore.Add(time.Minute), next.notAfter.Add(time.Second)
	if got, err := shaped(next, same); err != nil || got != want {
		t.Errorf("the next station's certificate has another shape: %v", err)
	}

	leftOut := []string{"serial of another plan", "notBefore", "notAfter", "subject key identifier"}
	for _, m := range mutations {
		got, err := shaped(p, m.change)
		if err != nil || m.only != nil && !slices.Contains(m.only, ProfileStation) {
			continue // crypto/x509 refuses it, or it changes no station's certificate
		}
		if (got == want) != slices.Contains(leftOut, m.name) {
			t.Errorf("%s: shape is the same: %t", m.name, got == want)
		}
	}
	for name, change := range map[string]func(*x509.Certificate){
		"next day":             func(c *x509.Certificate) { c.NotBefore = c.NotBefore.AddDate(0, 0, 1) },
		"after 2049":           func(c *x509.Certificate) { c.NotAfter = time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC) },
		"longer serial":        func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(c.SerialNumber, 8) },
		"serial of other sign": func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(c.SerialNumber, 1) },
		"letter for a digit":   func(c *x509.Certificate) { c.Subject.CommonName = "SN-X" },
		"other punctuation":    func(c *x509.Certificate) { c.Subject.CommonName = "SN_1" },
		"control character":    func(c *x509.Certificate) { c.Subject.CommonName = "SN\x01" + "1" },
		"critical": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: oidSubjectKeyID, Critical: true, Value: append([]byte{4, 20}, c.SubjectKeyId...)}}
		},
		"short key identifier": func(c *x509.Certificate) { c.SubjectKeyId = c.SubjectKeyId[1:] },
		"issuer for subject":   func(c *x509.Certificate) { c.RawSubject = by.cert.RawSubject },
		"no key identifier":    func(c *x509.Certificate) { c.SubjectKeyId = nil },
	} {
		if got, err := shaped(p, change); err != nil || got == want {
			t.Errorf("%s: same shape %t, %v", name, got == want, err)
		}
	}
	for name, key := range map[string]func() (any, error){
		"RSA":   func() (any, error) { return lintOrder(t, ProfileStation, true).Key.public, nil },
		"P-384": func() (any, error) { k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader); return k.Public(), err },
	} {
		public, err := key()
		if err != nil {
			t.Fatal(err)
		}
		other := p
		other.key = public
		if got, err := shaped(other, same); err != nil || got == want {
			t.Errorf("%s key: same shape %t, %v", name, got == want, err)
		}
	}
	tbs, err := by.outline(mustTemplate(t, p), p.key)
	if err != nil {
		t.Fatal(err)
	}
	if other, ok := shapeOf(tbs, ProfileOCSP); !ok || other == want {
		t.Error("profiles share a shape")
	}
	for n := range len(tbs) {
		if _, ok := shapeOf(tbs[:n], ProfileStation); ok {
			t.Fatalf("%d of %d bytes have a shape", n, len(tbs))
		}
	}
	before := bytes.Clone(tbs)
	if _, ok := shapeOf(tbs, ProfileStation); !ok || !bytes.Equal(tbs, before) {
		t.Error("shapeOf changed the certificate")
	}
}

func mustTemplate(t *testing.T, p plan) *x509.Certificate {
	t.Helper()
	c, err := template(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Only praise is remembered, and only for what was praised.
func TestFaultsAreFoundAgain(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: lintStart, NotAfter: lintStart, DNSNames: []string{"x"}}, &x509.Certificate{}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := newShapes()
	for range 2 {
		if found, err := s.lint(cert.Raw, cert.RawTBSCertificate, ProfileStation); err != nil || len(found) == 0 {
			t.Errorf("found %v, %v", found, err)
		}
	}
	if len(s.sound) != 0 {
		t.Error("a faulty shape is remembered")
	}
	a, _ := lintRig(t)
	for range 2 {
		if _, err := a.Prepare(t.Context(), lintOrder(t, ProfileStation, false)); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.shapes.sound) == 0 || len(a.shapes.sound) > 10 {
		t.Errorf("%d shapes are remembered", len(a.shapes.sound))
	}
}
