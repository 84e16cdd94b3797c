package quality

import (
	"crypto/rsa"
	"math/big"
	"math/bits"
	"sync"
)

// The smallest and largest modulus, in bits. A00.FR.502 has the lower bound;
// above the upper one stations take minutes for a handshake.
const (
	minModulus = 2048
	maxModulus = 4096
)

// factorLimit bounds the primes of trial division.
const factorLimit = 1 << 16

// fermatRounds is the number of candidates Fermat's method is given. Public
// CAs give it 110 or so; with the filters below a thousand cost little.
const fermatRounds = 1000

func checkRSA(key *rsa.PublicKey) error {
	if key.N == nil || key.N.Sign() <= 0 {
		return refuse(Malformed, "the RSA key has no modulus")
	}
	switch size := key.N.BitLen(); {
	case size < minModulus:
		return refuse(Size, "RSA key of %d bits is too short (at least %d, A00.FR.502)", size, minModulus)
	case size > maxModulus:
		return refuse(Size, "RSA key of %d bits is too long (at most %d)", size, maxModulus)
	case size%8 != 0:
		return refuse(Size, "RSA key of %d bits isn't allowed (a multiple of 8)", size)
	}
	switch {
	case key.E != 65537:
		return refuse(Exponent, "RSA public exponent %d isn't allowed (only 65537)", key.E)
	case hasSmallFactor(key.N):
		return refuse(SmallFactor, "the RSA modulus has a small prime factor")
	case hasClosePrimes(key.N):
		return refuse(ClosePrimes, "the RSA modulus can be factored: its primes are too close (CVE-2022-26320)")
	case hasROCA(key.N):
		return refuse(ROCA, "the RSA key comes from a faulty Infineon generator (ROCA, CVE-2017-15361)")
	}
	return nil
}

// primesBelow sieves.
func primesBelow(limit int) []int {
	composite := make([]bool, limit)
	var primes []int
	for n := 2; n < limit; n++ {
		if composite[n] {
			continue
		}
		primes = append(primes, n)
		for m := n * n; m < limit; m += n {
			composite[m] = true
		}
	}
	return primes
}

// primorial is the product of all primes below factorLimit, some 94 000 bits.
var primorial = sync.OnceValue(func() *big.Int {
	var factors []*big.Int
	for _, p := range primesBelow(factorLimit) {
		factors = append(factors, big.NewInt(int64(p)))
	}
	for len(factors) > 1 {
		var pairs []*big.Int
		for i := 0; i+1 < len(factors); i += 2 {
			pairs = append(pairs, new(big.Int).Mul(factors[i], factors[i+1]))
		}
		if len(factors)%2 == 1 {
			pairs = append(pairs, factors[len(factors)-1])
		}
		factors = pairs
	}
	return factors[0]
})

// hasSmallFactor divides by all small primes at once: gcd(n, ∏p mod n).
func hasSmallFactor(n *big.Int) bool {
	rest := new(big.Int).Mod(primorial(), n)
	return rest.GCD(nil, nil, rest, n).Cmp(big.NewInt(1)) != 0
}

// hasClosePrimes is Fermat's method: an odd n = pq is a² - b² with a = (p+q)/2,
// and a lies just above √n if p and q are close.
func hasClosePrimes(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	if new(big.Int).Mul(a, a).Cmp(n) < 0 {
		a.Add(a, big.NewInt(1))
	}
	b2 := new(big.Int).Mul(a, a)
	b2.Sub(b2, n)
	// (a+1)² - n = b² + (2a + 1), and that step itself grows by 2.
	step := new(big.Int).Lsh(a, 1)
	step.Add(step, big.NewInt(1))
	two, root, square := big.NewInt(2), new(big.Int), new(big.Int)
	for range fermatRounds {
		if maybeSquare(b2) {
			root.Sqrt(b2)
			if square.Mul(root, root).Cmp(b2) == 0 {
				return true
			}
		}
		b2.Add(b2, step)
		step.Add(step, two)
	}
	return false
}

// residueModuli filter squares: a square is one modulo each of them, which
// only one number in some 800 is by chance.
var residueModuli = [...]uint{64, 63, 65, 11, 17, 19}

const residueProduct = 63 * 65 * 11 * 17 * 19 // fits 32 bits; 64 is taken from the low word

var squareResidues = sync.OnceValue(func() [len(residueModuli)][]bool {
	var table [len(residueModuli)][]bool
	for i, m := range residueModuli {
		table[i] = make([]bool, m)
		for x := range m {
			table[i][x*x%m] = true
		}
	}
	return table
})

// maybeSquare is false only for numbers that are no squares.
func maybeSquare(n *big.Int) bool {
	words := n.Bits()
	if len(words) == 0 {
		return true
	}
	table := squareResidues()
	if !table[0][uint(words[0])%64] {
		return false
	}
	var rest uint
	for i := len(words) - 1; i >= 0; i-- {
		_, rest = bits.Div(rest, uint(words[i]), residueProduct)
	}
	for i, m := range residueModuli[1:] {
		if !table[i+1][rest%m] {
			return false
		}
	}
	return true
}
