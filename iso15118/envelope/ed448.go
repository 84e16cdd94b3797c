package envelope

import (
	"crypto/sha3"
	"errors"
	"io"
	"math/big"
	"slices"

	"github.com/cloudflare/circl/dh/x448"
	"github.com/cloudflare/circl/sign/ed448"
)

// SealEd448 seals a contract key on Ed448 for a car whose key is on Ed448. What agrees
// on the secret are the X448 keys of the same scalars: the public parameters are
// derived from those of EdDSA ([V2G20-2491]).
//
// In the 448 bits of the private key ([V2G20-2500]) there is no room for RFC 8032's seed
// of 57 bytes: they are its scalar (§5.2.5), big-endian ([V2G20-2501]). That is inferred.
func SealEd448(random io.Reader, contract ed448.PrivateKey, receiver ed448.PublicKey, c Context) (Sealed, error) {
	to, err := montgomery(receiver)
	if err != nil {
		return Sealed{}, err
	}
	scalar := scalarOf448(contract)
	defer clear(scalar)
	slices.Reverse(scalar)
	return SealX448(random, scalar, to, c)
}

// scalarOf448 is the private scalar of an Ed448 key (RFC 8032 §5.2.5), little-endian:
// the private key of X448, too. Its 57th octet is zero.
func scalarOf448(key ed448.PrivateKey) []byte {
	seed := key.Seed()
	defer clear(seed)
	hash := sha3.SumSHAKE256(seed, 2*ed448.SeedSize)
	defer clear(hash)
	scalar := slices.Clone(hash[:x448.Size])
	scalar[0] &= 0xfc
	scalar[x448.Size-1] |= 0x80
	return scalar
}

// montgomery is the X448 public key of an Ed448 one: u = y²/x² (RFC 7748 §4.2).
func montgomery(key ed448.PublicKey) ([]byte, error) {
	if len(key) != ed448.PublicKeySize {
		return nil, errors.New("the receiver's key isn't one of Ed448")
	}
	one := big.NewInt(1)
	p := new(big.Int).Lsh(one, 448) // 2^448 - 2^224 - 1
	p.Sub(p, new(big.Int).Lsh(one, 224)).Sub(p, one)
	little := slices.Clone(key[:x448.Size])
	slices.Reverse(little)
	y := new(big.Int).SetBytes(little)
	if y.Cmp(p) >= 0 {
		return nil, errors.New("the receiver's key isn't a point of Ed448")
	}
	// x² + y² = 1 + dx²y² with d = -39081, so that u = y²(1 - dy²)/(1 - y²).
	square := new(big.Int).Mul(y, y)
	below := new(big.Int).Sub(one, square)
	if below.Mod(below, p).Sign() == 0 {
		return nil, errors.New("the receiver's key is of low order")
	}
	u := new(big.Int).Mul(square, big.NewInt(39081))
	u.Add(u, one).Mul(u, square).Mul(u, below.ModInverse(below, p)).Mod(u, p)
	out := u.FillBytes(make([]byte, x448.Size))
	slices.Reverse(out)
	return out, nil
}

// Bare448 tells whether the scalar of an Ed448 key, in either order, is in what should
// be sealed.
func Bare448(text []byte, of ed448.PublicKey) bool {
	want, err := montgomery(of)
	if err != nil {
		return false
	}
	for i := 0; i+x448.Size <= len(text); i++ {
		window := slices.Clone(text[i : i+x448.Size])
		for range 2 {
			var private, public x448.Key
			copy(private[:], window)
			if x448.KeyGen(&public, &private); slices.Equal(public[:], want) {
				return true
			}
			slices.Reverse(window)
		}
	}
	return false
}
