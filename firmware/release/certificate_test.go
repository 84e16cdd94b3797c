package release_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"bollard/firmware/release"
)

// line is a manufacturer's hierarchy: a root, CAs under it, and a signer.
type line struct {
	certs []*x509.Certificate // from the root on
	keys  []crypto.Signer
}

// grow makes one with n CAs between; change has its way with each certificate, by its
// place: 0 is the root, the last the signer.
func grow(t *testing.T, n int, change func(i int, c *x509.Certificate)) *line {
	t.Helper()
	l := &line{}
	for i := range n + 2 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		l.add(t, i, i == n+1, key, change)
	}
	return l
}

func (l *line) add(t *testing.T, i int, leaf bool, key crypto.Signer, change func(i int, c *x509.Certificate)) {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{Organization: []string{"Acme"}, CommonName: string(rune('A' + i))},
		NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: !leaf, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if leaf {
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	}
	if change != nil {
		change(i, c)
	}
	parent, by := c, key
	if i > 0 {
		parent, by = l.certs[i-1], l.keys[i-1]
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	l.certs, l.keys = append(l.certs, cert), append(l.keys, key)
}

// A signer under CAs is the manufacturer's only if each of them may certify it, then.
func TestVerifyChain(t *testing.T) {
	t.Parallel()
	at := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	of := func(place int, change func(c *x509.Certificate)) func(int, *x509.Certificate) {
		return func(i int, c *x509.Certificate) {
			if i == place {
				change(c)
			}
		}
	}
	for name, tt := range map[string]struct {
		change func(i int, c *x509.Certificate)
		ok     bool
	}{
		"two between":          {nil, true},
		"paths as long":        {of(1, func(c *x509.Certificate) { c.MaxPathLen = 1 }), true},
		"a path too long":      {of(1, func(c *x509.Certificate) { c.MaxPathLenZero = true }), false},
		"too long of the root": {of(0, func(c *x509.Certificate) { c.MaxPathLen = 1 }), false},
		"no CA":                {of(2, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }), false},
		"signs no certificate": {of(2, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), false},
		"for signing code":     {of(2, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }), true},
		"for servers":          {of(2, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), false},
		"expired":              {of(1, func(c *x509.Certificate) { c.NotAfter = at.Add(-time.Hour) }), false},
		"not valid yet":        {of(2, func(c *x509.Certificate) { c.NotBefore = at.Add(time.Hour) }), false},
		"signer for servers":   {of(3, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := grow(t, 2, tt.change)
			above := []*x509.Certificate{l.certs[2], l.certs[1]}
			chains, err := release.VerifyChain(l.certs[3], above, l.certs[:1], at)
			if (err == nil) != tt.ok || tt.ok && (len(chains) != 1 || len(chains[0]) != 4 || chains[0][0] != l.certs[3]) {
				t.Errorf("%v, %v", chains, err)
			}
			if _, err := release.VerifyChain(l.certs[3], above[1:], l.certs[:1], at); err == nil {
				t.Error("without the CA that issued it")
			}
		})
	}
	l := &line{}
	root, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // too short on purpose
	must(t, err)
	l.add(t, 0, false, root, nil)
	l.add(t, 1, false, weak, nil)
	l.add(t, 2, true, root, nil)
	if _, err := release.VerifyChain(l.certs[2], l.certs[1:2], l.certs[:1], at); err == nil || !strings.Contains(err.Error(), "2048") {
		t.Errorf("a CA with a short key: %v", err)
	}
}

// What comes beside the signing certificate is CAs that follow each other, in one
// spelling, and few.
func TestDecodeChain(t *testing.T) {
	t.Parallel()
	l := grow(t, 2, nil)
	good := release.EncodeChain([]*x509.Certificate{l.certs[2], l.certs[1]})
	if above, err := release.DecodeChain(good); err != nil || len(above) != 2 || !above[0].Equal(l.certs[2]) {
		t.Errorf("%v, %v", above, err)
	}
	many := []*x509.Certificate{}
	for range release.MaxAbove + 1 {
		many = append(many, l.certs[0])
	}
	for name, text := range map[string][]byte{
		"nothing":           nil,
		"the other way":     release.EncodeChain([]*x509.Certificate{l.certs[1], l.certs[2]}),
		"one left out":      release.EncodeChain([]*x509.Certificate{l.certs[3], l.certs[1]}),
		"something behind":  append(good[:len(good):len(good)], 'x'),
		"something before":  append([]byte("x\n"), good...),
		"more than a few":   release.EncodeChain(many),
		"a damaged one":     []byte(strings.Replace(string(good), "MII", "MIJ", 1)),
		"of another's kind": []byte(strings.ReplaceAll(string(good), "CERTIFICATE", "X509 CRL")),
	} {
		if above, err := release.DecodeChain(text); err == nil {
			t.Errorf("%s: %v", name, above)
		}
	}
}
