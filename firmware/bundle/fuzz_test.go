package bundle_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"bollard/firmware/bundle"
)

// FuzzSBOM: what is taken is JSON that names parts, and its parts can be listed.
func FuzzSBOM(f *testing.F) {
	f.Add([]byte(`{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{"type":"library","name":"openssl","version":"3.0.1","purl":"pkg:generic/openssl@3.0.1","bom-ref":"a","components":[{"type":"library","name":"x"}]}],"dependencies":[{"ref":"a","dependsOn":[]}]}`))
	f.Add([]byte(`{"bomFormat":"CycloneDX","specVersion":"1.5","components":[]}`))
	digest := sha256.Sum256(nil)
	f.Fuzz(func(t *testing.T, text []byte) {
		if bundle.CheckSBOM(text, digest) != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatal("that isn't JSON")
		}
		parts, err := bundle.Parts(text)
		if err != nil || len(parts) == 0 {
			t.Fatalf("%d parts, %v", len(parts), err)
		}
	})
}

// FuzzCMS: only one spelling of a good signature is taken.
func FuzzCMS(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		f.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	digest := sha256.Sum256([]byte("image"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		f.Fatal(err)
	}
	chain := []*x509.Certificate{cert}
	good, err := bundle.EncodeCMS(chain, signature)
	if err != nil {
		f.Fatal(err)
	}
	if err := bundle.CheckCMS(good, chain, digest); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(good[:len(good):len(good)], 0))
	f.Fuzz(func(t *testing.T, der []byte) {
		if bundle.CheckCMS(der, chain, digest) == nil && !bytes.Equal(der, good) {
			t.Fatalf("another CMS was taken: %x", der)
		}
	})
}
