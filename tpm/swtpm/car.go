package swtpm

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"bollard/tpm"
)

// Car is a TPM with a storage key, of whose make nothing but the public key leaves it.
type Car struct {
	transport.TPM
	Storage *ecdh.PublicKey
	parent  tpm2.NamedHandle
}

// NewCar starts the TPM of a car. Call stop in any case: it ends the TPM and removes
// what it kept.
func NewCar(ctx context.Context) (c *Car, stop func() error, err error) {
	device, _, stop, err := StartAlone(ctx)
	if err != nil {
		return nil, stop, err
	}
	c = &Car{TPM: device}
	return c, stop, c.born()
}

// born makes the storage key.
func (c *Car) born() error {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm.StorageTemplate())}.Execute(c)
	if err != nil {
		return fmt.Errorf("couldn't make a storage key: %w", err)
	}
	c.parent = tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}
	public, err := made.OutPublic.Contents()
	if err != nil {
		return err
	}
	parameters, err := public.Parameters.ECCDetail()
	if err != nil {
		return err
	}
	point, err := public.Unique.ECC()
	if err != nil {
		return err
	}
	c.Storage, err = tpm2.ECDHPub(parameters, point)
	return err
}

// Take imports and loads a sealed key ([V2G20-2523]).
func (c *Car) Take(s tpm.Sealed, key *ecdsa.PublicKey, policy []byte) (*tpm2.LoadResponse, error) {
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

// Proves has the TPM sign a digest with what it has loaded, and is an error unless that
// verifies by the certificate's key.
func (c *Car) Proves(loaded *tpm2.LoadResponse, key *ecdsa.PublicKey, digest []byte, auth tpm2.Session) error {
	signed, err := tpm2.Sign{
		KeyHandle:  tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: auth},
		Digest:     tpm2.TPM2BDigest{Buffer: digest},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	}.Execute(c)
	if err != nil {
		return err
	}
	value, err := signed.Signature.Signature.ECDSA()
	if err != nil {
		return err
	}
	if !ecdsa.Verify(key, digest, new(big.Int).SetBytes(value.SignatureR.Buffer), new(big.Int).SetBytes(value.SignatureS.Buffer)) {
		return errors.New("the TPM signed with another key")
	}
	return nil
}
