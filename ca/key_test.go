package ca

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"testing"

	"bollard/ca/quality"
)

// Promise 6: moduli anybody can factor are refused. Package quality has the
// tests of each weakness; this one is for the wire between.
func TestWeakRSAKeys(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkKey(key.Public(), quality.Policy{}); err != nil {
		t.Errorf("a good key: %v", err)
	}
	square := new(big.Int).Mul(key.Primes[0], key.Primes[0])
	for _, tt := range []struct {
		name string
		key  rsa.PublicKey
		want quality.Reason
	}{
		{"close primes", rsa.PublicKey{N: square, E: 65537}, quality.ClosePrimes},
		{"small factor", rsa.PublicKey{N: new(big.Int).Lsh(key.Primes[0], 1024), E: 65537}, quality.SmallFactor},
		{"exponent", rsa.PublicKey{N: key.N, E: 3}, quality.Exponent},
	} {
		var refused *quality.Error
		if err := checkKey(&tt.key, quality.Policy{}); !errors.As(err, &refused) || refused.Reason != tt.want {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}
