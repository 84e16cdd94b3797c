// Package envelope carries the private key of a contract certificate to the car
// whose provisioning key, or old contract key, it is sealed for.
//
// It promises that only the holder of the receiver's key can open an envelope,
// and that what is opened is the private key of the contract certificate, or
// nothing.
package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Sealed is a private key on its way.
type Sealed struct {
	Public []byte // the sender's ephemeral key: DHpublickey, DHPublicKey
	Key    []byte // the encrypted private key
}

// Lengths of a sealed key.
const (
	iv2   = aes.BlockSize
	size2 = iv2 + 32 // P-256: the scalar in AES-128-CBC without padding
	iv20  = 12
	tag20 = 16
	size5 = iv20 + 66 + tag20 // secp521r1
	size4 = iv20 + 56 + tag20 // X448
)

// Context is what an envelope of ISO 15118-20 is bound to: the car and the
// contract certificate.
type Context struct {
	PCID         string // normal form
	SubjectKeyID []byte // of the contract certificate: 8 bytes
}

// aad is the additional data of the cipher: the PCID, then the key identifier
// in capital hex (16 characters, [V2G20-2494]).
func (c Context) aad() ([]byte, error) {
	switch {
	case c.PCID == "":
		return nil, errors.New("the envelope needs the PCID it is for")
	case len(c.SubjectKeyID) != 8:
		return nil, fmt.Errorf("the contract certificate's key identifier has %d bytes, ISO 15118-20 needs 8", len(c.SubjectKeyID))
	}
	return []byte(c.PCID + strings.ToUpper(hex.EncodeToString(c.SubjectKeyID))), nil
}

// Seal2 seals a P-256 key by ISO 15118-2 ([V2G2-814] to [V2G2-823]): for the
// provisioning key in an installation, for the old contract key in an update.
func Seal2(random io.Reader, contract *ecdsa.PrivateKey, receiver *ecdsa.PublicKey) (Sealed, error) {
	s, err := newSender(random, ecdh.P256(), receiver, iv2)
	if err != nil {
		return Sealed{}, err
	}
	return s.seal2(contract)
}

// Seal20 seals a P-521 key by ISO 15118-20 ([V2G20-2489] to [V2G20-2507]).
func Seal20(random io.Reader, contract *ecdsa.PrivateKey, receiver *ecdsa.PublicKey, c Context) (Sealed, error) {
	s, err := newSender(random, ecdh.P521(), receiver, iv20)
	if err != nil {
		return Sealed{}, err
	}
	return s.seal20(contract, c)
}

// sender is what one envelope uses once.
type sender struct {
	curve     ecdh.Curve
	ephemeral *ecdh.PrivateKey
	receiver  *ecdh.PublicKey
	iv        []byte
}

func newSender(random io.Reader, curve ecdh.Curve, receiver *ecdsa.PublicKey, iv int) (*sender, error) {
	to, err := receiver.ECDH()
	if err != nil {
		return nil, fmt.Errorf("the receiver's key can't agree on a secret: %w", err)
	}
	if to.Curve() != curve {
		return nil, fmt.Errorf("the receiver's key is on %s, the envelope on %s", to.Curve(), curve)
	}
	s := &sender{curve: curve, receiver: to, iv: make([]byte, iv)}
	if _, err := io.ReadFull(random, s.iv); err != nil {
		return nil, err
	}
	s.ephemeral, err = curve.GenerateKey(random)
	return s, err
}

func (s *sender) seal2(contract *ecdsa.PrivateKey) (Sealed, error) {
	scalar, err := scalarOf(contract, s.curve)
	if err != nil {
		return Sealed{}, err
	}
	defer clear(scalar)
	block, err := cipherOf(s.ephemeral, s.receiver)
	if err != nil {
		return Sealed{}, err
	}
	key := make([]byte, size2)
	copy(key, s.iv)
	cipher.NewCBCEncrypter(block, s.iv).CryptBlocks(key[iv2:], scalar)
	return Sealed{s.ephemeral.PublicKey().Bytes(), key}, nil
}

func (s *sender) seal20(contract *ecdsa.PrivateKey, c Context) (Sealed, error) {
	scalar, err := scalarOf(contract, s.curve)
	if err != nil {
		return Sealed{}, err
	}
	defer clear(scalar)
	aead, aad, err := aead20(s.ephemeral, s.receiver, c)
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{s.ephemeral.PublicKey().Bytes(), aead.Seal(s.iv, s.iv, scalar, aad)}, nil
}

