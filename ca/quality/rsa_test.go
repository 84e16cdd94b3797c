package quality_test

import (
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"

	"bollard/ca/quality"
)

// A00.FR.502 and promise 6: sizes, exponents, and moduli anybody can factor.
func TestRSA(t *testing.T) {
	t.Parallel()
	good := goodRSA().N
	p := prime(t, 1024)
	// (p-q)²/8√n rounds: 500 for a distance of 63·2^512, p being near 2^1024.
	far := nextPrime(new(big.Int).Add(p, new(big.Int).Lsh(big.NewInt(50), 512)))
	for _, tt := range []struct {
		name string
		n    *big.Int
		e    int
		want quality.Reason
	}{
		{"good", good, 65537, ""},
		{"primes 2^600 apart", product(p, nextPrime(new(big.Int).Sub(p, new(big.Int).Lsh(big.NewInt(1), 600)))), 65537, ""},
		{"no modulus", nil, 65537, quality.Malformed},
		{"negative modulus", new(big.Int).Neg(good), 65537, quality.Malformed},
		{"1024 bits", product(prime(t, 512), prime(t, 512)), 65537, quality.Size},
		{"2047 bits", product(prime(t, 1024), prime(t, 1023)), 65537, quality.Size},
		{"2049 bits", new(big.Int).SetBit(new(big.Int), 2048, 1), 65537, quality.Size},
		{"4104 bits", new(big.Int).SetBit(new(big.Int), 4103, 1), 65537, quality.Size},
		{"e=1", good, 1, quality.Exponent},
		{"e=3", good, 3, quality.Exponent},
		{"e=65539", good, 65539, quality.Exponent},
		{"e=2^32+1", good, 1<<32 + 1, quality.Exponent},
		{"even", new(big.Int).Lsh(p, 1024), 65537, quality.SmallFactor},
		{"factor 3", withFactors(t, 2048, p, big.NewInt(3)), 65537, quality.SmallFactor},
		{"factor 751", withFactors(t, 2048, p, big.NewInt(751)), 65537, quality.SmallFactor},
		{"factor 65521", withFactors(t, 2048, p, big.NewInt(65521)), 65537, quality.SmallFactor},
		{"neighbouring primes", product(p, nextPrime(p)), 65537, quality.ClosePrimes},
		{"a square", product(p, p), 65537, quality.ClosePrimes},
		{"hundreds of rounds apart", product(p, far), 65537, quality.ClosePrimes},
		{"ROCA, made here", product(rocaPrime(t), rocaPrime(t)), 65537, quality.ROCA},
		{"ROCA, from a chip", modulus(t, "roca"), 65537, quality.ROCA},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := quality.Check(&rsa.PublicKey{N: tt.n, E: tt.e}, quality.Policy{})
			if got := reason(t, err); got != tt.want {
				t.Errorf("got %q (%v), want %q", got, err, tt.want)
			}
		})
	}
}

// The pair "hundreds of rounds apart" is beyond 110 rounds, which is the point.
func TestFermatRounds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		rounds int64
		want   bool
	}{{0, true}, {109, true}, {110, true}, {999, true}, {1000, false}} {
		// n = a² - b² with ⌈√n⌉ = a - rounds: b² just above 2a·rounds.
		a := new(big.Int).SetBit(prime(t, 512), 0, 0)
		b := new(big.Int).Sqrt(new(big.Int).Mul(a, big.NewInt(2*tt.rounds)))
		b.SetBit(b.Add(b, big.NewInt(2)), 0, 1)
		n := new(big.Int).Sub(product(a, a), product(b, b))
		root := new(big.Int).Sqrt(n)
		if took := new(big.Int).Sub(a, root).Int64() - 1; took != tt.rounds {
			t.Fatalf("built for round %d, not %d", took, tt.rounds)
		}
		if got := quality.HasClosePrimes(n); got != tt.want {
			t.Errorf("found in round %d: %v, want %v", tt.rounds, got, tt.want)
		}
	}
}

