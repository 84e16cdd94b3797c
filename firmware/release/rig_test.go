package release_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/firmware/release"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// maker is a key and its certificate.
type maker struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func certify(t testing.TB, key crypto.Signer) maker {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Acme"}, CommonName: "Acme firmware 1"},
		NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return maker{key, cert}
}

func ecMaker(t testing.TB) maker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return certify(t, key)
}

// rsaKey is made once, and by openssl: under the race detector Go takes seconds.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) {
	text, err := exec.Command("openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072").Output()
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return key.(*rsa.PrivateKey), nil
})

func rsaMaker(t testing.TB) maker {
	t.Helper()
	key, err := rsaKey()
	must(t, err)
	return certify(t, key)
}

func digest(b byte, n int) string {
	return strings.Repeat(string([]byte{"0123456789abcdef"[b>>4], "0123456789abcdef"[b&15]}), n)
}

// full is a release with every field.
func full() *release.Release {
	return &release.Release{
		ID: "01890a5d-ac96-774b-bcce-b302099a8057", Vendor: "Acme", Component: "firmware", Version: "1.10.0 ⚡",
		Models:   []release.Model{{Vendor: "Acme", Model: "AC-22"}, {Vendor: "Acme", Model: "AC-11", Hardware: []string{"A", "B2"}}},
		Sequence: 110, SecurityEpoch: 3, MinFrom: 90, MaxFrom: 109, Requires: []release.Requirement{{Component: "modem", Sequence: 7}},
		File: "ac22-1.10.0.raucb", Size: 1 << 40, SHA256: digest(0x11, 32), SHA512: digest(0x22, 64), MD5: digest(0x33, 16),
		Signatures: []release.Signature{
			{Dialect: release.ECDSAP256, Cert: digest(0x44, 32), Value: base64.StdEncoding.EncodeToString([]byte("any"))},
			{Dialect: release.RSAPSS, Salt: 32, Cert: digest(0x55, 32), Value: base64.StdEncoding.EncodeToString([]byte("other"))},
		},
		NotBefore: time.Date(2026, 11, 25, 22, 0, 0, 0, time.UTC), Expires: time.Date(2027, 11, 25, 22, 0, 0, 0, time.UTC),
		SecurityOnly: true, LegalRelevant: true, Reboot: 90, SBOM: digest(0x66, 32), Provenance: digest(0x77, 32),
		CVEsFixed: []string{"CVE-2026-12345"}, Supersedes: "01890a5d-ac96-774b-bcce-b302099a8058", Revokes: []string{"01890a5d-ac96-774b-bcce-b302099a8059"},
		Log: "acme.example/firmware", Notes: "Mends <all> & \"sundry\".\n\tSecond line.",
	}
}

// sign signs in a dialect, as a manufacturer's own tools would.
func sign(t testing.TB, m maker, d release.Dialect, image []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(image)
	raw, err := m.key.Sign(rand.Reader, sum[:], d.Options())
	must(t, err)
	return raw
}
