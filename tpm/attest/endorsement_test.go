package attest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"os"
	"slices"
	"testing"

	"bollard/tpm/attest"
)

// What swtpm_setup --ecc --create-ek-cert wrote: P-384, the model in a critical
// directory name, one CA between it and the root.
func TestEndorsementOfSwtpm(t *testing.T) {
	t.Parallel()
	der, err := os.ReadFile("testdata/swtpm-ek.der")
	if err != nil {
		t.Fatal(err)
	}
	cas := readCertificates(t, "testdata/swtpm-ca.pem")
	for name, tt := range map[string]struct {
		data []byte
		kind error
	}{
		"as it is":            {der, nil},
		"padded with ones":    {append(slices.Clone(der), 0xff, 0xff, 0xff), nil},
		"padded with zeros":   {append(slices.Clone(der), make([]byte, 100)...), nil},
		"with something else": {append(slices.Clone(der), 0, 1), attest.ErrMalformed},
		"both paddings":       {append(slices.Clone(der), 0, 0xff), attest.ErrMalformed},
		"cut":                 {der[:len(der)-1], attest.ErrMalformed},
		"none":                {nil, attest.ErrMalformed},
		"endless":             {append(slices.Clone(der), make([]byte, 1<<20)...), attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			cert, err := attest.ParseEKCertificate(tt.data)
			wants(t, err, tt.kind)
			if err != nil {
				return
			}
			ek, err := attest.ParseEK(cert.RawSubjectPublicKeyInfo)
			if err != nil {
				t.Fatal(err)
			}
			m := attest.Manufacturers{Roots: cas[1:], Intermediates: cas[:1]}
			wants(t, m.Verify(ek, []*x509.Certificate{cert}, now), nil)
			wants(t, attest.Manufacturers{Roots: cas[1:]}.Verify(ek, []*x509.Certificate{cert, cas[0]}, now), nil)
			wants(t, attest.Manufacturers{Roots: cas[1:]}.Verify(ek, []*x509.Certificate{cert}, now), attest.ErrEndorsement)
			wants(t, attest.Manufacturers{}.Verify(ek, []*x509.Certificate{cert}, now), attest.ErrEndorsement)
		})
	}
}

func TestEndorsement(t *testing.T) {
	t.Parallel()
	maker, stranger := newAuthority(t), newAuthority(t)
	key, other := newKey(t), newKey(t)
	unknown := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 8, Bytes: []byte{42, 3}} // registeredID
	for name, tt := range map[string]struct {
		change func(*x509.Certificate)
		by     *authority
		of     any
		kind   error
	}{
		"good":                        {func(*x509.Certificate) {}, maker, key.Public(), nil},
		"without names":               {func(c *x509.Certificate) { c.ExtraExtensions = nil }, maker, key.Public(), nil},
		"of somebody else":            {func(*x509.Certificate) {}, stranger, key.Public(), attest.ErrEndorsement},
		"of another key":              {func(*x509.Certificate) {}, maker, other.Public(), attest.ErrEndorsement},
		"expired":                     {func(c *x509.Certificate) { c.NotAfter = now.AddDate(0, 0, -1) }, maker, key.Public(), attest.ErrEndorsement},
		"without its key usage":       {func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }, maker, key.Public(), attest.ErrEndorsement},
		"for attestation":             {func(c *x509.Certificate) { c.UnknownExtKeyUsage[0] = asn1.ObjectIdentifier{2, 23, 133, 8, 3} }, maker, key.Public(), attest.ErrEndorsement},
		"that signs":                  {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, maker, key.Public(), attest.ErrEndorsement},
		"of a CA":                     {func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, maker, key.Public(), attest.ErrEndorsement},
		"with another name beside":    {func(c *x509.Certificate) { c.ExtraExtensions[0] = modelName(t, unknown) }, maker, key.Public(), attest.ErrEndorsement},
		"critical and not understood": {func(c *x509.Certificate) { c.ExtraExtensions[0].Id = asn1.ObjectIdentifier{2, 5, 29, 99} }, maker, key.Public(), attest.ErrEndorsement},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template := &x509.Certificate{
				NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(5, 0, 0), KeyUsage: x509.KeyUsageKeyAgreement,
				UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}},
			}
			template.ExtraExtensions = append(template.ExtraExtensions, modelName(t))
			tt.change(template)
			cert := tt.by.sign(template, tt.of)
			ek, err := attest.NewEK(key.Public())
			if err != nil {
				t.Fatal(err)
			}
			wants(t, attest.Manufacturers{Roots: []*x509.Certificate{maker.cert}}.Verify(ek, []*x509.Certificate{cert}, now), tt.kind)
		})
	}
}

