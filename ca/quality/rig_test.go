package quality_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bollard/ca/quality"
)

// prime returns a random prime whose two highest bits are set, so that the
// product of two has full length.
func prime(t testing.TB, bits int) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func nextPrime(n *big.Int) *big.Int {
	p := new(big.Int).Add(n, big.NewInt(1))
	if p.Bit(0) == 0 {
		p.Add(p, big.NewInt(1))
	}
	for !p.ProbablyPrime(1) {
		p.Add(p, big.NewInt(2))
	}
	return p
}

func product(a, b *big.Int) *big.Int { return new(big.Int).Mul(a, b) }

// withFactors multiplies the factors with one further prime to a number of
// exactly so many bits.
func withFactors(t testing.TB, bits int, factors ...*big.Int) *big.Int {
	t.Helper()
	n := big.NewInt(1)
	for _, f := range factors {
		n.Mul(n, f)
	}
	rest := new(big.Int).Lsh(big.NewInt(15), uint(bits-4)) // 15/16 of 2^bits
	n.Mul(n, nextPrime(rest.Div(rest, n)))
	if n.BitLen() != bits {
		t.Fatalf("made %d bits, not %d", n.BitLen(), bits)
	}
	return n
}

func rsaKey(n *big.Int) *rsa.PublicKey { return &rsa.PublicKey{N: n, E: 65537} }

// goodRSA is one sound key for all tests.
var goodRSA = sync.OnceValue(func() *rsa.PublicKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return &key.PublicKey
})

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PublicKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &key.PublicKey
}

// ecPoint makes keys that no parser would.
func ecPoint(curve elliptic.Curve, x, y *big.Int) *ecdsa.PublicKey {
	return &ecdsa.PublicKey{Curve: curve, X: x, Y: y} //nolint:staticcheck // invalid on purpose
}

func coordinates(t testing.TB, key *ecdsa.PublicKey) (x, y *big.Int) {
	t.Helper()
	point, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	half := 1 + (len(point)-1)/2
	return new(big.Int).SetBytes(point[1:half]), new(big.Int).SetBytes(point[half:])
}

func spki(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// modulus reads a published modulus in hex.
func modulus(t testing.TB, name string) *big.Int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name+".modulus"))
	if err != nil {
		t.Fatal(err)
	}
	n, ok := new(big.Int).SetString(strings.TrimSpace(string(raw)), 16)
	if !ok {
		t.Fatalf("%s isn't hex", name)
	}
	return n
}

func publicPEM(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		t.Fatalf("%s holds no PEM", name)
	}
	return block.Bytes
}

// reason returns why a key was refused, "" if it wasn't.
func reason(t testing.TB, err error) quality.Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	var refused *quality.Error
	if !errors.As(err, &refused) {
		t.Fatalf("not a *quality.Error: %v", err)
	}
	return refused.Reason
}

// rocaPrime makes a prime as the faulty generator does: k·M + (65537^a mod M),
// M the product of the first 126 primes (keys of 1984 to 3936 bits).
func rocaPrime(t testing.TB) *big.Int {
	t.Helper()
	m := big.NewInt(1)
	for p, count := int64(2), 0; count < 126; p++ {
		if big.NewInt(p).ProbablyPrime(0) {
			m.Mul(m, big.NewInt(p))
			count++
		}
	}
	a, err := rand.Int(rand.Reader, m)
	if err != nil {
		t.Fatal(err)
	}
	residue := new(big.Int).Exp(big.NewInt(65537), a, m)
	// Start at three quarters of 2^1024, for full length.
	k := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(3), 1022), m)
	for {
		k.Add(k, big.NewInt(1))
		p := new(big.Int).Mul(k, m)
		p.Add(p, residue)
		if p.ProbablyPrime(1) {
			return p
		}
	}
}
