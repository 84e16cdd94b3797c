package quality

import (
	"io"
	"maps"
	"math/big"
)

func HasROCA(n *big.Int) bool        { return hasROCA(n) }
func HasSmallFactor(n *big.Int) bool { return hasSmallFactor(n) }
func HasClosePrimes(n *big.Int) bool { return hasClosePrimes(n) }
func MaybeSquare(n *big.Int) bool    { return maybeSquare(n) }

// PublishedKeys is a copy of the built-in list.
func PublishedKeys() map[string]string { return maps.Clone(published) }

// ReadLines gives every line a list would take.
func ReadLines(r io.Reader, add func(string) error) error { return readLines(r, add) }