// Of some manufacturers the certificate says of an RSA key what it is for.
func TestEndorsementOfOAEP(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	maker := newAuthority(t)
	plain := maker.sign(&x509.Certificate{
		NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(5, 0, 0), KeyUsage: x509.KeyUsageKeyEncipherment, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}},
	}, key.Public())
	// Both names of the algorithm are as long.
	rename := func(der []byte) []byte {
		return bytes.Replace(der, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1}, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 7}, 1)
	}
	signed := struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{TBS: asn1.RawValue{FullBytes: rename(plain.RawTBSCertificate)}, Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}}
	digest := sha256.Sum256(signed.TBS.FullBytes)
	if signed.Signature.Bytes, err = ecdsa.SignASN1(rand.Reader, maker.key, digest[:]); err != nil {
		t.Fatal(err)
	}
	signed.Signature.BitLength = 8 * len(signed.Signature.Bytes)
	der, err := asn1.Marshal(signed)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := attest.ParseEKCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	ek, err := attest.NewEK(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	wants(t, attest.Manufacturers{Roots: []*x509.Certificate{maker.cert}}.Verify(ek, []*x509.Certificate{cert}, now), nil)
	again, err := attest.ParseEK(rename(plain.RawSubjectPublicKeyInfo))
	if wants(t, err, nil); again.Hash() != ek.Hash() {
		t.Error("one key has two names")
	}
	cut := rename(plain.RawSubjectPublicKeyInfo)
	cut[len(cut)-1] ^= 1 // of the exponent
	_, err = attest.ParseEK(cut)
	wants(t, err, attest.ErrKey)
	_, err = attest.ParseEK(append(rename(plain.RawSubjectPublicKeyInfo), 0))
	wants(t, err, attest.ErrMalformed)
}

func TestEKKinds(t *testing.T) {
	t.Parallel()
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, err = attest.NewEK(short.Public())
	wants(t, err, attest.ErrKey)
	_, err = attest.NewEK("no key")
	wants(t, err, attest.ErrKey)
	_, err = attest.ParseEK([]byte{0x30, 0})
	wants(t, err, attest.ErrMalformed)
}

// The certificate of an attestation key counts as one only by its extended key usage:
// any other certificate of the same CA could be had for a key outside of a TPM.
func TestAttestationCertificate(t *testing.T) {
	t.Parallel()
	ours, stranger := newAuthority(t), newAuthority(t)
	key := newKey(t)
	for name, tt := range map[string]struct {
		by     *authority
		change func(*x509.Certificate)
		kind   error
	}{
		"good":              {ours, func(*x509.Certificate) {}, nil},
		"without usage":     {ours, func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }, attest.ErrCertificate},
		"of an EK":          {ours, func(c *x509.Certificate) { c.UnknownExtKeyUsage[0] = asn1.ObjectIdentifier{2, 23, 133, 8, 1} }, attest.ErrCertificate},
		"of somebody else":  {stranger, func(*x509.Certificate) {}, attest.ErrCertificate},
		"expired":           {ours, func(c *x509.Certificate) { c.NotAfter = now.Add(-1) }, attest.ErrCertificate},
		"that is of a CA's": {ours, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, attest.ErrCertificate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template := &x509.Certificate{NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(1, 0, 0), UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}}
			tt.change(template)
			got, err := attest.Certificate([]*x509.Certificate{tt.by.sign(template, key.Public())}, []*x509.Certificate{ours.cert}, now)
			wants(t, err, tt.kind)
			if err == nil && !key.PublicKey.Equal(got) {
				t.Error("another key came back")
			}
		})
	}
	_, err := attest.Certificate(nil, []*x509.Certificate{ours.cert}, now)
	wants(t, err, attest.ErrCertificate)
}
