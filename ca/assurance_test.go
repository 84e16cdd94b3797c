package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	mathrand "math/rand/v2"
	"testing"
)

// A station's certificate says by its policy whether its key was attested, where the
// configuration has policies, and no other profile's does. Without one a certificate is
// the same to the byte, attested or not. All pass zlint.
func TestAssurance(t *testing.T) {
	t.Parallel()
	a, store := lintRig(t)
	order := lintOrder(t, ProfileStation, false)
	attested, ofTPM := order, lintOrder(t, ProfileAttestation, false)
	ofTPM.Station = order.Station
	attested.Attested = Attested{key: order.Key.Hash(), station: order.Station, serial: order.Subject.CommonName, certificate: "ak"}
	prepare := func(a *Authority, o Order) *x509.Certificate {
		t.Helper()
		a.random = mathrand.NewChaCha8([32]byte{}) // the serial number is the same each time
		clear(store.records)
		store.records = nil
		p, err := a.Prepare(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		der, err := withSignature(p.tbs, placeholder())
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	plain := prepare(a, order)
	if again := prepare(a, attested); !bytes.Equal(again.Raw, plain.Raw) || len(plain.Policies) != 0 {
		t.Errorf("without policies a certificate differs by where its key is:\n%x\n%x", again.Raw, plain.Raw)
	}
	graded := newAuthority(a.cfg)
	graded.loaded, graded.random = a.loaded, rand.Reader
	graded.cfg.Assurance = Assurance{Attested: mustOID("1.3.6.1.4.1.99999.1"), Other: mustOID("1.3.6.1.4.1.99999.2")}
	half := newAuthority(a.cfg)
	half.loaded = a.loaded
	half.cfg.Assurance = Assurance{Attested: mustOID("1.3.6.1.4.1.99999.1")}
	for name, tt := range map[string]struct {
		by    *Authority
		order Order
		want  string
	}{
		"attested":                      {graded, attested, "1.3.6.1.4.1.99999.1"},
		"not attested":                  {graded, order, "1.3.6.1.4.1.99999.2"},
		"a policy of attested ones":     {half, attested, "1.3.6.1.4.1.99999.1"},
		"none of others":                {half, order, ""},
		"a server":                      {graded, lintOrder(t, ProfileServer, false), ""},
		"an attestation key":            {graded, ofTPM, ""},
		"a controller, as cars have it": {graded, lintOrder(t, ProfileSECC, false), ""},
	} {
		got := ""
		for _, policy := range prepare(tt.by, tt.order).Policies {
			got += policy.String()
		}
		if got != tt.want {
			t.Errorf("%s: policies %q, want %q", name, got, tt.want)
		}
	}
}
