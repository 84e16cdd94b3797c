package envelope_test

import (
	"bytes"
	"crypto/rand"
	"math/big"
	"slices"
	"testing"

	"github.com/cloudflare/circl/dh/x448"
	"github.com/cloudflare/circl/ecc/goldilocks"
	"github.com/cloudflare/circl/sign/ed448"
	"pgregory.net/rapid"

	"bollard/iso15118/envelope"
)

// The X448 keys of an Ed448 pair are one another's: derived from the public key and
// multiplied from the private one they are the same point.
func TestX448OfEd448(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := ed448.NewKeyFromSeed(rapid.SliceOfN(rapid.Byte(), ed448.SeedSize, ed448.SeedSize).Draw(t, "seed"))
		var private, public x448.Key
		copy(private[:], envelope.ScalarOf448(key))
		x448.KeyGen(&public, &private)
		got, err := envelope.Montgomery(key.Public().(ed448.PublicKey))
		if err != nil || !bytes.Equal(got, public[:]) {
			t.Fatalf("%x from the public key, %x from the private one: %v", got, public, err)
		}
	})
}

// What is sealed for a car on Ed448 is the contract's scalar, for that car alone, and
// is refused for keys that everybody shares a secret with.
func TestSealedOnEd448(t *testing.T) {
	t.Parallel()
	pair := func() (ed448.PublicKey, ed448.PrivateKey) {
		public, private, err := ed448.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return public, private
	}
	public, contract := pair()
	car, carKey := pair()
	_, otherKey := pair()
	bound := envelope.Context{PCID: "WP0TESTA00000001A3", SubjectKeyID: []byte("12345678")}
	sealed, err := envelope.SealEd448(rand.Reader, contract, car, bound)
	if err != nil || len(sealed.Key) != 84 || len(sealed.Public) != 57 {
		t.Fatalf("%d, %d bytes: %v", len(sealed.Key), len(sealed.Public), err)
	}
	scalar, err := envelope.OpenX448(sealed, envelope.ScalarOf448(carKey), bound)
	if err != nil {
		t.Fatal(err)
	}
	for _, bare := range [][]byte{append([]byte{1, 2}, scalar...), append(envelope.ScalarOf448(contract), 3)} {
		if !envelope.Bare448(bare, public) {
			t.Error("the scalar in clear isn't seen")
		}
	}
	if envelope.Bare448(sealed.Key, public) {
		t.Error("the scalar is in clear")
	}
	slices.Reverse(scalar)
	var s goldilocks.Scalar
	s.FromBytes(scalar)
	point := make([]byte, ed448.PublicKeySize)
	if err := (goldilocks.Curve{}).ScalarBaseMult(&s).ToBytes(point); err != nil || !bytes.Equal(point, public) {
		t.Errorf("it isn't the contract's key: %v", err)
	}
	if _, err := envelope.OpenX448(sealed, envelope.ScalarOf448(otherKey), bound); err == nil {
		t.Error("another car opened it")
	}
	prime := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 448), new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 224), big.NewInt(1)))
	large := append(prime.FillBytes(make([]byte, 56)), 0)
	slices.Reverse(large[:56])
	for name, key := range map[string]ed448.PublicKey{
		"identity": append(ed448.PublicKey{1}, make([]byte, 56)...), "order 4": make(ed448.PublicKey, 57), "short": make(ed448.PublicKey, 56), "no field element": large,
	} {
		if _, err := envelope.SealEd448(rand.Reader, contract, key, bound); err == nil {
			t.Errorf("%s: sealed for it", name)
		}
	}
}
