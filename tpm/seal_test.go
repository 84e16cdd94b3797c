package tpm_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"bollard/tpm"
	"bollard/tpm/swtpm"
)

func newCar(t *testing.T) *swtpm.Car {
	t.Helper()
	c, stop, err := swtpm.NewCar(context.WithoutCancel(t.Context()))
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// signs tells whether the TPM signs with what it has loaded, as the certificate's key.
func signs(c *swtpm.Car, loaded *tpm2.LoadResponse, key *ecdsa.PublicKey, auth tpm2.Session) error {
	digest := sha512.Sum512([]byte("PnC_AReqAuthorizationMode"))
	return c.Proves(loaded, key, digest[:], auth)
}

func newContract(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// V2G20-2518 to 2523: a TPM imports what is sealed for its storage key, loads it, and
// signs with it as the contract certificate's key; changed or for another key it refuses.
func TestSealedForATPM(t *testing.T) {
	t.Parallel()
	c := newCar(t)
	contract := newContract(t)
	storage := &tpm.Storage{Key: c.Storage}
	sealed, err := storage.Seal(rand.Reader, contract)
	if err != nil {
		t.Fatal(err)
	}
	if len(sealed.Public) != 133 || len(sealed.Key) != 206 {
		t.Errorf("sizes %d and %d, the message has 133 and 206", len(sealed.Public), len(sealed.Key))
	}
	loaded, err := c.Take(sealed, &contract.PublicKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := signs(c, loaded, &contract.PublicKey, tpm2.PasswordAuth(nil)); err != nil {
		t.Error(err)
	}
	flipped := func(b []byte, at int) []byte { b = bytes.Clone(b); b[at] ^= 1; return b }
	elsewhere, err := ecdh.P521().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := (&tpm.Storage{Key: elsewhere.PublicKey()}).Seal(rand.Reader, contract)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		sealed tpm.Sealed
		key    *ecdsa.PublicKey
		policy []byte
	}{
		"changed":                  {tpm.Sealed{Public: sealed.Public, Key: flipped(sealed.Key, 205)}, &contract.PublicKey, nil},
		"another certificate's":    {sealed, &newContract(t).PublicKey, nil},
		"under another policy":     {sealed, &contract.PublicKey, make([]byte, 64)},
		"for another storage key":  {stranger, &contract.PublicKey, nil},
		"another's ephemeral key":  {tpm.Sealed{Public: stranger.Public, Key: sealed.Key}, &contract.PublicKey, nil},
		"no point at all":          {tpm.Sealed{Public: sealed.Public[:132], Key: sealed.Key}, &contract.PublicKey, nil},
		"a point in another form":  {tpm.Sealed{Public: flipped(sealed.Public, 0), Key: sealed.Key}, &contract.PublicKey, nil},
		"a point off of the curve": {tpm.Sealed{Public: flipped(sealed.Public, 132), Key: sealed.Key}, &contract.PublicKey, nil},
	} {
		if _, err := c.Take(try.sealed, try.key, try.policy); err == nil {
			t.Errorf("%s: imported", name)
		}
	}
	again, err := storage.Seal(rand.Reader, contract)
	if err != nil || bytes.Equal(again.Public, sealed.Public) || bytes.Equal(again.Key, sealed.Key) {
		t.Errorf("sealed alike twice: %v", err)
	}
	small, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := storage.Seal(rand.Reader, small); err == nil {
		t.Error("a key on P-256 was sealed")
	}
}

// V2G20-2517: a contract key under a policy signs when that is fulfilled, and not else.
func TestSealedUnderAPolicy(t *testing.T) {
	t.Parallel()
	c := newCar(t)
	fulfil := func(device transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicyCommandCode{PolicySession: session, Code: tpm2.TPMCCSign}.Execute(device)
		return err
	}
	trial, done, err := tpm2.PolicySession(c, tpm2.TPMAlgSHA512, 16, tpm2.Trial())
	if err != nil {
		t.Fatal(err)
	}
	if err := fulfil(c, trial.Handle(), tpm2.TPM2BNonce{}); err != nil {
		t.Fatal(err)
	}
	digest, err := tpm2.PolicyGetDigest{PolicySession: trial.Handle()}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	contract := newContract(t)
	sealed, err := (&tpm.Storage{Key: c.Storage, Policy: digest.PolicyDigest.Buffer}).Seal(rand.Reader, contract)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := c.Take(sealed, &contract.PublicKey, digest.PolicyDigest.Buffer)
	if err != nil {
		t.Fatal(err)
	}
	if err := signs(c, loaded, &contract.PublicKey, tpm2.PasswordAuth(nil)); err == nil {
		t.Error("signed without the policy")
	}
	if err := signs(c, loaded, &contract.PublicKey, tpm2.Policy(tpm2.TPMAlgSHA512, 16, tpm2.PolicyCallback(fulfil))); err != nil {
		t.Error(err)
	}
}
