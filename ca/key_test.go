package ca

import (
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"
)

// Promise 6: moduli anybody can factor are refused.
func TestWeakRSAKeys(t *testing.T) {
	t.Parallel()
	prime := func(bits int) *big.Int {
		p, err := rand.Prime(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := prime(1024)
	next := new(big.Int).Add(p, big.NewInt(2))
	for !next.ProbablyPrime(20) {
		next.Add(next, big.NewInt(2))
	}
	// 65537^a·65537^b modulo every prime of M: what the faulty generator makes.
	m := big.NewInt(1)
	for _, q := range smallPrimes[1:39] {
		m.Mul(m, big.NewInt(q))
	}
	residue := new(big.Int).Exp(big.NewInt(65537), big.NewInt(4711), m)
	infineon := new(big.Int).Lsh(m, uint(2047-m.BitLen()))
	infineon.Add(infineon, residue)
	if infineon.Bit(0) == 0 {
		infineon.Add(infineon, m)
	}
	for infineon.BitLen() < 2048 || smallFactor(infineon) {
		infineon.Add(infineon, new(big.Int).Lsh(m, uint(2047-m.BitLen())))
	}
	for name, tt := range map[string]struct {
		n    *big.Int
		e    int
		want string
	}{
		"small factor": {new(big.Int).Mul(big.NewInt(751), prime(2040)), 65537, "small prime factor"},
		"close primes": {new(big.Int).Mul(p, next), 65537, "too close"},
		"ROCA":         {infineon, 65537, "ROCA"},
		"exponent":     {new(big.Int).Mul(prime(1024), prime(1024)), 3, "exponent 3"},
	} {
		if err := checkKey(&rsa.PublicKey{N: tt.n, E: tt.e}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s (%d bits): got %v, want %q", name, tt.n.BitLen(), err, tt.want)
		}
	}
	for range 5 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkKey(key.Public()); err != nil {
			t.Errorf("a good key: %v", err)
		}
	}
}
