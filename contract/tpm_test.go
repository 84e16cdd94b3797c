package contract_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
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
	device, stop, err := swtpm.NewCar(context.WithoutCancel(t.Context()))
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	storage := &tpm.Storage{Key: device.Storage}
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
	loaded, err := device.Take(tpm.Sealed{Public: a.Public, Key: a.Key}, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum512([]byte("challenge"))
	if err := device.Proves(loaded, key, digest[:], tpm2.PasswordAuth(nil)); err != nil {
		t.Error(err)
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
