package curve448_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/internal/curve448"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

type authority struct {
	cert *x509.Certificate
	key  ed448.PrivateKey
}

func newKey(t testing.TB) ed448.PrivateKey {
	t.Helper()
	_, key, err := ed448.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certify signs a template for a key; nil: by itself.
func certify(t testing.TB, template x509.Certificate, key ed448.PrivateKey, by *authority) *authority {
	t.Helper()
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := &template, key
	if by != nil {
		parent, signer = &x509.Certificate{RawSubject: by.cert.RawSubject, SubjectKeyId: by.cert.SubjectKeyId}, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, other.Public(), other)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := curve448.MarshalPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := curve448.Replace(made.RawTBSCertificate, map[int][]byte{2: curve448.Algorithm(), 6: spki})
	if err != nil {
		t.Fatal(err)
	}
	sig := ed448.Sign(signer, tbs, "")
	der, err = asn1.Marshal(struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, asn1.RawValue{FullBytes: curve448.Algorithm()}, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := curve448.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func template(name string, edit ...func(*x509.Certificate)) x509.Certificate {

	c := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
		BasicConstraintsValid: true, IsCA: name != "leaf", MaxPathLen: -1, SubjectKeyId: []byte(name),
	}
	if c.KeyUsage = x509.KeyUsageDigitalSignature; c.IsCA {
		c.KeyUsage = x509.KeyUsageCertSign
	}
	for _, e := range edit {
		e(&c)
	}
	return c
}

// Of other keys it is what crypto/x509 says, to the byte, and of what is no key, too.
func TestPublicKeysOfOthersAreAsEver(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.PublicKey{
		"RSA": rsaKey.Public(), "none": nil, "off the curve": &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}, //nolint:staticcheck // as a caller may make one
		"no point": &ecdsa.PublicKey{Curve: elliptic.P256()},
	}
	for _, curve := range []elliptic.Curve{elliptic.P224(), elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		for i := range 8 { // some points begin with a zero
			key, err := ecdsa.GenerateKey(curve, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			keys[fmt.Sprint(curve.Params().Name, " ", i)] = key.Public()
		}
	}
	for name, key := range keys {
		var want, got []byte
		var wantErr, err error
		fault := func(f func()) (fault any) {
			defer func() { fault = recover() }()
			f()
			return nil
		}
		wantFault := fault(func() { want, wantErr = x509.MarshalPKIXPublicKey(key) })
		gotFault := fault(func() { got, err = curve448.MarshalPublicKey(key) })
		if !bytes.Equal(got, want) || (err == nil) != (wantErr == nil) || (gotFault == nil) != (wantFault == nil) {
			t.Errorf("%s: %x, %v, %v; want %x, %v, %v", name, got, err, gotFault, want, wantErr, wantFault)
		}
	}
}

// A path is one in which each signature, date and constraint holds (RFC 5280 §6.1), up
// to a root that is trusted.
func TestPaths(t *testing.T) {
	root := certify(t, template("root"), newKey(t), nil)
	stranger := certify(t, template("root"), newKey(t), nil) // of the same name
	sub := func(edit ...func(*x509.Certificate)) *authority {
		return certify(t, template("sub", edit...), newKey(t), root)
	}
	leaf := func(by *authority, edit ...func(*x509.Certificate)) *x509.Certificate {
		return certify(t, template("leaf", edit...), newKey(t), by).cert
	}
	good := sub()
	below := certify(t, template("below"), newKey(t), good)
	tight := sub(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	tightBelow := certify(t, template("below"), newKey(t), tight)
	over := func(c *x509.Certificate) { c.NotAfter = now.AddDate(0, -1, 0) }
	early := func(c *x509.Certificate) { c.NotBefore = now.AddDate(0, 1, 0) }
	unknown := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	}
	constrained := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Value: []byte{0x30, 7, 0xa0, 5, 0x30, 3, 0x82, 1, 0x61}}}
	}
	forged := leaf(good)
	forged.Signature[3] ^= 1
	for name, tt := range map[string]struct {
		leaf    *x509.Certificate
		between []*authority
		roots   []*authority
		paths   int
		expired bool
	}{
		"under the root":            {leaf: leaf(root), roots: []*authority{root}, paths: 1},
		"over a CA":                 {leaf: leaf(good), between: []*authority{good}, roots: []*authority{stranger, root}, paths: 1},
		"over two CAs":              {leaf: leaf(below), between: []*authority{below, good}, roots: []*authority{root}, paths: 1},
		"root sent along":           {leaf: leaf(good), between: []*authority{good, root}, roots: []*authority{root}, paths: 1},
		"untrusted root sent along": {leaf: leaf(good), between: []*authority{good, root}, roots: []*authority{stranger}},
		"a CA missing":              {leaf: leaf(below), between: []*authority{good}, roots: []*authority{root}},
		"path length":               {leaf: leaf(tightBelow), between: []*authority{tightBelow, tight}, roots: []*authority{root}},
		"path length suffices":      {leaf: leaf(tight), between: []*authority{tight}, roots: []*authority{root}, paths: 1},
		"forged":                    {leaf: forged, between: []*authority{good}, roots: []*authority{root}},
		"leaf over":                 {leaf: leaf(good, over), between: []*authority{good}, roots: []*authority{root}, expired: true},
		"leaf not yet":              {leaf: leaf(good, early), between: []*authority{good}, roots: []*authority{root}, expired: true},
		"leaf with the unknown":     {leaf: leaf(good, unknown), between: []*authority{good}, roots: []*authority{root}},
	} {
		t.Run(name, func(t *testing.T) { check(t, tt.leaf, tt.between, tt.roots, tt.paths, tt.expired) })
	}
	for name, edit := range map[string]func(*x509.Certificate){
		"CA over": over, "CA that is none": func(c *x509.Certificate) { c.IsCA = false }, "CA without its usage": func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature },
		"CA with the unknown": unknown, "CA with name constraints": constrained,
	} {
		by := sub(edit)
		t.Run(name, func(t *testing.T) {
			check(t, leaf(by), []*authority{by}, []*authority{root}, 0, name == "CA over")
		})
	}
}

