package attest

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// oidCertify is tcg-attest-tpm-certify, the form of evidence that TPM2_Certify's is in
// (draft-ietf-lamps-csr-attestation-20, appendix A.2: the last revision that has it).
var oidCertify = asn1.ObjectIdentifier{2, 23, 133, 20, 1}

// maxCertificates come with evidence: the attestation key's and what is above it.
const maxCertificates = 4

// Evidence is what is shown of a key: a TPM's statement about it, and certificates, in
// any order, of which one is the attestation key's that signed it.
type Evidence struct {
	Certified
	Certificates []*x509.Certificate
}

// RequestNonce is what evidence in a request for a certificate answers: the digest of
// the key itself. Such evidence may be shown as often as one likes: it says the same of
// the same key each time, and the request is signed with that key.
func RequestNonce(key crypto.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	sum := sha256.Sum256(spki)
	return sum[:], nil
}

// AttestationKey is the certificate of the attestation key: the one for that purpose, or
// else the first, which isn't for it.
func (e Evidence) AttestationKey() (*x509.Certificate, error) {
	if len(e.Certificates) == 0 {
		return nil, fmt.Errorf("%w: the evidence comes without one", ErrCertificate)
	}
	i := slices.IndexFunc(e.Certificates, func(c *x509.Certificate) bool { return slices.ContainsFunc(c.UnknownExtKeyUsage, oidAttestation.Equal) })
	return e.Certificates[max(i, 0)], nil
}

// ParseEvidence reads an EvidenceBundle (draft-ietf-lamps-csr-attestation-20 §5) with
// one statement, of TPM2_Certify.
func ParseEvidence(bundle []byte) (Evidence, error) {
	malformed := func(what string) (Evidence, error) {
		return Evidence{}, fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	in := cryptobyte.String(bundle)
	var all, statements, statement, stmt, certificates cryptobyte.String
	var kind asn1.ObjectIdentifier
	var said, signature, public []byte
	listed := false
	switch {
	case len(bundle) > 2*maxStructure:
		return malformed(fmt.Sprintf("evidence of %d bytes", len(bundle)))
	case !in.ReadASN1(&all, tags.SEQUENCE) || !in.Empty() || !all.ReadASN1(&statements, tags.SEQUENCE) ||
		!all.ReadOptionalASN1(&certificates, &listed, tags.SEQUENCE) || !all.Empty():
		return malformed("the evidence isn't an EvidenceBundle")
	case !statements.ReadASN1(&statement, tags.SEQUENCE) || !statements.Empty() || !statement.ReadASN1ObjectIdentifier(&kind):
		return malformed("the evidence isn't one statement")
	case !kind.Equal(oidCertify):
		return malformed("the evidence isn't a statement of TPM2_Certify (2.23.133.20.1)")
	case !statement.ReadASN1(&stmt, tags.SEQUENCE) || !statement.SkipOptionalASN1(tags.IA5String) || !statement.SkipOptionalASN1(tags.UTF8String) || !statement.Empty(), // a hint says nothing here
		!stmt.ReadASN1Bytes(&said, tags.OCTET_STRING) || !stmt.ReadASN1Bytes(&signature, tags.OCTET_STRING) || !stmt.ReadASN1Bytes(&public, tags.OCTET_STRING) || !stmt.Empty():
		return malformed("the statement isn't tpmSAttest, signature and tpmTPublic")
	}
	e := Evidence{Certified: Certified{Public: bare(public), Statement: bare(said), Signature: signature}}
	for !certificates.Empty() {
		var der cryptobyte.String
		if len(e.Certificates) == maxCertificates || !certificates.ReadASN1Element(&der, tags.SEQUENCE) {
			return malformed(fmt.Sprintf("the evidence comes with more than %d certificates, or something else", maxCertificates))
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return malformed("a certificate of the evidence can't be read")
		}
		e.Certificates = append(e.Certificates, c)
	}
	return e, nil
}

// bare takes the size off a TPM2B: tools write such structures with and without it. What
// it begins with is no beginning of a statement or of a public area of that length.
func bare(structure []byte) []byte {
	if len(structure) > 2 && int(binary.BigEndian.Uint16(structure)) == len(structure)-2 {
		return structure[2:]
	}
	return structure
}

// Bundle is the EvidenceBundle that ParseEvidence reads.
func (e Evidence) Bundle() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidCertify)
				b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1OctetString(e.Statement)
					b.AddASN1OctetString(e.Signature)
					b.AddASN1OctetString(e.Public)
				})
			})
		})
		if len(e.Certificates) == 0 {
			return
		}
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, c := range e.Certificates {
				b.AddBytes(c.Raw)
			}
		})
	})
	return b.Bytes()
}
