package envelope_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"bollard/iso15118/envelope"
)

// vector is one envelope, worked out step by step by somebody else's code.
type vector struct {
	Name, Expect                         string
	ReceiverPrivateScalar                octets
	EphemeralPrivateScalar               octets
	IV, SKIHex, AAD                      octets
	ContractPrivateScalar                octets
	ContractPublicPoint                  octets
	PCID                                 string
	DHpublickey                          octets // also -20's DHPublicKey
	ContractSignatureEncryptedPrivateKey octets
	Key521                               octets `json:"SECP521_EncryptedPrivateKey"`

	ReceiverPrivate, ReceiverPublic, EphemeralPrivate, ContractPrivate octets
	DHPublicKey57                                                      octets
	Key448                                                             octets `json:"X448_EncryptedPrivateKey"`
}

type octets []byte

func (o *octets) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*o = b
	return err
}

func vectors(t *testing.T, file string) []vector {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var in struct{ Vectors []vector }
	if err := json.Unmarshal(raw, &in); err != nil {
		t.Fatal(err)
	}
	if len(in.Vectors) < 2 {
		t.Fatalf("%s has %d vectors", file, len(in.Vectors))
	}
	return in.Vectors
}

func private(t *testing.T, curve elliptic.Curve, scalar []byte) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.ParseRawPrivateKey(curve, scalar)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func public(t *testing.T, curve elliptic.Curve, point []byte) *ecdsa.PublicKey {
	t.Helper()
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func exchange(t *testing.T, key *ecdsa.PrivateKey) *ecdh.PrivateKey {
	t.Helper()
	out, err := key.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Both directions, byte for byte, with the receiver's checks ([V2G2-823]).
func TestVectors2(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "contract-key-iso15118-2.json") {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			curve := elliptic.P256()
			receiver := private(t, curve, v.ReceiverPrivateScalar)
			opened, err := envelope.Open2(envelope.Sealed{Public: v.DHpublickey, Key: v.ContractSignatureEncryptedPrivateKey}, receiver,
				public(t, curve, v.ContractPublicPoint))
			if v.Expect != "ok" {
				if err == nil {
					t.Fatalf("opened, though %s", v.Expect)
				}
				return
			}
			contract := private(t, curve, v.ContractPrivateScalar)
			if err != nil || !opened.Equal(contract) {
				t.Fatalf("got %v", err)
			}
			sealed, err := envelope.SealWith2(exchange(t, private(t, curve, v.EphemeralPrivateScalar)), bytes.Clone(v.IV), contract, exchange(t, receiver).PublicKey())
			if err != nil || !bytes.Equal(sealed.Public, v.DHpublickey) || !bytes.Equal(sealed.Key, v.ContractSignatureEncryptedPrivateKey) {
				t.Errorf("sealed to %x, %x: %v", sealed.Public, sealed.Key, err)
			}
		})
	}
}

func TestVectors20(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "contract-key-iso15118-20-secp521.json") {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			curve := elliptic.P521()
			receiver := private(t, curve, v.ReceiverPrivateScalar)
			bound := envelope.Context{PCID: string(v.AAD[:18]), SubjectKeyID: make([]byte, 8)}
			if _, err := hex.Decode(bound.SubjectKeyID, v.AAD[18:]); err != nil {
				t.Fatal(err)
			}
			opened, err := envelope.Open20(envelope.Sealed{Public: v.DHpublickey, Key: v.Key521}, receiver, public(t, curve, v.ContractPublicPoint), bound)
			if v.Expect != "ok" {
				if err == nil {
					t.Fatalf("opened, though %s", v.Expect)
				}
				return
			}
			contract := private(t, curve, v.ContractPrivateScalar)
			if err != nil || !opened.Equal(contract) {
				t.Fatalf("got %v", err)
			}
			sealed, err := envelope.SealWith20(exchange(t, private(t, curve, v.EphemeralPrivateScalar)), bytes.Clone(v.IV), contract, exchange(t, receiver).PublicKey(),
				envelope.Context{PCID: v.PCID, SubjectKeyID: v.SKIHex})
			if err != nil || !bytes.Equal(sealed.Public, v.DHpublickey) || !bytes.Equal(sealed.Key, v.Key521) {
				t.Errorf("sealed to %x, %x: %v", sealed.Public, sealed.Key, err)
			}
		})
	}
}

func TestVectorsX448(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "contract-key-iso15118-20-x448.json") {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			bound := envelope.Context{PCID: v.PCID, SubjectKeyID: v.SKIHex}
			want := envelope.Sealed{Public: v.DHPublicKey57, Key: v.Key448}
			opened, err := envelope.OpenX448(want, v.ReceiverPrivate, bound)
			if err != nil || !bytes.Equal(opened, v.ContractPrivate) {
				t.Fatalf("opened %x: %v", opened, err)
			}
			sealed, err := envelope.SealWithX448(v.EphemeralPrivate, bytes.Clone(v.IV), v.ContractPrivate, v.ReceiverPublic, bound)
			if err != nil || !bytes.Equal(sealed.Public, want.Public) || !bytes.Equal(sealed.Key, want.Key) {
				t.Errorf("sealed to %x, %x: %v", sealed.Public, sealed.Key, err)
			}
			bound.PCID += "X"
			if _, err := envelope.OpenX448(want, v.ReceiverPrivate, bound); err == nil {
				t.Error("another car's envelope opened")
			}
			if _, err := envelope.SealWithX448(v.EphemeralPrivate, bytes.Clone(v.IV), v.ContractPrivate, make([]byte, 56), bound); err == nil {
				t.Error("sealed for a key of low order, which everybody can open")
			}
		})
	}
}

// What is sealed for one car opens there, each time differently, and nowhere else.
func TestSealedForOne(t *testing.T) {
	t.Parallel()
	key := func(curve elliptic.Curve) *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	contract, car, other := key(elliptic.P256()), key(elliptic.P256()), key(elliptic.P256())
	one, err := envelope.Seal2(rand.Reader, contract, &car.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	two, err := envelope.Seal2(rand.Reader, contract, &car.PublicKey)
	if err != nil || bytes.Equal(one.Key[:16], two.Key[:16]) || bytes.Equal(one.Public, two.Public) {
		t.Errorf("two envelopes share an IV or a key: %v", err)
	}
	if got, err := envelope.Open2(one, car, &contract.PublicKey); err != nil || !got.Equal(contract) {
		t.Errorf("the car can't open it: %v", err)
	}
	if _, err := envelope.Open2(one, other, &contract.PublicKey); err == nil {
		t.Error("another car opened it")
	}
	if _, err := envelope.Seal2(rand.Reader, key(elliptic.P521()), &car.PublicKey); err == nil {
		t.Error("a key of another curve was sealed")
	}
	if _, err := envelope.Seal20(rand.Reader, contract, &car.PublicKey, envelope.Context{PCID: "WP0TESTA00000001A3", SubjectKeyID: make([]byte, 8)}); err == nil {
		t.Error("a P-256 key was sealed by ISO 15118-20")
	}
	if _, err := envelope.Seal20(rand.Reader, key(elliptic.P521()), &key(elliptic.P521()).PublicKey, envelope.Context{PCID: "WP0TESTA00000001A3", SubjectKeyID: make([]byte, 20)}); err == nil {
		t.Error("sealed with a key identifier of 20 bytes")
	}
}