// Open2 opens an envelope of ISO 15118-2. The cipher has no tag: that the key is
// the certificate's is all that shows an unharmed envelope ([V2G2-823]).
func Open2(s Sealed, receiver *ecdsa.PrivateKey, contract *ecdsa.PublicKey) (*ecdsa.PrivateKey, error) {
	own, from, err := agree(s, ecdh.P256(), receiver, size2)
	if err != nil {
		return nil, err
	}
	block, err := cipherOf(own, from)
	if err != nil {
		return nil, err
	}
	scalar := make([]byte, size2-iv2)
	defer clear(scalar)
	cipher.NewCBCDecrypter(block, s.Key[:iv2]).CryptBlocks(scalar, s.Key[iv2:])
	return keyOf(scalar, contract)
}

// Open20 opens an envelope of ISO 15118-20 on secp521r1.
func Open20(s Sealed, receiver *ecdsa.PrivateKey, contract *ecdsa.PublicKey, c Context) (*ecdsa.PrivateKey, error) {
	own, from, err := agree(s, ecdh.P521(), receiver, size5)
	if err != nil {
		return nil, err
	}
	aead, aad, err := aead20(own, from, c)
	if err != nil {
		return nil, err
	}
	scalar, err := aead.Open(nil, s.Key[:iv20], s.Key[iv20:], aad)
	if err != nil {
		return nil, errors.New("the envelope was changed, or is another car's or certificate's")
	}
	defer clear(scalar)
	if scalar[0] > 1 { // 521 of 528 bits, [V2G20-2678]
		return nil, errors.New("the envelope's key has more than 521 bits")
	}
	return keyOf(scalar, contract)
}

// agree reads what an envelope's receiver needs: points are uncompressed and on
// the curve, or refused.
func agree(s Sealed, curve ecdh.Curve, receiver *ecdsa.PrivateKey, size int) (*ecdh.PrivateKey, *ecdh.PublicKey, error) {
	if len(s.Key) != size {
		return nil, nil, fmt.Errorf("the envelope has %d bytes, %d are wanted", len(s.Key), size)
	}
	own, err := receiver.ECDH()
	if err != nil {
		return nil, nil, fmt.Errorf("the receiver's key can't agree on a secret: %w", err)
	}
	if own.Curve() != curve {
		return nil, nil, fmt.Errorf("the receiver's key is on %s, the envelope on %s", own.Curve(), curve)
	}
	from, err := curve.NewPublicKey(s.Public)
	if err != nil {
		return nil, nil, fmt.Errorf("the envelope's public key: %w", err)
	}
	return own, from, nil
}

// keyInfo is the concatenation KDF's (SP 800-56A §5.8.1) for one hash: the
// counter 1, the secret at its full width, algorithm 01, the parties U and V.
func keyInfo(z []byte) []byte {
	in := append([]byte{0, 0, 0, 1}, z...)
	return append(in, 0x01, 'U', 'V')
}

func cipherOf(own *ecdh.PrivateKey, other *ecdh.PublicKey) (cipher.Block, error) {
	z, err := own.ECDH(other)
	if err != nil {
		return nil, err
	}
	defer clear(z)
	in := keyInfo(z)
	defer clear(in)
	k := sha256.Sum256(in)
	defer clear(k[:])
	return aes.NewCipher(k[:16])
}

func aead20(own *ecdh.PrivateKey, other *ecdh.PublicKey, c Context) (cipher.AEAD, []byte, error) {
	z, err := own.ECDH(other)
	if err != nil {
		return nil, nil, err
	}
	defer clear(z)
	return aeadOf(z, c)
}

func aeadOf(z []byte, c Context) (cipher.AEAD, []byte, error) {
	aad, err := c.aad()
	if err != nil {
		return nil, nil, err
	}
	in := keyInfo(z)
	defer clear(in)
	k := sha512.Sum512(in)
	defer clear(k[:])
	block, err := aes.NewCipher(k[:32])
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, aad, err
}

// scalarOf is a private key at the full width of its curve.
func scalarOf(key *ecdsa.PrivateKey, curve ecdh.Curve) ([]byte, error) {
	private, err := key.ECDH()
	if err != nil {
		return nil, fmt.Errorf("the contract key can't be sealed: %w", err)
	}
	if private.Curve() != curve {
		return nil, fmt.Errorf("the contract key is on %s, the envelope on %s", private.Curve(), curve)
	}
	return private.Bytes(), nil
}

// keyOf is the private key of a scalar, if it is the certificate's.
func keyOf(scalar []byte, contract *ecdsa.PublicKey) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.ParseRawPrivateKey(contract.Curve, scalar) // 0 < scalar < n
	if err != nil || !key.PublicKey.Equal(contract) {
		return nil, errors.New("the envelope doesn't hold the contract certificate's key")
	}
	return key, nil
}
