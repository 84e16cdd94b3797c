package attest

import (
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// object is a WebAuthn attestation object (§6.5.4) of format tpm (§8.3). What else is in
// one, such as authData, says nothing of a key of ours.
type object struct {
	Format    string `cbor:"fmt"`
	Statement struct {
		Version      string   `cbor:"ver"`
		Algorithm    int64    `cbor:"alg"`
		Certificates [][]byte `cbor:"x5c"` // the attestation key's first
		Signature    []byte   `cbor:"sig"`
		Info         []byte   `cbor:"certInfo"`
		Public       []byte   `cbor:"pubArea"`
	} `cbor:"attStmt"`
}

// algorithms of COSE (RFC 9053, RFC 8812) that attestation keys sign by; SHA-1 isn't
// among them. Which one it was, the signature says.
var algorithms = []int64{-7, -35, -36, -37, -38, -39, -257, -258, -259}

// ParseObject reads an attestation object with a statement of TPM2_Certify, as the
// challenge device-attest-01 has it (draft-ietf-acme-device-attest).
func ParseObject(data []byte) (Evidence, error) {
	malformed := func(format string, args ...any) (Evidence, error) {
		return Evidence{}, fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
	if len(data) > 4*maxStructure {
		return malformed("an attestation object of %d bytes", len(data))
	}
	strict, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 16,
	}.DecMode()
	if err != nil {
		return Evidence{}, fmt.Errorf("internal error: %w", err)
	}
	var o object
	if err := strict.Unmarshal(data, &o); err != nil {
		return malformed("the attestation object isn't one in CBOR") // the library's text may quote it
	}
	s := &o.Statement
	switch {
	case o.Format != "tpm":
		return malformed("attestation objects are of format tpm here, not %.32q", o.Format)
	case s.Version != "2.0":
		return malformed("the statement is of version %.16q, not 2.0", s.Version)
	case !slices.Contains(algorithms, s.Algorithm):
		return malformed("the statement is signed by algorithm %d (COSE)", s.Algorithm)
	case len(s.Certificates) > maxCertificates:
		return malformed("the statement comes with %d certificates; %d are read", len(s.Certificates), maxCertificates)
	}
	e := Evidence{Certified: Certified{Public: s.Public, Statement: s.Info, Signature: s.Signature}}
	for _, der := range s.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return malformed("a certificate of the statement can't be read")
		}
		e.Certificates = append(e.Certificates, c)
	}
	return e, nil
}
