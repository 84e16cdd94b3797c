package tpm_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"math/big"
	"os"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"bollard/tpm"
	"bollard/tpm/swtpm"
)

// car is a TPM with a storage key, of whose make nothing but the public key leaves it.
type car struct {
	transport.TPM
	t      *testing.T
	parent tpm2.NamedHandle
	key    *ecdh.PublicKey
}

func newCar(t *testing.T) *car {
	t.Helper()
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
	c := &car{TPM: device, t: t}
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm.StorageTemplate())}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	c.parent = tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}
	public, err := made.OutPublic.Contents()
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
	if c.key, err = tpm2.ECDHPub(parameters, point); err != nil {
		t.Fatal(err)
	}
	return c
}

// take imports and loads a sealed key ([V2G20-2523]).
func (c *car) take(s tpm.Sealed, key *ecdsa.PublicKey, policy []byte) (*tpm2.LoadResponse, error) {
	c.t.Helper()
	object, err := tpm.Object(key, policy)
	if err != nil {
		return nil, err
	}
	seed, err := tpm.Seed(s.Public)
	if err != nil {
		return nil, err
	}
	imported, err := tpm2.Import{
		ParentHandle: c.parent, ObjectPublic: tpm2.New2B(object), Duplicate: tpm2.TPM2BPrivate{Buffer: s.Key},
		InSymSeed: tpm2.TPM2BEncryptedSecret{Buffer: seed}, Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
	}.Execute(c)
	if err != nil {
		return nil, err
	}
	return tpm2.Load{ParentHandle: c.parent, InPrivate: imported.OutPrivate, InPublic: tpm2.New2B(object)}.Execute(c)
}

// signs tells whether the TPM signs with what it has loaded, as the certificate's key.
func (c *car) signs(loaded *tpm2.LoadResponse, key *ecdsa.PublicKey, auth tpm2.Session) error {
	c.t.Helper()
	digest := sha512.Sum512([]byte("PnC_AReqAuthorizationMode"))
	signed, err := tpm2.Sign{
		KeyHandle:  tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: auth},
		Digest:     tpm2.TPM2BDigest{Buffer: digest[:]},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	}.Execute(c)
	if err != nil {
		return err
	}
	value, err := signed.Signature.Signature.ECDSA()
	if err != nil {
		return err
	}
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(value.SignatureR.Buffer), new(big.Int).SetBytes(value.SignatureS.Buffer)) {
		c.t.Error("the TPM signed with another key")
	}
	return nil
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
	storage := &tpm.Storage{Key: c.key}
	sealed, err := storage.Seal(rand.Reader, contract)
	if err != nil {
		t.Fatal(err)
	}
	if len(sealed.Public) != 133 || len(sealed.Key) != 206 {
		t.Errorf("sizes %d and %d, the message has 133 and 206", len(sealed.Public), len(sealed.Key))
	}
	loaded, err := c.take(sealed, &contract.PublicKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.signs(loaded, &contract.PublicKey, tpm2.PasswordAuth(nil)); err != nil {
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
		if _, err := c.take(try.sealed, try.key, try.policy); err == nil {
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
	sealed, err := (&tpm.Storage{Key: c.key, Policy: digest.PolicyDigest.Buffer}).Seal(rand.Reader, contract)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := c.take(sealed, &contract.PublicKey, digest.PolicyDigest.Buffer)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.signs(loaded, &contract.PublicKey, tpm2.PasswordAuth(nil)); err == nil {
		t.Error("signed without the policy")
	}
	if err := c.signs(loaded, &contract.PublicKey, tpm2.Policy(tpm2.TPMAlgSHA512, 16, tpm2.PolicyCallback(fulfil))); err != nil {
		t.Error(err)
	}
}
