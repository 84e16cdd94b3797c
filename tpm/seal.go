// Package tpm seals contract keys for cars that keep theirs in a TPM 2.0
// (ISO 15118-20, 7.9.2.5.3): as what TPM2_Import takes under the storage key that the
// car's provisioning certificate names.
//
// It promises that only the TPM with that storage key imports what is sealed, and
// only as the key of the contract certificate, under the policy the car's maker wants.
package tpm

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2"
)

// Sizes on secp521r1.
const (
	coordinate = 66
	// SealedSize is TPM_EncryptedPrivateKey's: an HMAC of SHA-512, and the sensitive
	// area with an authValue as long as its hash ([V2G20-2521], ISO 11889-1 §23.3.2).
	SealedSize = 206
)

// Storage is where a car's TPM keeps contract keys.
type Storage struct {
	Key    *ecdh.PublicKey // on P-521
	Policy []byte          // SHA-512 that authorises the key's use; nil: none does
}

// Sealed is a contract key on its way.
type Sealed struct {
	Public []byte // DHPublicKey: the sender's ephemeral key, of which the TPM makes the seed
	Key    []byte // TPM_EncryptedPrivateKey
}

// Seal seals a contract key by the outer duplication wrapper alone ([V2G20-2518]).
func (s *Storage) Seal(random io.Reader, contract *ecdsa.PrivateKey) (Sealed, error) {
	if contract.Curve != elliptic.P521() {
		return Sealed{}, fmt.Errorf("the contract key is on %s, a TPM's profile is on P-521", contract.Params().Name)
	}
	public, err := Object(&contract.PublicKey, s.Policy)
	if err != nil {
		return Sealed{}, err
	}
	name, err := tpm2.ObjectName(&public)
	if err != nil {
		return Sealed{}, err
	}
	parent := storageArea(s.Key)
	to, err := tpm2.ImportEncapsulationKey(&parent)
	if err != nil {
		return Sealed{}, fmt.Errorf("the storage key of the car's TPM: %w", err)
	}
	scalar, err := contract.Bytes() // at its full width
	if err != nil {
		return Sealed{}, err
	}
	defer clear(scalar)
	sensitive := tpm2.Marshal(tpm2.TPMTSensitive{
		SensitiveType: tpm2.TPMAlgECC,
		// None, at the length of the name's hash: a TPM takes trailing zeros off.
		AuthValue: tpm2.TPM2BAuth{Buffer: make([]byte, 64)},
		Sensitive: tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgECC, &tpm2.TPM2BECCParameter{Buffer: scalar}),
	})
	defer clear(sensitive)
	key, secret, err := tpm2.CreateDuplicate(random, to, name.Buffer, sensitive)
	if err != nil {
		return Sealed{}, err
	}
	// The secret is the ephemeral point, which travels as DHPublicKey ([V2G20-2520]).
	point, err := tpm2.Unmarshal[tpm2.TPMSECCPoint](secret)
	if err != nil || len(key) != SealedSize || len(point.X.Buffer) != coordinate || len(point.Y.Buffer) != coordinate {
		return Sealed{}, errors.New("internal error: a sealed key of another size")
	}
	return Sealed{append(append([]byte{4}, point.X.Buffer...), point.Y.Buffer...), key}, nil
}

// Seed is what a car gives TPM2_Import as inSymSeed, of DHPublicKey.
func Seed(public []byte) ([]byte, error) {
	if len(public) != 1+2*coordinate || public[0] != 4 {
		return nil, errors.New("the ephemeral key isn't an uncompressed point of P-521")
	}
	return tpm2.Marshal(tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: public[1 : 1+coordinate]}, Y: tpm2.TPM2BECCParameter{Buffer: public[1+coordinate:]},
	}), nil
}

// Object is the public area of a contract key, of which both sides make its Name: one
// bit of another profile, and a TPM refuses the key.
//
// It signs, by ECDSA with SHA-512, and can be in no TPM's own hierarchy for good
// (fixedTPM, fixedParent), since it was made outside. With a policy that alone
// authorises its use, without one the empty authValue does.
func Object(key *ecdsa.PublicKey, policy []byte) (tpm2.TPMTPublic, error) {
	raw, err := key.Bytes()
	if err != nil || len(raw) != 1+2*coordinate {
		return tpm2.TPMTPublic{}, errors.New("the contract key isn't on P-521")
	}
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgECC,
		NameAlg: tpm2.TPMAlgSHA512,
		ObjectAttributes: tpm2.TPMAObject{
			SignEncrypt: true, UserWithAuth: len(policy) == 0, AdminWithPolicy: len(policy) > 0, NoDA: true,
		},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: bytes.Clone(policy)},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA512})},
			CurveID: tpm2.TPMECCNistP521,
		}),
		Unique: point(raw[1:1+coordinate], raw[1+coordinate:]),
	}, nil
}

// storageArea is what the wrapper needs of a storage key: its point, SHA-512 as the
// hash of its name, AES-256 in CFB mode.
func storageArea(key *ecdh.PublicKey) tpm2.TPMTPublic {
	raw := key.Bytes()
	area := StorageTemplate()
	area.Unique = point(raw[1:1+coordinate], raw[1+coordinate:])
	return area
}

// StorageTemplate is the storage key that a car's maker has its TPM make.
func StorageTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgECC,
		NameAlg: tpm2.TPMAlgSHA512,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, Decrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{
				Algorithm: tpm2.TPMAlgAES, KeyBits: tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)), Mode: tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
			},
			CurveID: tpm2.TPMECCNistP521,
		}),
		Unique: point(nil, nil),
	}
}

func point(x, y []byte) tpm2.TPMUPublicID {
	return tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: y}})
}
