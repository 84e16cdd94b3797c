package catalogue_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
	"time"

	"bollard/approval"
	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/release"
)

// What is kept beside an envelope is worth nothing if it says other than what was
// signed.
func TestKeptRecordIsTheSignedOne(t *testing.T) { // promise 10
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"ACME"}, CommonName: "ACME Firmware 1"},
		NotAfter: time.Unix(1<<33, 0), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("image"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1780315200, 0).UTC()
	r := release.Release{
		ID: release.NewID(now, [10]byte{1}), Vendor: "ACME", Models: []release.Model{{Vendor: "ACME", Model: "Volt"}}, Component: "firmware", Version: "1", Sequence: 1, SecurityEpoch: 1,
		File: "x.bin", Size: 5, SHA256: hex.EncodeToString(sum[:]), Signatures: []release.Signature{{Dialect: release.ECDSAP256, Cert: release.Fingerprint(cert), Value: base64.StdEncoding.EncodeToString(signature)}},
		NotBefore: now, Expires: now.Add(time.Hour), Log: release.NoLog,
	}
	text, err := r.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := release.Seal(t.Context(), release.PayloadType, text, cert, key, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := r.Digest()
	if err != nil {
		t.Fatal(err)
	}
	c, err := catalogue.New(catalogue.Config{
		Store: struct{ catalogue.Store }{}, Depot: &depot.Depot{}, Trust: func(context.Context, *x509.Certificate) error { return nil },
		Approved: func(context.Context, string, string, string) (approval.Grant, error) { return approval.Grant{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	e := catalogue.Entry{Release: &r, Digest: digest, Envelope: envelope, Certificate: der}
	if err := c.Verify(t.Context(), &e); err != nil {
		t.Fatal(err)
	}
	// A device's certificate, under the same root and good for anything, signs none.
	template.ExtKeyUsage = nil
	device, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(device); err != nil {
		t.Fatal(err)
	}
	if err := c.Trusted(t.Context(), cert); err == nil || !strings.Contains(err.Error(), "codeSigning") {
		t.Errorf("a certificate without extended key usage: %v", err)
	}
	other := r
	other.Sequence = 9
	e.Release = &other
	if err := c.Verify(t.Context(), &e); err == nil {
		t.Error("a record that was changed where it is kept is good")
	}
}
