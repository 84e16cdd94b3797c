package signature_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/big"
	"os"
	"slices"
	"testing"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/iso15118/exi"
	"bollard/iso15118/signature"
)

// vector is a signed message made by others' encoders and cryptography.
type vector struct {
	Name, Schema, EXI string
	Signature         *struct {
		PublicKeySpki string
		References    []struct{ Element string }
		Valid         bool
	}
}

func vectors(t *testing.T, files ...string) []vector {
	t.Helper()
	var out []vector
	for _, file := range files {
		raw, err := os.ReadFile("../exi/testdata/" + file + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var in struct{ Vectors []vector }
		if err := json.Unmarshal(raw, &in); err != nil {
			t.Fatal(err)
		}
		out = append(out, in.Vectors...)
	}
	return out
}

func decode(t *testing.T, v vector) (*exi.Set, exi.Element) {
	t.Helper()
	set, err := exi.SetNamed(v.Schema)
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(v.EXI)
	if err != nil {
		t.Fatal(err)
	}
	root, err := set.Decode(exi.Document, data)
	if err != nil {
		t.Fatal(err)
	}
	return set, root
}

// find looks for an element at any depth.
func find(el *exi.Element, local string) *exi.Element {
	if el.Local == local {
		return el
	}
	for i := range el.Children {
		if found := find(&el.Children[i], local); found != nil {
			return found
		}
	}
	return nil
}

// signed is a vector ready to be verified.
type signed struct {
	set       *exi.Set
	signature exi.Element
	key       crypto.PublicKey
	suites    []signature.Suite
	parts     []exi.Element
}

func (s *signed) verify() error {
	return signature.Verify(s.set, s.signature, s.key, s.suites, s.parts...)
}

func load(t *testing.T, name string) *signed {
	t.Helper()
	for _, v := range vectors(t, "iso15118-2-documents", "iso15118-20-documents") {
		if v.Name != name {
			continue
		}
		set, root := decode(t, v)
		s := &signed{set: set, signature: *find(&root, "Signature"), suites: []signature.Suite{signature.P256}}
		if v.Schema == "iso15118-20-common" {
			s.suites = []signature.Suite{signature.P521}
		}
		der, err := hex.DecodeString(v.Signature.PublicKeySpki)
		if err != nil {
			t.Fatal(err)
		}
		if s.key, err = x509.ParsePKIXPublicKey(der); err != nil {
			t.Fatal(err)
		}
		for _, r := range v.Signature.References {
			s.parts = append(s.parts, *find(&root, r.Element))
		}
		return s
	}
	t.Fatalf("no vector %s", name)
	return nil
}

func TestVectors(t *testing.T) {
	t.Parallel()
	count := 0
	for _, v := range vectors(t, "iso15118-2-documents", "iso15118-20-documents") {
		if v.Signature == nil {
			continue
		}
		count++
		s := load(t, v.Name)
		if err := s.verify(); (err == nil) != v.Signature.Valid {
			t.Errorf("%s: %v", v.Name, err)
		}
		slices.Reverse(s.parts)
		if err := s.verify(); err != nil {
			t.Errorf("%s in another order: %v", v.Name, err)
		}
	}
	if count < 9 {
		t.Errorf("%d signed messages", count)
	}
}

// A real stack's -20 message, signed with what its -2 has: by a policy for tests alone.
func TestJosevIsTakenByPolicyOnly(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "published") {
		if v.Name != "josev-iso20-CertificateInstallationReq" {
			continue
		}
		set, root := decode(t, v)
		chain := find(&root, "OEMProvisioningCertificateChain")
		der, _ := chain.Child("Certificate").Value.([]byte)
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		sig := *find(&root, "Signature")
		if err := signature.Verify(set, sig, cert.PublicKey, []signature.Suite{signature.P256}, *chain); err != nil {
			t.Error(err)
		}
		if err := signature.Verify(set, sig, cert.PublicKey, []signature.Suite{signature.P521}, *chain); err == nil {
			t.Error("P-256 is taken for ISO 15118-20")
		}
		return
	}
	t.Error("the vector is missing")
}

