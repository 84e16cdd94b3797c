package ca

import (
	"crypto/subtle"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"

	"bollard/ca/quality"
	"bollard/tpm/attest"
)

var (
	oidAttestationKey = asn1.ObjectIdentifier{2, 23, 133, 8, 3}          // tcg-kp-AIKCertificate
	oidPermanent      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 3} // id-on-permanentIdentifier (RFC 4043)
)

// ErrNotActivated says that a TPM didn't tell the secret of its challenge.
var ErrNotActivated = errors.New("the secret isn't that of the challenge")

// ActivatedKey proves an attestation key by its TPM, which told the secret of a
// challenge made for this key: a restricted key can't sign a request of its own.
func ActivatedKey(c attest.Challenge, told []byte, key *attest.AK) (ProvenKey, error) {
	if len(c.Secret) == 0 || subtle.ConstantTimeCompare(c.Secret, told) != 1 {
		return ProvenKey{}, ErrNotActivated
	}
	if err := checkKey(key.Public(), quality.Policy{}); err != nil {
		return ProvenKey{}, err
	}
	return proven(key.Public())
}

// permanentIdentifier is a subject alternative name with a serial number: an otherName
// with PermanentIdentifier, whose assigner is left out (RFC 4043 §2).
func permanentIdentifier(serial string) (pkix.Extension, error) {
	type identifier struct {
		Value string `asn1:"utf8"`
	}
	name, err := asn1.Marshal(struct {
		Type  asn1.ObjectIdentifier
		Value identifier `asn1:"explicit,tag:0"`
	}{oidPermanent, identifier{serial}})
	if err != nil {
		return pkix.Extension{}, err
	}
	name[0] = 0xa0 // [0] IMPLICIT SEQUENCE
	value, err := asn1.Marshal([]asn1.RawValue{{FullBytes: name}})
	return pkix.Extension{Id: oidSAN, Value: value}, err
}

// purposes is what is expected of the extended key usages crypto/x509 doesn't know.
func purposes(one asn1.ObjectIdentifier) []asn1.ObjectIdentifier {
	if one == nil {
		return nil
	}
	return []asn1.ObjectIdentifier{one}
}