func TestMaybeSquare(t *testing.T) {
	t.Parallel()
	passed := 0
	for i := range int64(5000) {
		n := product(prime(t, 20), big.NewInt(i))
		if !quality.MaybeSquare(product(n, n)) {
			t.Fatalf("%d² is a square", n)
		}
		n.Lsh(n.Add(n, big.NewInt(1)), 80).Add(n, big.NewInt(i))
		if quality.MaybeSquare(n) {
			passed++
		}
	}
	if passed > 500 {
		t.Errorf("%d of 5000 numbers pass as squares: the filter doesn't filter", passed)
	}
}

// Every prime below 2^16, and none above, counts as small.
func TestSmallFactorLimit(t *testing.T) {
	t.Parallel()
	cofactor := product(prime(t, 1024), prime(t, 1024))
	for p := int64(2); p < 1<<16+20; p++ {
		if p > 300 && p < 1<<16-300 && p%97 != 0 || !big.NewInt(p).ProbablyPrime(0) {
			continue
		}
		if got, want := quality.HasSmallFactor(product(big.NewInt(p), cofactor)), p < 1<<16; got != want {
			t.Errorf("factor %d: %v, want %v", p, got, want)
		}
	}
}

// A modulus in every group, but with logarithms that contradict each other,
// isn't Infineon's: the discrete logarithm doesn't exist.
func TestROCANeedsTheLogarithm(t *testing.T) {
	t.Parallel()
	n, m := big.NewInt(0), big.NewInt(1)
	for p := int64(3); p <= 167; p += 2 {
		prime := big.NewInt(p)
		if !prime.ProbablyPrime(0) {
			continue
		}
		exponent := int64(1)
		if p > 83 {
			exponent = 2
		}
		// n + m·t ≡ 65537^exponent modulo p.
		want := new(big.Int).Exp(big.NewInt(65537), big.NewInt(exponent), prime)
		step := new(big.Int).ModInverse(m, prime)
		step.Mul(step, want.Sub(want, n)).Mod(step, prime)
		n.Add(n, step.Mul(step, m))
		m.Mul(m, prime)
	}
	if quality.HasROCA(n) {
		t.Error("contradicting logarithms pass as a fingerprint")
	}
	if one := new(big.Int).Exp(big.NewInt(65537), big.NewInt(12345), m); !quality.HasROCA(one.Add(one, m)) {
		t.Error("a power of 65537 has no fingerprint")
	}
}

// Sound keys of each size pass; a false alarm would keep a station out.
func TestSoundKeys(t *testing.T) {
	t.Parallel()
	p, q := prime(t, 1024), prime(t, 1024)
	for bits, n := range map[int]*big.Int{
		2048: product(p, q),
		2056: product(p, prime(t, 1032)),
		3072: withFactors(t, 3072, p, q),
		4096: withFactors(t, 4096, p, q, prime(t, 1024)),
	} {
		if n.BitLen() != bits {
			t.Fatalf("made %d bits, want %d", n.BitLen(), bits)
		}
		if err := quality.Check(rsaKey(n), quality.Policy{}); err != nil {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
	for range 3000 {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 2048))
		if err != nil {
			t.Fatal(err)
		}
		if quality.HasROCA(n) || quality.HasClosePrimes(n.SetBit(n, 0, 1)) {
			t.Fatalf("a random number is refused: %x", n)
		}
	}
}

func BenchmarkRSA2048(b *testing.B) {
	key := goodRSA()
	for b.Loop() {
		if err := quality.Check(key, quality.Policy{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRSA4096(b *testing.B) {
	key := rsaKey(withFactors(b, 4096, prime(b, 1024), prime(b, 1024), prime(b, 1024)))
	for b.Loop() {
		if err := quality.Check(key, quality.Policy{}); err != nil {
			b.Fatal(err)
		}
	}
}