func check(t *testing.T, leaf *x509.Certificate, between, roots []*authority, want int, expired bool) {
	t.Helper()
	list := func(of []*authority) (certs []*x509.Certificate) {
		for _, a := range of {
			certs = append(certs, a.cert)
		}
		return certs
	}
	paths, err := curve448.Paths(leaf, list(roots), list(between), now)
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if len(paths) != want || (err == nil) != (want > 0) || expired != (ok && invalid.Reason == x509.Expired) {
		t.Errorf("%d paths: %v", len(paths), err)
	}
}

// Whoever sends a chain can't make its search endless.
func TestPathsAreBounded(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	by := &authority{key: key}
	var between []*x509.Certificate
	for i := range 40 { // each signs each other
		by.cert = &x509.Certificate{RawSubject: certify(t, template("ring"), key, nil).cert.RawSubject, SubjectKeyId: []byte("ring")}
		between = append(between, certify(t, template("ring", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Duration(i) * time.Second) }), key, by).cert)
	}
	leaf := certify(t, template("leaf"), newKey(t), by).cert
	begun := time.Now()
	if _, err := curve448.Paths(leaf, nil, between, now); !errors.Is(err, curve448.ErrNoPath) {
		t.Error(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

// What OpenSSL writes is read, and the other way round; what RFC 8410 forbids isn't.
func TestAgainstOpenSSL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v: %s", args, err, out)
		}
	}
	run("genpkey", "-algorithm", "ed448", "-outform", "DER", "-out", "key.der")
	run("pkey", "-in", "key.der", "-inform", "DER", "-pubout", "-outform", "DER", "-out", "public.der")
	private, err := curve448.ParsePrivateKey(read(t, filepath.Join(dir, "key.der")))
	if err != nil {
		t.Fatal(err)
	}
	key := private.(ed448.PrivateKey)
	public, err := curve448.PublicKey(read(t, filepath.Join(dir, "public.der")))
	if err != nil || !key.Public().(ed448.PublicKey).Equal(public) {
		t.Errorf("another public key: %v", err)
	}
	der, err := curve448.MarshalPrivateKey(key)
	if err != nil || string(der) != string(read(t, filepath.Join(dir, "key.der"))) {
		t.Errorf("another private key is written: %v", err)
	}
	run("req", "-x509", "-new", "-key", "key.der", "-keyform", "DER", "-subj", "/CN=root", "-outform", "DER", "-out", "root.der")
	cert, err := curve448.ParseCertificate(read(t, filepath.Join(dir, "root.der")))
	if err != nil || curve448.CheckSignatureFrom(cert, cert) != nil {
		t.Errorf("OpenSSL's root: %v", err)
	}
	null := append([]byte{0x30, 0x45, 0x30, 0x07, 0x06, 0x03, 0x2b, 0x65, 0x71, 0x05, 0x00, 0x03, 0x3a, 0x00}, key[ed448.SeedSize:]...)
	if _, err := curve448.PublicKey(null); err == nil {
		t.Error("a key with parameters is read")
	}
	low := append([]byte{0x30, 0x43, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x71, 0x03, 0x3a, 0x00, 0x01}, make([]byte, 56)...)
	if _, err := curve448.PublicKey(low); err == nil {
		t.Error("a key of low order is read")
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
