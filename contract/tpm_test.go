package contract_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"math/big"
	"os"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"bollard/iso15118/message"
	"bollard/tpm"
	"bollard/tpm/swtpm"
)

// V2G20-2595: a car whose provisioning certificate names the storage key of its TPM
// gets its contract key for that, and its TPM signs with it. The TPM is Debian's swtpm.
func TestCarWithATPM(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "tpm") // short: a socket is in it
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	device, wait, err := swtpm.Start(ctx, dir)
	t.Cleanup(func() {
		cancel()
		if wait != nil {
			wait()
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	parent, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm.StorageTemplate())}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	public, err := parent.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	parameters, err := public.Parameters.ECCDetail()
	if err != nil {
		t.Fatal(err)
	}
	point, err := public.Unique.ECC()
	if err != nil {
		t.Fatal(err)
	}
	storage := &tpm.Storage{}
	if storage.Key, err = tpm2.ECDHPub(parameters, point); err != nil {
		t.Fatal(err)
	}
	extension, err := storage.Extension()
	if err != nil {
		t.Fatal(err)
	}

	r := newRig(t, kindsOf(message.ISO20)...)
	r.asking(t, &world{}, true)
	maker := newProvider(t, r.clock.now(), message.ISO20)
	r.trust(t, "oem", maker.root)
	c := &car{key: newKey(t, curveOf(message.ISO20)), p: message.ISO20}
	c.chain = maker.leaf(c.key, string(pcid), func(template *x509.Certificate) {
		template.ExtraExtensions = append(template.ExtraExtensions, extension)
	})
	r.add(t)
	exi := sign(t, c.request(), c.key)
	first, a := r.ask(t, message.ISO20, exi, false)
	if a == nil || a.Code != "OK" || a.Curve != message.TPM || len(a.Public) != 133 || len(a.Key) != tpm.SealedSize {
		t.Fatalf("%+v", a)
	}
	if again, _ := r.ask(t, message.ISO20, exi, false); again.Serial != first.Serial {
		t.Error("a second certificate for one TPM")
	}

	leaf, err := x509.ParseCertificate(a.Contract.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		t.Fatalf("a contract key of type %T", leaf.PublicKey)
	}
	object, err := tpm.Object(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := tpm.Seed(a.Public)
	if err != nil {
		t.Fatal(err)
	}
	under := tpm2.NamedHandle{Handle: parent.ObjectHandle, Name: parent.Name}
	imported, err := tpm2.Import{ParentHandle: under, ObjectPublic: tpm2.New2B(object), Duplicate: tpm2.TPM2BPrivate{Buffer: a.Key},
		InSymSeed: tpm2.TPM2BEncryptedSecret{Buffer: seed}, Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull}}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := tpm2.Load{ParentHandle: under, InPrivate: imported.OutPrivate, InPublic: tpm2.New2B(object)}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum512([]byte("challenge"))
	signed, err := tpm2.Sign{KeyHandle: tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}, Digest: tpm2.TPM2BDigest{Buffer: digest[:]},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	value, err := signed.Signature.Signature.ECDSA()
	if err != nil || !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(value.SignatureR.Buffer), new(big.Int).SetBytes(value.SignatureS.Buffer)) {
		t.Errorf("what the TPM signed isn't the contract's: %v", err)
	}
}

// A storage key that can't be read is no reason to send the contract key elsewhere.
func TestCarWithABrokenStorageKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO20)...)
	r.asking(t, &world{}, true)
	maker := newProvider(t, r.clock.now(), message.ISO20)
	r.trust(t, "oem", maker.root)
	c := &car{key: newKey(t, curveOf(message.ISO20)), p: message.ISO20}
	public, err := c.key.PublicKey.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	extension, err := (&tpm.Storage{Key: public}).Extension()
	if err != nil {
		t.Fatal(err)
	}
	extension.Value[len(extension.Value)-1] ^= 1
	c.chain = maker.leaf(c.key, string(pcid), func(template *x509.Certificate) {
		template.ExtraExtensions = append(template.ExtraExtensions, extension)
	})
	r.add(t)
	if a, _ := r.ask(t, message.ISO20, sign(t, c.request(), c.key), false); a.Code != "WARNING_CertificateValidationError" || a.Serial != "" {
		t.Errorf("%+v", a)
	}
}
