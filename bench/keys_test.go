package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
)

// What doesn't verify isn't counted.
func TestSignRateVerifies(t *testing.T) {
	t.Parallel()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if rate, err := signRate(1, plainECDSA, &other.PublicKey); err == nil {
		t.Errorf("%f signatures a second by another key", rate)
	}
}
