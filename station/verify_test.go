package station_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"bollard/station"
)

// Each way of verifying takes what the program it is named after takes, as found
// with its own calls, and refuses one changed bit.
func TestVerifiers(t *testing.T) { // L01.FR.04
	t.Parallel()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(station.Image("2.0.0", 1000))
	sign := func(key crypto.Signer, opts crypto.SignerOpts) []byte {
		b, err := key.Sign(rand.Reader, sum[:], opts)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r, s, err := ecdsa.Sign(rand.Reader, ec, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signatures := map[string]struct {
		key   crypto.PublicKey
		bytes []byte
	}{
		"ecdsa":     {&ec.PublicKey, sign(ec, crypto.SHA256)},
		"ecdsa-raw": {&ec.PublicKey, append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)},
		"pkcs1":     {&rs.PublicKey, sign(rs, crypto.SHA256)},
		"pss":       {&rs.PublicKey, sign(rs, &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256})},
	}
	openssl := map[string]bool{"ecdsa": true, "pkcs1": true}
	want := map[station.Verifier]map[string]bool{
		"": {"ecdsa": true, "pss": true}, station.LibEVSE: openssl, station.EVerestScript: openssl, station.OpenOCPP1: openssl, station.ChargeLab: openssl,
		station.Unsigned: {"ecdsa": true, "ecdsa-raw": true, "pkcs1": true, "pss": true},
	}
	for _, v := range station.Verifiers() {
		for name, signature := range signatures {
			cert := &x509.Certificate{PublicKey: signature.key}
			if err := station.VerifyImage(v, cert, sum, signature.bytes); (err == nil) != want[v][name] {
				t.Errorf("%q with %s: %v", v, name, err)
			}
			flipped := sum
			flipped[7] ^= 1
			if err := station.VerifyImage(v, cert, flipped, signature.bytes); err == nil && v != station.Unsigned {
				t.Errorf("%q with %s takes another image", v, name)
			}
		}
	}
}

// What each checks of the certificate.
func TestSignerIsChecked(t *testing.T) { // L01.FR.12, .21
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	make509 := func(name string, from, to time.Duration, parent *x509.Certificate) *x509.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(from), NotAfter: now.Add(to), BasicConstraintsValid: true, IsCA: parent == nil}
		if parent == nil {
			parent = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	text := func(list ...*x509.Certificate) (out []byte) {
		for _, c := range list {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		return out
	}
	root, other := make509("root", -time.Hour, 48*time.Hour, nil), make509("other", -time.Hour, 48*time.Hour, nil)
	good := make509("good", -time.Hour, time.Hour, root)
	all := map[station.Verifier]bool{"": true, station.LibEVSE: true, station.EVerestScript: true, station.OpenOCPP1: true, station.ChargeLab: true, station.Unsigned: true}
	none := map[station.Verifier]bool{station.Unsigned: true}
	for name, tt := range map[string]struct {
		text []byte
		ok   map[station.Verifier]bool
	}{
		"good":      {text(good), all},
		"expired":   {text(make509("expired", -2*time.Hour, -time.Hour, root)), none},
		"too early": {text(make509("early", time.Hour, 2*time.Hour, root)), map[station.Verifier]bool{station.LibEVSE: true, station.EVerestScript: true, station.Unsigned: true}},
		"stranger":  {text(make509("stranger", -time.Hour, time.Hour, other)), none},
		"bundle":    {text(good, root), map[station.Verifier]bool{station.EVerestScript: true, station.OpenOCPP1: true, station.ChargeLab: true, station.Unsigned: true}},
		"root":      {text(root), map[station.Verifier]bool{"": true, station.LibEVSE: true, station.EVerestScript: true, station.ChargeLab: true, station.Unsigned: true}},
		"no PEM":    {good.Raw, nil},
	} {
		for _, v := range station.Verifiers() {
			if _, err := station.CheckSigner(v, tt.text, []*x509.Certificate{root}, now); (err == nil) != tt.ok[v] {
				t.Errorf("%s, %q: %v", name, v, err)
			}
		}
	}
}
