package ca

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/cloudflare/circl/sign/ed448"
	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"bollard/internal/curve448"
	"bollard/internal/der"
)

// outline is a signer that only listens: crypto/x509 works out what is to be
// signed and gets no signature for it.
type outline struct {
	public crypto.PublicKey
	tbs    []byte
}

var errOutlined = errors.New("nothing is signed with an outline")

// Public is the key of the CA whose algorithm the certificate names.
func (o *outline) Public() crypto.PublicKey { return o.public }

// Sign makes it a crypto.Signer.
func (o *outline) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errOutlined
}

// SignMessage makes it a crypto.MessageSigner, which is shown the message.
func (o *outline) SignMessage(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	o.tbs = bytes.Clone(message)
	return nil, errOutlined
}

// outline returns the to-be-signed bytes of a certificate.
func (by *issuer) outline(template *x509.Certificate, key crypto.PublicKey) ([]byte, error) {
	parent := *template
	if by.cert != nil {
		parent = *by.cert
	}
	// crypto/x509 insists that parent and signer agree, unless it doesn't know.
	parent.PublicKey = nil
	listener := &outline{public: by.signer.Public()}
	with := map[int][]byte{} // of TBSCertificate (RFC 5280 §4.1): 2 is signature, 6 subjectPublicKeyInfo
	if by.isEd448() {
		listener.public, with[2] = standIn, curve448.Algorithm()
	}
	if _, ok := key.(ed448.PublicKey); ok {
		spki, err := curve448.MarshalPublicKey(key)
		if err != nil {
			return nil, err
		}
		key, with[6] = standIn, spki
	}
	_, err := x509.CreateCertificate(rand.Reader, template, &parent, key, listener)
	if listener.tbs == nil {
		return nil, err
	}
	return curve448.Replace(listener.tbs, with)
}

// standIn is the key crypto/x509 is shown in place of one on Ed448, whose place in what
// it makes is then another's.
var standIn = ed25519.PublicKey(make([]byte, ed25519.PublicKeySize))

// isEd448 tells whether a CA's key is on that curve.
func (by *issuer) isEd448() bool {
	_, ok := by.signer.Public().(ed448.PublicKey)
	return ok
}

// sign signs to-be-signed bytes with the CA's key.
func (by *issuer) sign(tbs []byte) ([]byte, error) {
	if by.isEd448() {
		return by.signer.Sign(rand.Reader, tbs, crypto.Hash(0))
	}
	hash, ok := signatureHashes[by.algorithm]
	if !ok {
		return nil, fmt.Errorf("internal error: %s isn't a signature algorithm of ours", by.algorithm)
	}
	return crypto.SignMessage(by.signer, rand.Reader, tbs, hash)
}

// signatureHashes are those of the algorithms signatureAlgorithm picks from.
var signatureHashes = map[x509.SignatureAlgorithm]crypto.Hash{
	x509.ECDSAWithSHA256: crypto.SHA256, x509.ECDSAWithSHA384: crypto.SHA384, x509.ECDSAWithSHA512: crypto.SHA512,
	x509.SHA256WithRSA: crypto.SHA256,
}

// placeholder is what a draft has for a signature.
func placeholder() []byte { return make([]byte, 64) }

// withSignature is the certificate of to-be-signed bytes (RFC 5280 §4.1). Its
// outer algorithm is the inner one, as §4.1.1.2 demands.
func withSignature(tbs, signature []byte) ([]byte, error) {
	input := cryptobyte.String(tbs)
	var inner, algorithm cryptobyte.String
	if !input.ReadASN1(&inner, tags.SEQUENCE) ||
		!inner.SkipOptionalASN1(tags.Tag(0).ContextSpecific().Constructed()) || // version
		!inner.SkipASN1(tags.INTEGER) ||
		!inner.ReadASN1Element(&algorithm, tags.SEQUENCE) {
		return nil, errors.New("internal error: to-be-signed bytes can't be read")
	}
	return joined(tbs, algorithm, signature), nil
}

// signed makes a draft the certificate with its signature, as reading der would give it:
// all but this is in the to-be-signed bytes, which are the same.
func signed(draft *x509.Certificate, der, signature []byte) (*x509.Certificate, error) {
	input := cryptobyte.String(der)
	var all, tbs cryptobyte.String
	if !input.ReadASN1(&all, tags.SEQUENCE) || !all.ReadASN1Element(&tbs, tags.SEQUENCE) || !bytes.Equal(tbs, draft.RawTBSCertificate) {
		return nil, errors.New("internal error: it isn't what was prepared")
	}
	draft.Raw, draft.RawTBSCertificate, draft.Signature = der, tbs, signature
	return draft, nil
}

// joined is what is signed, how, and the signature.
func joined(tbs, algorithm, signature []byte) []byte {
	const unused = 0 // bits at the end of a BIT STRING
	n := len(tbs) + len(algorithm) + der.Size(1+len(signature))
	b := der.AppendHead(make([]byte, 0, der.Size(n)), tags.SEQUENCE, n)
	b = append(append(b, tbs...), algorithm...)
	return der.Append(b, tags.BIT_STRING, []byte{unused}, signature)
}
