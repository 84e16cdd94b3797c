package release_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"testing"

	"bollard/firmware/release"
)

var image = []byte("an image of firmware\n")

type rs struct{ R, S *big.Int }

// What other signers write, and stations would read differently, is refused.
func TestVerifyTakesOneForm(t *testing.T) {
	t.Parallel()
	ec, rsaKey := ecMaker(t), rsaMaker(t)
	sum := sha256.Sum256(image)
	private := rsaKey.key.(*rsa.PrivateKey)
	pss := func(salt int) []byte {
		sig, err := rsa.SignPSS(rand.Reader, private, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: salt})
		must(t, err)
		return sig
	}
	der := sign(t, ec, release.ECDSAP256, image)
	var parts rs
	_, err := asn1.Unmarshal(der, &parts)
	must(t, err)
	raw := append(parts.R.FillBytes(make([]byte, 32)), parts.S.FillBytes(make([]byte, 32))...)
	other, err := asn1.Marshal(rs{parts.R, new(big.Int).Sub(elliptic.P256().Params().N, parts.S)})
	must(t, err)
	long := slices.Concat([]byte{0x30, 0x81, der[1]}, der[2:]) // a length in BER
	otherHash := sha256.Sum256([]byte("another"))
	wrongHash, err := ecdsa.SignASN1(rand.Reader, ec.key.(*ecdsa.PrivateKey), otherHash[:])
	must(t, err)
	pkcs1 := sign(t, rsaKey, release.RSAPKCS1, image)
	for name, tt := range map[string]struct {
		by   maker
		d    release.Dialect
		sig  []byte
		good bool
	}{
		"ECDSA":                   {ec, release.ECDSAP256, der, true},
		"the other half of S":     {ec, release.ECDSAP256, other, true}, // low or high: both are ECDSA
		"PSS":                     {rsaKey, release.RSAPSS, pss(32), true},
		"PKCS #1":                 {rsaKey, release.RSAPKCS1, pkcs1, true},
		"r and s without DER":     {ec, release.ECDSAP256, raw, false},
		"BER":                     {ec, release.ECDSAP256, long, false},
		"bytes behind DER":        {ec, release.ECDSAP256, append(slices.Clone(der), 0), false},
		"cut DER":                 {ec, release.ECDSAP256, der[:len(der)-1], false},
		"empty":                   {ec, release.ECDSAP256, nil, false},
		"another hash":            {ec, release.ECDSAP256, wrongHash, false},
		"PSS with salt 0":         {rsaKey, release.RSAPSS, pss(0), false},
		"PSS with salt 20":        {rsaKey, release.RSAPSS, pss(20), false},
		"PSS with the longest":    {rsaKey, release.RSAPSS, pss(rsa.PSSSaltLengthAuto), false},
		"PKCS #1 as PSS":          {rsaKey, release.RSAPSS, pkcs1, false},
		"PSS as PKCS #1":          {rsaKey, release.RSAPKCS1, pss(32), false},
		"bytes behind PKCS #1":    {rsaKey, release.RSAPKCS1, append(slices.Clone(pkcs1), 0), false},
		"ECDSA by an RSA key":     {rsaKey, release.ECDSAP256, der, false},
		"PSS by a key of a curve": {ec, release.RSAPSS, pss(32), false},
		"unknown dialect":         {rsaKey, "ecschnorr", pkcs1, false},
		"another key":             {ecMaker(t), release.ECDSAP256, der, false},
	} {
		if err := tt.d.Verify(tt.by.cert.PublicKey, sum, tt.sig); (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckKey(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	modulus := func(bits uint) *rsa.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), bits-1), E: 65537}
	}
	for name, tt := range map[string]struct {
		key  crypto.PublicKey
		want string
	}{
		"P-256":    {ecMaker(t).cert.PublicKey, ""},
		"RSA 3072": {rsaMaker(t).cert.PublicKey, ""},
		"RSA 4096": {modulus(4096), ""},
		"P-384":    {p384.Public(), "P-384"},
		"RSA 2048": {modulus(2048), "2048 bits"},
		"RSA 8192": {modulus(8192), "8192 bits"}, // 1,368 characters of Base64
		"none":     {nil, "<nil>"},
	} {
		err := release.CheckKey(tt.key)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSignatureFieldHasOneSpelling(t *testing.T) {
	t.Parallel()
	long := base64.StdEncoding.EncodeToString(make([]byte, 600)) // 800 characters
	for value, good := range map[string]bool{
		"YW55":        true,
		"YQ==":        true,
		long:          true,
		"":            false,
		long + "YQ==": false,
		"YQ":          false, // no padding
		"YR==":        false, // stray bits
		"YW\n55":      false, // wrapped
		"YW55\n":      false,
		"YW\r\n55":    false,
		" YW55":       false,
		"YW5_":        false, // the alphabet of URLs
	} {
		if _, err := release.DecodeSignature(value); (err == nil) != good {
			t.Errorf("%.20q: %v", value, err)
		}
	}
}

func TestSignatureNamesItsCertificate(t *testing.T) {
	t.Parallel()
	m := ecMaker(t)
	again := certify(t, m.key) // the same key in another certificate
	sum := sha256.Sum256(image)
	s := release.Signature{Dialect: release.ECDSAP256, Cert: release.Fingerprint(m.cert), Value: base64.StdEncoding.EncodeToString(sign(t, m, release.ECDSAP256, image))}
	if err := s.Verify(m.cert, sum); err != nil {
		t.Error(err)
	}
	if s.Verify(again.cert, sum) == nil {
		t.Error("another certificate was taken")
	}
	if s.Verify(m.cert, sha256.Sum256(nil)) == nil {
		t.Error("another file was taken")
	}
}
