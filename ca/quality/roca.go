package quality

import (
	"math/big"
	"sync"
)

// rocaPrimes are the odd primes up to 167. The faulty generator's M is the
// product of the first 39 to 225 primes, by key size, so it holds these always.
const rocaPrimes = 167

// rocaGenerator generates the group that all its primes lie in.
const rocaGenerator = 65537

// subgroup is the group that rocaGenerator generates modulo one prime.
type subgroup struct {
	prime int
	order int
	log   []int // by residue; -1 outside the group
}

var rocaGroups = sync.OnceValue(func() []subgroup {
	var groups []subgroup
	for _, p := range primesBelow(rocaPrimes + 1)[1:] {
		g := subgroup{prime: p, log: make([]int, p)}
		for i := range g.log {
			g.log[i] = -1
		}
		for power := 1; g.log[power] < 0; power = power * rocaGenerator % p {
			g.log[power] = g.order
			g.order++
		}
		groups = append(groups, g)
	}
	return groups
})

// hasROCA tells whether a modulus looks like Infineon's: both primes have the
// form k·M + (65537^x mod M), hence n ≡ 65537^(x+y) modulo M, and the discrete
// logarithm of n to the base 65537 exists (Nemec, Sys, Svenda, Klinec, Matyas,
// "The Return of Coppersmith's Attack", CCS 2017, §2). It exists modulo M if it
// does modulo each prime of M and the exponents found agree, pair by pair,
// modulo the greatest common divisor of the groups' orders (Chinese remainder
// theorem). A random modulus passes the first part once in some 2^27 and both
// practically never.
func hasROCA(n *big.Int) bool {
	groups := rocaGroups()
	exponents := make([]int, len(groups))
	var rest, prime big.Int
	for i, g := range groups {
		residue := rest.Mod(n, prime.SetInt64(int64(g.prime))).Int64()
		exponents[i] = g.log[residue]
		if exponents[i] < 0 {
			return false
		}
	}
	for i, g := range groups {
		for j, h := range groups[:i] {
			if (exponents[i]-exponents[j])%gcd(g.order, h.order) != 0 {
				return false
			}
		}
	}
	return true
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
