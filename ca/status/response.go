package status

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/cloudflare/circl/sign/ed448"
	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"bollard/ca"
	"bollard/internal/curve448"
)

// Responses without a body (RFC 6960 §4.2.1): the whole message each.
var (
	malformed    = []byte{0x30, 0x03, 0x0a, 0x01, 1}
	tryLater     = []byte{0x30, 0x03, 0x0a, 0x01, 3}
	unauthorized = []byte{0x30, 0x03, 0x0a, 0x01, 6}
)

// certStatus of a certificate.
type certStatus int

const (
	good certStatus = iota
	revoked
	unknown
)

// single is a SingleResponse (RFC 6960 §4.2.1).
type single struct {
	algorithm  int
	name, key  []byte // hashes of the issuer
	serial     *big.Int
	status     certStatus
	revokedAt  time.Time
	reason     int
	thisUpdate time.Time
	nextUpdate time.Time
}

// signResponses makes the three parts of a BasicOCSPResponse that its signature
// covers or is: data, algorithm, signature. The certificate is added on the way
// out, so that thousands of responses share one.
func signResponses(signer *ca.OCSPSigner, produced time.Time, responses []single, nonce []byte) ([]byte, error) {
	data, err := encodeData(signer.Certificate.PublicKey, signer.Certificate.RawSubjectPublicKeyInfo, produced, responses, nonce)
	if err != nil {
		return nil, err
	}
	_, on448 := signer.Certificate.PublicKey.(ed448.PublicKey)
	message, hash := data, crypto.Hash(0)
	if !on448 {
		digest := crypto.SHA256.New()
		digest.Write(data)
		message, hash = digest.Sum(nil), crypto.SHA256
	}
	signature, err := signer.Key.Sign(rand.Reader, message, hash)
	if err != nil {
		return nil, fmt.Errorf("couldn't sign an OCSP response: %w", err)
	}
	var b cryptobyte.Builder
	b.AddBytes(data)
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		if on448 {
			b.AddASN1ObjectIdentifier(curve448.OID)
			return
		}
		if _, ok := signer.Certificate.PublicKey.(*rsa.PublicKey); ok {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}) // sha256WithRSAEncryption
			b.AddASN1NULL()
			return
		}
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}) // ecdsa-with-SHA256
	})
	b.AddASN1BitString(signature)
	return b.Bytes()
}

func encodeData(public crypto.PublicKey, spki []byte, produced time.Time, responses []single, nonce []byte) ([]byte, error) {
	switch public.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey, ed448.PublicKey:
	default:
		return nil, fmt.Errorf("internal error: OCSP signer with a key of type %T", public)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return nil, fmt.Errorf("internal error: OCSP signer's key: %w", err)
	}
	// RFC 6960 §4.2.1: KeyHash is SHA-1 by definition; it only names the key.
	keyHash := sha1.Sum(info.Key.Bytes)
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(keyHash[:]) })
		b.AddASN1GeneralizedTime(produced.UTC())
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, r := range responses {
				r.add(b)
			}
		})
		if nonce == nil {
			return
		}
		b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidNonce)
					b.AddASN1(tags.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
				})
			})
		})
	})
	return b.Bytes()
}

func (r single) add(b *cryptobyte.Builder) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(tags.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(hashAlgorithms[r.algorithm].oid)) })
				b.AddASN1NULL()
			})
			b.AddASN1OctetString(r.name)
			b.AddASN1OctetString(r.key)
			b.AddASN1BigInt(r.serial)
		})
		switch r.status {
		case good:
			b.AddASN1(tags.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
		case revoked:
			b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
				b.AddASN1GeneralizedTime(r.revokedAt.UTC())
				if r.reason != 0 { // RFC 5280 §5.3.1: left out instead of unspecified
					b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(r.reason)) })
				}
			})
		case unknown:
			b.AddASN1(tags.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
		}
		b.AddASN1GeneralizedTime(r.thisUpdate.UTC())
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(r.nextUpdate.UTC()) })
	})
}

// assemble makes the OCSPResponse from what was signed and the signer's
// certificate, nil for a CA that answers itself: who asks has it, and verifiers take
// one that comes along for a delegated signer's (golang.org/x/crypto/ocsp). It is made for
// each request, since memory is dearer, so it is put together from the outside in, at the end
// of b, and copied once.
func assemble(b, signed, certificate []byte) []byte {
	const (
		sequence   = 0x30
		octets     = 0x04
		explicit0  = 0xa0
		successful = "\x0a\x01\x00"                                 // responseStatus
		basic      = "\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x01" // id-pkix-ocsp-basic
	)
	certs := 0
	if certificate != nil {
		certs = sized(sized(len(certificate)))
	}
	response := sized(len(signed) + certs) // BasicOCSPResponse
	bytes := sized(len(basic) + sized(response))
	all := len(successful) + sized(bytes)
	b = slices.Grow(b, sized(all))
	b = append(begin(b, sequence, all), successful...)
	b = begin(begin(b, explicit0, bytes), sequence, len(basic)+sized(response))
	b = begin(append(b, basic...), octets, response)
	b = append(begin(b, sequence, len(signed)+certs), signed...)
	if certificate != nil {
		b = begin(b, explicit0, sized(len(certificate)))
		b = append(begin(b, sequence, len(certificate)), certificate...)
	}
	return b
}

// sized is how long a DER element of so much content is; begin begins one. What is
// assembled here is shorter than 64 KiB.
func sized(content int) int {
	switch {
	case content < 1<<7:
		return 2 + content
	case content < 1<<8:
		return 3 + content
	}
	return 4 + content
}

func begin(b []byte, tag byte, content int) []byte {
	switch {
	case content < 1<<7:
		return append(b, tag, byte(content))
	case content < 1<<8:
		return append(b, tag, 0x81, byte(content))
	}
	return append(b, tag, 0x82, byte(content>>8), byte(content))
}
