//go:build race

package exi_test

// raceFactor is how much slower the race detector makes decoding.
const raceFactor = 20
