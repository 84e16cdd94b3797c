package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"slices"
	"testing"
)

func requestOf(t testing.TB, key crypto.Signer, template x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func keyOn(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// agree holds a plain reading against crypto/x509's, which may refuse what is not.
func agree(t testing.TB, der []byte) (plain bool) {
	t.Helper()
	got := plainRequest(der)
	if got == nil {
		return false
	}
	want, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatalf("read what crypto/x509 refuses: %v", err)
	}
	if !bytes.Equal(got.Raw, want.Raw) || !bytes.Equal(got.RawTBSCertificateRequest, want.RawTBSCertificateRequest) ||
		!bytes.Equal(got.RawSubjectPublicKeyInfo, want.RawSubjectPublicKeyInfo) || !bytes.Equal(got.Signature, want.Signature) ||
		got.SignatureAlgorithm != want.SignatureAlgorithm || got.PublicKeyAlgorithm != want.PublicKeyAlgorithm ||
		!got.PublicKey.(*ecdsa.PublicKey).Equal(want.PublicKey) ||
		got.Subject.CommonName != want.Subject.CommonName || !slices.Equal(got.Subject.Organization, want.Subject.Organization) ||
		slices.ContainsFunc(want.Extensions, func(e pkix.Extension) bool { return !e.Id.Equal(oidSAN) }) {
		t.Fatalf("read otherwise than by crypto/x509: %+v, %+v", got, want)
	}
	return true
}

func TestPlainRequestsAreReadAsByX509(t *testing.T) {
	t.Parallel()
	p256 := keyOn(t, elliptic.P256())
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	station := pkix.Name{Country: []string{"DE"}, Organization: []string{"Example CPO"}, CommonName: "SN-00001"}
	usual := requestOf(t, p256, x509.CertificateRequest{Subject: station})
	for name, tc := range map[string]struct {
		der   []byte
		plain bool
	}{
		"usual":               {usual, true},
		"no name":             {requestOf(t, p256, x509.CertificateRequest{}), true},
		"two organisations":   {requestOf(t, p256, x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"a"}, ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 10}, Value: "b"}}}}), true},
		"SHA-384":             {requestOf(t, p256, x509.CertificateRequest{Subject: station, SignatureAlgorithm: x509.ECDSAWithSHA384}), false},
		"P-384":               {requestOf(t, keyOn(t, elliptic.P384()), x509.CertificateRequest{Subject: station}), false},
		"RSA":                 {requestOf(t, other, x509.CertificateRequest{Subject: station}), false},
		"DNS names":           {requestOf(t, p256, x509.CertificateRequest{Subject: station, DNSNames: []string{"a.example", "b.example"}}), true},
		"an address":          {requestOf(t, p256, x509.CertificateRequest{Subject: station, DNSNames: []string{"a.example"}, IPAddresses: []net.IP{{192, 0, 2, 1}}}), false},
		"asks to be a CA":     {requestOf(t, p256, x509.CertificateRequest{Subject: station, ExtraExtensions: []pkix.Extension{{Id: oidBasicConstraints, Value: []byte{0x30, 3, 1, 1, 0xff}}}}), false},
		"a CA with DNS names": {requestOf(t, p256, x509.CertificateRequest{DNSNames: []string{"a.example"}, ExtraExtensions: []pkix.Extension{{Id: oidBasicConstraints, Value: []byte{0x30, 3, 1, 1, 0xff}}}}), false},
		"accents":             {requestOf(t, p256, x509.CertificateRequest{Subject: pkix.Name{CommonName: "é"}}), false},
		"another attribute":   {requestOf(t, p256, x509.CertificateRequest{Subject: pkix.Name{SerialNumber: "1"}}), false},
		"something behind it": {append(slices.Clone(usual), 0), false},
		"cut off":             {usual[:len(usual)-1], false},
	} {
		if plain := agree(t, tc.der); plain != tc.plain {
			t.Errorf("%s: plain %t", name, plain)
		}
	}
	// No point of the curve.
	off := bytes.Clone(usual)
	off[bytes.Index(off, ecdsaWithSHA256)-3] ^= 1 // before no attributes: the point's last octet
	if agree(t, off) {
		t.Error("took a key that is no point of its curve")
	}
}

// Each octet of a plain request is changed: what is read then is read as by crypto/x509.
func FuzzPlainRequest(f *testing.F) {
	key := keyOn(f, elliptic.P256())
	for _, name := range []pkix.Name{{}, {Country: []string{"DE"}, Organization: []string{"Example CPO"}, CommonName: "SN-00001"}} {
		der := requestOf(f, key, x509.CertificateRequest{Subject: name, DNSNames: []string{"a.example"}})
		f.Add(der)
		for i := range der {
			other := bytes.Clone(der)
			other[i] ^= 1 << (i % 8)
			f.Add(other)
		}
	}
	f.Fuzz(func(t *testing.T, der []byte) { agree(t, der) })
}