func TestSignVerifies(t *testing.T) {
	t.Parallel()
	_, private, err := ed448.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[signature.Suite]crypto.Signer{signature.Ed448: private}
	for suite, curve := range map[signature.Suite]elliptic.Curve{signature.P256: elliptic.P256(), signature.P521: elliptic.P521()} {
		if keys[suite], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	for suite, size := range map[signature.Suite]int{signature.P256: 64, signature.P521: 132, signature.Ed448: 114} {
		s := load(t, "iso2-doc-CertificateInstallationRes-signed")
		if suite != signature.P256 {
			s = load(t, "iso20-doc-CertificateInstallationRes-signed")
		}
		s.suites, s.key = []signature.Suite{suite}, keys[suite].Public()
		if s.signature, err = signature.Sign(rand.Reader, keys[suite], s.set, s.parts...); err != nil {
			t.Errorf("%s: %v", suite, err)
			continue
		}
		if value, _ := s.signature.Child("SignatureValue").Value.([]byte); len(value) != size {
			t.Errorf("%s: a value of %d bytes", suite, len(value))
		}
		if err := s.verify(); err != nil {
			t.Errorf("%s: %v", suite, err)
		}
		s.suites = []signature.Suite{signature.P256, signature.P521, signature.Ed448}
		s.suites = slices.DeleteFunc(s.suites, func(other signature.Suite) bool { return other == suite })
		if err := s.verify(); err == nil {
			t.Errorf("%s is taken where it isn't allowed", suite)
		}
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := load(t, "iso2-doc-CertificateInstallationRes-signed")
	if _, err := signature.Sign(rand.Reader, p224, s.set, s.parts...); err == nil {
		t.Error("signed with P-224")
	}
}

// Some stacks sign the eMAID as it is declared; ours gets the standard's form.
func TestBothFormsOfTheEMAID(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := load(t, "iso2-doc-CertificateInstallationRes-signed")
	s.key = key.Public()
	sign := func() {
		if s.signature, err = signature.Sign(rand.Reader, key, s.set, s.parts...); err != nil {
			t.Fatal(err)
		}
	}
	sign()
	eMAID := s.parts[slices.IndexFunc(s.parts, func(el exi.Element) bool { return el.Local == "eMAID" })]
	standard, err := s.set.Encode(exi.Fragment, eMAID)
	if err != nil {
		t.Fatal(err)
	}
	declared, err := s.set.EncodeDeclared(eMAID)
	if err != nil || string(declared) == string(standard) {
		t.Fatalf("there is one form only: %v", err)
	}
	digest := func() string {
		for _, r := range s.signature.Child("SignedInfo").Children {
			if r.Attribute("URI") == "#"+eMAID.Attribute("Id") {
				b, _ := r.Child("DigestValue").Value.([]byte)
				return hex.EncodeToString(b)
			}
		}
		return ""
	}
	if want := hex.EncodeToString(signature.Sum(signature.P256, standard)); digest() != want {
		t.Errorf("signed digest %s, want the relaxed form's %s", digest(), want)
	}
	if s.signature, err = signature.SignDeclared(rand.Reader, key, s.set, s.parts...); err != nil {
		t.Fatal(err)
	}
	if want := hex.EncodeToString(signature.Sum(signature.P256, declared)); digest() != want {
		t.Fatalf("digest %s, want the declared form's %s", digest(), want)
	}
	if err := s.verify(); err != nil {
		t.Error(err)
	}
}

// Each of these is refused though the value is made with the right key.
func TestRefused(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	info := func(s *signed) *exi.Element { return s.signature.Child("SignedInfo") }
	first := func(s *signed) *exi.Element { return info(s).Child("Reference") }
	id := func(el *exi.Element) {
		el.Attributes = append([]exi.Attribute{{Name: "Id", Value: "x"}}, el.Attributes...)
	}
	for name, change := range map[string]func(s *signed){
		"Id of SignedInfo": func(s *signed) { id(info(s)) },
		"Type of a Reference": func(s *signed) {
			first(s).Attributes = append([]exi.Attribute{{Name: "Type", Value: "x"}}, first(s).Attributes...)
		},
		"Id of SignatureValue":   func(s *signed) { id(s.signature.Child("SignatureValue")) },
		"other canonicalisation": func(s *signed) { info(s).Child("CanonicalizationMethod").Attributes[0].Value += "x" },
		"other transform":        func(s *signed) { first(s).Find("Transforms", "Transform").Attributes[0].Value += "x" },
		"two transforms":         func(s *signed) { c := &first(s).Child("Transforms").Children; *c = append(*c, (*c)[0]) },
		"no transforms":          func(s *signed) { first(s).Children = first(s).Children[1:] },
		"other digest method":    func(s *signed) { first(s).Child("DigestMethod").Attributes[0].Value += "x" },
		"other method":           func(s *signed) { info(s).Child("SignatureMethod").Attributes[0].Value += "x" },
		"a reference more":       func(s *signed) { info(s).Children = append(info(s).Children, *first(s)) },
		"a reference twice":      func(s *signed) { c := info(s).Children; c[len(c)-1] = *first(s) },
		"a reference less":       func(s *signed) { info(s).Children = info(s).Children[:len(info(s).Children)-1] },
		"foreign reference":      func(s *signed) { first(s).Attributes[0].Value = "#other" },
		"whole document":         func(s *signed) { first(s).Attributes = nil },
		"URI without #":          func(s *signed) { first(s).Attributes[0].Value = first(s).Attributes[0].Value[1:] },
		"other digest":           func(s *signed) { b, _ := first(s).Child("DigestValue").Value.([]byte); b[0] ^= 1 },
		"element without Id":     func(s *signed) { s.parts[1].Attributes = nil },
		"two of one Id":          func(s *signed) { s.parts[1].Attributes = s.parts[0].Attributes },
		"nothing":                func(s *signed) { s.parts = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := load(t, "iso2-doc-CertificateInstallationRes-signed")
			s.key = key.Public()
			var err error
			if s.signature, err = signature.Sign(rand.Reader, key, s.set, s.parts...); err != nil {
				t.Fatal(err)
			}
			if err := s.verify(); err != nil {
				t.Fatal(err)
			}
			change(s)
			signature.Resign(t, &s.signature, key)
			if err := s.verify(); err == nil {
				t.Error("verified")
			}
		})
	}
	t.Run("changed value", func(t *testing.T) {
		t.Parallel()
		for _, i := range []int{0, 63} {
			s := load(t, "iso2-doc-CertificateInstallationRes-signed")
			b, _ := s.signature.Child("SignatureValue").Value.([]byte)
			b[i] ^= 1
			if s.verify() == nil {
				t.Errorf("verified with byte %d changed", i)
			}
		}
	})
	t.Run("longer value", func(t *testing.T) {
		t.Parallel()
		s := load(t, "iso2-doc-CertificateInstallationRes-signed")
		v := s.signature.Child("SignatureValue")
		b, _ := v.Value.([]byte)
		v.Value = append([]byte{0}, b...)
		if s.verify() == nil {
			t.Error("verified")
		}
	})
}

// faulty is a security module that answers with other integers.
type faulty struct {
	crypto.Signer
	r, s *big.Int
}

func (f faulty) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return asn1.Marshal(struct{ R, S *big.Int }{f.r, f.s})
}

func TestFaultyModule(t *testing.T) {
	t.Parallel()
	one, wide := big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), 256)
	for name, f := range map[string]faulty{
		"wide r": {nil, wide, one}, "wide s": {nil, one, wide}, "negative": {nil, big.NewInt(-1), one}, "zero": {nil, one, new(big.Int)},
	} {
		if _, err := signature.Value(signature.P256, f); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := signature.Value(signature.P256, faulty{nil, one, one}); err != nil {
		t.Errorf("one that fits: %v", err)
	}
}
