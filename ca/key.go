package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
)

// ProvenKey is a public key whose private half its holder has shown to have.
// Only ParseCSR and GeneratedKey make one.
type ProvenKey struct{ public crypto.PublicKey }

// Public returns the key, nil for the zero value.
func (k ProvenKey) Public() crypto.PublicKey { return k.public }

// Hash is the lower-case hex SHA-256 of the SubjectPublicKeyInfo, "" for the
// zero value.
func (k ProvenKey) Hash() string {
	hash, err := keyHash(k.public)
	if err != nil {
		return ""
	}
	return hash
}

// GeneratedKey proves a key Bollard made itself by a signature over a nonce.
func GeneratedKey(signer crypto.Signer) (ProvenKey, error) {
	var nonce [32]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return ProvenKey{}, err
	}
	sig, err := signer.Sign(rand.Reader, nonce[:], crypto.SHA256)
	if err != nil {
		return ProvenKey{}, fmt.Errorf("couldn't sign with the new key: %w", err)
	}
	switch public := signer.Public().(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(public, nonce[:], sig) {
			return ProvenKey{}, errors.New("the new key's signature doesn't verify")
		}
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, nonce[:], sig); err != nil {
			return ProvenKey{}, errors.New("the new key's signature doesn't verify")
		}
	}
	if err := checkKey(signer.Public()); err != nil {
		return ProvenKey{}, err
	}
	return ProvenKey{public: signer.Public()}, nil
}

func keyHash(public crypto.PublicKey) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:]), nil
}

// checkKey refuses keys no profile allows and keys known to be broken.
func checkKey(public crypto.PublicKey) error {
	if _, err := classOf(public); err != nil {
		return err
	}
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		// crypto/x509 has checked that the point is on the curve and finite.
		return nil
	}
	if key.E != 65537 {
		return fmt.Errorf("RSA public exponent %d isn't allowed (only 65537)", key.E)
	}
	switch {
	case smallFactor(key.N):
		return errors.New("the RSA modulus has a small prime factor")
	case closePrimes(key.N):
		return errors.New("the RSA modulus can be factored: its primes are too close (CVE-2022-26320)")
	case roca(key.N):
		return errors.New("the RSA key comes from a faulty Infineon generator (ROCA, CVE-2017-15361)")
	}
	return nil
}

// smallPrimes are the primes below 752, as many as FIPS 186-5's trial division
// commonly takes.
var smallPrimes = func() []int64 {
	var primes []int64
	for n := int64(2); n < 752; n++ {
		if big.NewInt(n).ProbablyPrime(0) {
			primes = append(primes, n)
		}
	}
	return primes
}()

func smallFactor(n *big.Int) bool {
	var rest big.Int
	for _, p := range smallPrimes {
		if rest.Mod(n, big.NewInt(p)).Sign() == 0 {
			return true
		}
	}
	return false
}

// closePrimes tries Fermat's factorisation for as many rounds as public CAs do.
func closePrimes(n *big.Int) bool {
	const rounds = 110
	a := new(big.Int).Sqrt(n)
	if new(big.Int).Mul(a, a).Cmp(n) < 0 {
		a.Add(a, big.NewInt(1))
	}
	var square, root big.Int
	one := big.NewInt(1)
	for range rounds {
		square.Mul(a, a).Sub(&square, n)
		root.Sqrt(&square)
		if new(big.Int).Mul(&root, &root).Cmp(&square) == 0 {
			return true
		}
		a.Add(a, one)
	}
	return false
}

// roca tests the fingerprint of Infineon's generator: its primes have the form
// k·M + (65537^a mod M), so the modulus is a power of 65537 modulo every prime
// factor of M (Nemec et al., "The Return of Coppersmith's Attack", §2.2).
func roca(n *big.Int) bool {
	var rest big.Int
	for _, p := range smallPrimes[1:39] { // 3 to 167, the factors of M for 512-bit keys
		residue := rest.Mod(n, big.NewInt(p)).Int64()
		member, power := false, int64(1)
		for range p {
			if power == residue {
				member = true
				break
			}
			power = power * 65537 % p
		}
		if !member {
			return false
		}
	}
	return true
}
