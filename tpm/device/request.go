package device

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"bollard/tpm/attest"
)

var (
	oidEvidence = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 59} // id-aa-evidence (draft-ietf-lamps-csr-attestation-20)
	oidECDSA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}          // ecdsa-with-SHA256
)

// Request is a request for a certificate of this key (PKCS#10, DER) with evidence that
// its TPM made it; certificates has the attestation key's.
func (k *Key) Request(subject pkix.Name, certificates ...*x509.Certificate) ([]byte, error) {
	nonce, err := attest.RequestNonce(k.public)
	if err != nil {
		return nil, err
	}
	said, err := k.Certify(nonce)
	if err != nil {
		return nil, err
	}
	return Request(k, subject, attest.Evidence{Certified: said, Certificates: certificates})
}

// Request is a request for a certificate of any key on P-256, with any evidence.
func Request(key crypto.Signer, subject pkix.Name, evidence attest.Evidence) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("couldn't encode the key: %w", err)
	}
	name, err := asn1.Marshal(subject.ToRDNSequence())
	if err != nil {
		return nil, fmt.Errorf("couldn't encode the subject: %w", err)
	}
	bundle, err := evidence.Bundle()
	if err != nil {
		return nil, fmt.Errorf("couldn't encode the evidence: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { // CertificationRequestInfo (RFC 2986 §4.1)
		b.AddASN1Int64(0)
		b.AddBytes(name)
		b.AddBytes(spki)
		b.AddASN1(tags.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidEvidence)
				b.AddASN1(tags.SET, func(b *cryptobyte.Builder) { b.AddBytes(bundle) })
			})
		})
	})
	info, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("couldn't put together the request: %w", err)
	}
	signature, err := crypto.SignMessage(key, rand.Reader, info, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var out cryptobyte.Builder
	out.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(info)
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidECDSA256) })
		b.AddASN1BitString(signature)
	})
	return out.Bytes()
}
