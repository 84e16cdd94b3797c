package signing_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bollard/firmware/bundle"
	"bollard/firmware/release"
	"bollard/firmware/signing"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// now is the real time: openssl and rauc look at no other.
var now = time.Now().UTC().Truncate(time.Second)

// maker is a manufacturer: a root, and a key certified by it.
type maker struct {
	root  *x509.Certificate
	key   crypto.Signer
	chain []*x509.Certificate
}

func certificate(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.AddDate(3, 0, 0)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

func ecKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
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

func rsaSigner(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := rsaKey()
	must(t, err)
	return key
}

// newMaker certifies a key as the fact of the profile has it, but for what
// change changes.
func newMaker(t testing.TB, key crypto.Signer, change func(*x509.Certificate)) maker {
	t.Helper()
	rootKey := ecKey(t)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Acme"}, CommonName: "Acme Root"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root = certificate(t, root, root, rootKey.Public(), rootKey)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{Organization: []string{"Acme"}, CommonName: "AC line 1"},
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageEmailProtection},
	}
	if change != nil {
		change(leaf)
	}
	return maker{root, key, []*x509.Certificate{certificate(t, leaf, root, key.Public(), rootKey)}}
}

func writeFile(t testing.TB, path string, data []byte) string {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o600))
	return path
}

// image is more than one chunk, and not a multiple of one.
func image(t testing.TB) string {
	t.Helper()
	data := make([]byte, 2<<20+12345)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	return writeFile(t, filepath.Join(t.TempDir(), "ac22.bin"), data)
}

func config(t testing.TB, m maker, image string) signing.Config {
	t.Helper()
	path, err := exec.LookPath("openssl")
	must(t, err)
	return signing.Config{
		Image: image, Out: filepath.Join(t.TempDir(), "out"), Signer: m.key, Chain: m.chain, OpenSSL: path,
		Release: release.Release{
			Vendor: "Acme", Models: []release.Model{{Vendor: "Acme", Model: "AC-22"}}, Component: "firmware", Version: "1.10",
			Sequence: 110, SecurityEpoch: 3, File: "ac22.bin", Log: release.NoLog,
		},
		Clock: func() time.Time { return now }, Random: rand.Reader,
	}
}

func sign(t testing.TB, cfg signing.Config) *release.Release {
	t.Helper()
	r, err := signing.Sign(t.Context(), cfg)
	must(t, err)
	return r
}

// check verifies a bundle as `firmware verify` does.
func check(t testing.TB, dir, image string, trust bundle.Trust) []bundle.Finding {
	t.Helper()
	root, err := os.OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { _ = root.Close() })
	b, err := bundle.Open(root.FS())
	must(t, err)
	measured, err := bundle.Measure(t.Context(), image, b.Wanted(), nil)
	must(t, err)
	return b.Check(t.Context(), measured, trust)
}

// faults are the parts that don't hold.
func faults(list []bundle.Finding) map[string]string {
	wrong := map[string]string{}
	for _, f := range list {
		if f.Err != nil {
			wrong[f.Part] = f.Err.Error()
		}
	}
	return wrong
}

func run(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	return string(out), err
}
