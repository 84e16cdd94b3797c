package envelope

import (
	"crypto/ecdh"
	"crypto/ecdsa"

	"github.com/cloudflare/circl/dh/x448"
)

// SealWith2 seals with an ephemeral key and IV that are given.
func SealWith2(ephemeral *ecdh.PrivateKey, iv []byte, contract *ecdsa.PrivateKey, receiver *ecdh.PublicKey) (Sealed, error) {
	return (&sender{ecdh.P256(), ephemeral, receiver, iv}).seal2(contract)
}

// SealWith20 seals with an ephemeral key and IV that are given.
func SealWith20(ephemeral *ecdh.PrivateKey, iv []byte, contract *ecdsa.PrivateKey, receiver *ecdh.PublicKey, c Context) (Sealed, error) {
	return (&sender{ecdh.P521(), ephemeral, receiver, iv}).seal20(contract, c)
}

// SealWithX448 seals with an ephemeral key and IV that are given.
func SealWithX448(ephemeral, iv, contract, receiver []byte, c Context) (Sealed, error) {
	var private x448.Key
	copy(private[:], ephemeral)
	return sealX448(&private, iv, contract, receiver, c)
}

// ScalarOf448 and Montgomery are the two halves of an Ed448 key as X448's.
var (
	ScalarOf448 = scalarOf448
	Montgomery  = montgomery
)
