package ev

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudflare/circl/dh/x448"
	"github.com/cloudflare/circl/ecc/goldilocks"
	"github.com/cloudflare/circl/sign/ed448"

	"bollard/iso15118/message"
)

// Scalar is a contract's private key on Ed448: what 448 bits hold of one, and enough to
// sign with.
type Scalar struct {
	s      goldilocks.Scalar
	public []byte
}

// Sign signs as RFC 8032 §5.2.6 does, with random bytes where that has the half of the
// seed's hash that isn't the scalar.
func (k *Scalar) Sign(text []byte) ([]byte, error) {
	prefix := make([]byte, 57)
	_, _ = rand.Read(prefix) // never fails (crypto/rand)
	hash := func(parts ...[]byte) *goldilocks.Scalar {
		h := sha3.NewSHAKE256()
		for _, part := range append([][]byte{[]byte("SigEd448\x00\x00")}, parts...) {
			_, _ = h.Write(part) // never fails
		}
		// Up to a multiple of 8 bytes, as the scalar is read.
		sum := make([]byte, 120)
		_, _ = h.Read(sum[:114]) // never fails
		var s goldilocks.Scalar
		s.FromBytes(sum)
		return &s
	}
	r := hash(prefix, text)
	signature := make([]byte, ed448.SignatureSize)
	if err := (goldilocks.Curve{}).ScalarBaseMult(r).ToBytes(signature[:57]); err != nil {
		return nil, err
	}
	s := hash(signature[:57], k.public, text)
	s.Mul(s, &k.s)
	s.Add(s, r)
	copy(signature[57:], s[:])
	return signature, nil
}

// key448 is a certificate's key, nil if it isn't on Ed448.
func key448(cert *x509.Certificate) ed448.PublicKey {
	var info struct {
		Algorithm struct{ ID asn1.ObjectIdentifier }
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info); err != nil || info.Algorithm.ID.String() != "1.3.101.113" || len(info.Key.Bytes) != ed448.PublicKeySize {
		return nil
	}
	return info.Key.Bytes
}

func verify448(by *x509.Certificate, text, signature []byte) bool {
	key := key448(by)
	return key != nil && ed448.Verify(key, text, signature, "")
}

// follow448 follows a chain, leaf first, to a root of the car's.
func (c *Car) follow448(chain []*x509.Certificate) error {
	for i, cert := range chain {
		if now := c.Clock(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return fmt.Errorf("%s isn't valid now", cert.Subject)
		}
		above := c.Roots448
		if i < len(chain)-1 {
			above = chain[i+1 : i+2]
		}
		if !slices.ContainsFunc(above, func(by *x509.Certificate) bool {
			return by.IsCA && (by.MaxPathLen < 0 || by.MaxPathLen >= i) && bytes.Equal(by.RawSubject, cert.RawIssuer) && verify448(by, cert.RawTBSCertificate, cert.Signature)
		}) {
			return fmt.Errorf("%s isn't signed by who should have", cert.Subject)
		}
	}
	return nil
}

// open448 opens an envelope with the X448 half of the car's key.
func (c *Car) open448(a *message.Response, cert *x509.Certificate) (*Scalar, error) {
	if a.Curve != message.X448 || len(a.Key) != 84 || len(a.Public) != 57 || a.Public[0] != 4 {
		return nil, errors.New("the envelope isn't one for a car on Ed448")
	}
	var own, from, z x448.Key
	copy(own[:], sha3.SumSHAKE256(c.Ed448.Seed(), 114)) // which X448 clamps as Ed448 does
	copy(from[:], a.Public[1:])
	if !x448.Shared(&z, &own, &from) {
		return nil, errors.New("the envelope's key is of low order")
	}
	k := sha512.Sum512(slices.Concat([]byte{0, 0, 0, 1}, z[:], []byte("\x01UV")))
	block, err := aes.NewCipher(k[:32])
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	text, err := gcm.Open(nil, a.Key[:12], a.Key[12:], []byte(c.PCID()+strings.ToUpper(fmt.Sprintf("%x", cert.SubjectKeyId))))
	if err != nil {
		return nil, err
	}
	slices.Reverse(text) // big-endian ([V2G20-2501])
	key := &Scalar{public: make([]byte, ed448.PublicKeySize)}
	key.s.FromBytes(text)
	if err := (goldilocks.Curve{}).ScalarBaseMult(&key.s).ToBytes(key.public); err != nil || !bytes.Equal(key.public, key448(cert)) {
		return nil, errors.New("the envelope doesn't hold the contract's key")
	}
	return key, nil
}
