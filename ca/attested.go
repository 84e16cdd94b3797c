package ca

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"bollard/ca/quality"
	"bollard/tpm/attest"
)

var (
	oidAttestationKey = asn1.ObjectIdentifier{2, 23, 133, 8, 3}                   // tcg-kp-AIKCertificate
	oidPermanent      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 3}          // id-on-permanentIdentifier (RFC 4043)
	oidEvidence       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 59} // id-aa-evidence (draft-ietf-lamps-csr-attestation)
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

// ErrNotAttested says that evidence doesn't show where a key is. What isn't it couldn't
// be judged now.
var ErrNotAttested = errors.New("the key isn't attested")

// Attested says that a station's TPM made a key, which can't leave it. Only
// Authority.Attest makes one; the zero value attests nothing.
type Attested struct {
	key         string // hash, as a ProvenKey's
	station     string
	serial      string // the station's
	certificate string // of the attestation key, by its serial number
}

// Station is whose TPM it is, by the record of the attestation key's certificate.
func (t Attested) Station() string { return t.station }

// Of says whether it is about a key in a station's TPM, as long as that has this serial
// number.
func (t Attested) Of(key ProvenKey, station, serial string) bool {
	return t != (Attested{}) && t.key == key.Hash() && t.station == station && t.serial == serial
}

// Assurance are the policies (RFC 5280 §4.2.1.4) by which station certificates say what
// is known of their keys; the zero value of each: they say nothing of that.
type Assurance struct {
	Attested x509.OID // the station's TPM made it
	Other    x509.OID
}

// anyPolicy is RFC 5280's (§4.2.1.4).
func anyPolicy() x509.OID {
	oid, err := x509.OIDFromInts([]uint64{2, 5, 29, 32, 0})
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return oid
}

// of is what one certificate says.
func (g Assurance) of(attested Attested) []x509.OID {
	policy := g.Other
	if attested != (Attested{}) {
		policy = g.Attested
	}
	if policy.Equal(x509.OID{}) {
		return nil
	}
	return []x509.OID{policy}
}

// Attests says whether there is a hierarchy of attestation keys, by which evidence
// could be judged.
func (a *Authority) Attests() bool { return a.hierarchy(KindAttestation).issuing != nil }

// Attest judges evidence by the attestation keys certified here: the key's certificate
// is on record, in force, and of a station; what it signed answers the nonce.
func (a *Authority) Attest(ctx context.Context, e attest.Evidence, nonce []byte) (Attested, error) {
	refuse := func(err error) (Attested, error) { return Attested{}, fmt.Errorf("%w: %w", ErrNotAttested, err) }
	leaf, err := e.AttestationKey()
	if err != nil {
		return refuse(err)
	}
	ak, err := attest.Certificate(slices.Concat([]*x509.Certificate{leaf}, a.Intermediates(KindAttestation)), a.Roots(KindAttestation), a.cfg.Clock())
	if err != nil {
		return refuse(err)
	}
	key, err := e.Key()
	if err != nil {
		return refuse(err)
	}
	if err := e.Verify(ak, key, nonce); err != nil {
		return refuse(err)
	}
	record, known, err := a.Status(ctx, leaf)
	switch {
	case err != nil:
		return Attested{}, fmt.Errorf("couldn't look up the certificate of an attestation key: %w", err)
	case !known || record.External || record.Profile != ProfileAttestation:
		return refuse(errors.New("the attestation key's certificate isn't on record"))
	case record.State != StateIssued:
		return refuse(fmt.Errorf("the attestation key's certificate %s is %s", record.Serial, record.State))
	}
	hash, err := keyHash(key)
	if err != nil {
		return refuse(err)
	}
	return Attested{key: hash, station: record.Station, serial: leaf.Subject.CommonName, certificate: record.Serial}, nil
}

// evidenceIn finds the attribute with evidence: there is one of it at most, with one
// value (COUNTS MAX 1).
func evidenceIn(req *x509.CertificateRequest) ([]byte, error) {
	info := cryptobyte.String(req.RawTBSCertificateRequest)
	var all, attributes cryptobyte.String
	if !info.ReadASN1(&all, tags.SEQUENCE) || !all.SkipASN1(tags.INTEGER) || !all.SkipASN1(tags.SEQUENCE) || !all.SkipASN1(tags.SEQUENCE) {
		return nil, &CSRError{CSRMalformed, "it isn't a PKCS#10 request"}
	}
	if all.Empty() || !all.ReadASN1(&attributes, tags.Tag(0).ContextSpecific().Constructed()) {
		return nil, nil // what crypto/x509 lets pass says nothing
	}
	var found []byte
	for !attributes.Empty() {
		var attribute, values, value cryptobyte.String
		var kind asn1.ObjectIdentifier
		if !attributes.ReadASN1(&attribute, tags.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&kind) {
			return found, nil
		}
		if !kind.Equal(oidEvidence) {
			continue
		}
		if !attribute.ReadASN1(&values, tags.SET) || !values.ReadASN1Element(&value, tags.SEQUENCE) || !values.Empty() || found != nil {
			return nil, &CSRError{CSRMalformed, "its evidence isn't one value of one attribute (id-aa-evidence)"}
		}
		found = value
	}
	return found, nil
}
