package envelope

import (
	"errors"
	"fmt"
	"io"

	"github.com/cloudflare/circl/dh/x448"
)

// SealX448 seals the private half of a contract key of ISO 15118-20's
// alternative curve for a car's X448 key. The key on the wire has a 04 before
// it and no filler ([V2G20-2495]).
func SealX448(random io.Reader, contract, receiver []byte, c Context) (Sealed, error) {
	var private x448.Key
	iv := make([]byte, iv20, size4)
	for _, b := range [][]byte{iv, private[:]} {
		if _, err := io.ReadFull(random, b); err != nil {
			return Sealed{}, err
		}
	}
	defer clear(private[:])
	return sealX448(&private, iv, contract, receiver, c)
}

func sealX448(private *x448.Key, iv, contract, receiver []byte, c Context) (Sealed, error) {
	if len(contract) != x448.Size {
		return Sealed{}, fmt.Errorf("a contract key of %d bytes, %d can be sealed over X448", len(contract), x448.Size)
	}
	secret, err := shareX448(private, receiver)
	if err != nil {
		return Sealed{}, err
	}
	defer clear(secret)
	aead, aad, err := aeadOf(secret, c)
	if err != nil {
		return Sealed{}, err
	}
	var public x448.Key
	x448.KeyGen(&public, private)
	return Sealed{append([]byte{4}, public[:]...), aead.Seal(iv, iv, contract, aad)}, nil
}

// OpenX448 opens an envelope for an X448 key and returns the contract's private
// key; whose it is, the caller checks.
func OpenX448(s Sealed, receiver []byte, c Context) ([]byte, error) {
	var private x448.Key
	switch {
	case len(s.Key) != size4:
		return nil, fmt.Errorf("the envelope has %d bytes, %d are wanted", len(s.Key), size4)
	case len(s.Public) != 1+x448.Size || s.Public[0] != 4:
		return nil, errors.New("the envelope's public key isn't one of X448")
	case len(receiver) != x448.Size:
		return nil, errors.New("the receiver's key isn't one of X448")
	}
	copy(private[:], receiver)
	defer clear(private[:])
	secret, err := shareX448(&private, s.Public[1:])
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	aead, aad, err := aeadOf(secret, c)
	if err != nil {
		return nil, err
	}
	key, err := aead.Open(nil, s.Key[:iv20], s.Key[iv20:], aad)
	if err != nil {
		return nil, errors.New("the envelope was changed, or is another car's or certificate's")
	}
	return key, nil
}

// shareX448 refuses keys of low order, with which everybody shares zero
// (RFC 7748 §6.2).
func shareX448(private *x448.Key, other []byte) ([]byte, error) {
	var public, secret x448.Key
	if len(other) != x448.Size {
		return nil, errors.New("the other key isn't one of X448")
	}
	copy(public[:], other)
	if !x448.Shared(&secret, private, &public) {
		return nil, errors.New("the other key is of low order")
	}
	return secret[:], nil
}
