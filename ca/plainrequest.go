package ca

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"bollard/internal/curve448"
)

// plainRequest takes apart the requests (RFC 2986 §4) that nearly all stations send: of
// a key on P-256, signed with SHA-256, for a plain name, asking for nothing but DNS
// names. It is nil for anything else, which is crypto/x509's to read: its reflection costs
// ten times as much. Of the subject it has the common name and the organisation, and of
// extensions none: alternative names are never used for the certificate.
func plainRequest(der []byte) *x509.CertificateRequest {
	input := cryptobyte.String(der)
	var all, tbs, algorithm, info, version, subject, spki, attributes cryptobyte.String
	var signature []byte
	if !input.ReadASN1(&all, tags.SEQUENCE) || !input.Empty() ||
		!all.ReadASN1Element(&tbs, tags.SEQUENCE) ||
		!all.ReadASN1Element(&algorithm, tags.SEQUENCE) || !bytes.Equal(algorithm, ecdsaWithSHA256) ||
		!all.ReadASN1BitStringAsBytes(&signature) || !all.Empty() {
		return nil
	}
	rest := tbs
	if !rest.ReadASN1(&info, tags.SEQUENCE) ||
		!info.ReadASN1(&version, tags.INTEGER) || !bytes.Equal(version, []byte{0}) || // v1
		!info.ReadASN1(&subject, tags.SEQUENCE) ||
		!info.ReadASN1Element(&spki, tags.SEQUENCE) ||
		!info.ReadASN1(&attributes, tags.Tag(0).ContextSpecific().Constructed()) || !info.Empty() ||
		!plainAttributes(attributes) {
		return nil
	}
	key := curve448.ParseP256(spki)
	name, plain := requestedName(subject)
	if key == nil || !plain {
		return nil
	}
	return &x509.CertificateRequest{
		Raw: der, RawTBSCertificateRequest: tbs, RawSubjectPublicKeyInfo: spki, Subject: name,
		PublicKeyAlgorithm: x509.ECDSA, PublicKey: key,
		SignatureAlgorithm: x509.ECDSAWithSHA256, Signature: signature,
	}
}

// ecdsaWithSHA256 is an AlgorithmIdentifier (RFC 5758 §3.2).
var ecdsaWithSHA256 = []byte{0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}

// requestedName is false for attributes other than of a station's name, and for text
// that isn't the same in PrintableString and UTF8String.
func requestedName(subject cryptobyte.String) (name pkix.Name, plain bool) {
	for !subject.Empty() {
		var set, attribute, id, value cryptobyte.String
		var tag tags.Tag
		if !subject.ReadASN1(&set, tags.SET) || !set.ReadASN1(&attribute, tags.SEQUENCE) || !set.Empty() ||
			!attribute.ReadASN1(&id, tags.OBJECT_IDENTIFIER) || !bytes.HasPrefix(id, []byte{0x55, 4}) || len(id) != 3 || // id-at
			!attribute.ReadAnyASN1(&value, &tag) || tag != tags.PrintableString && tag != tags.UTF8String || !attribute.Empty() {
			return name, false
		}
		if !allPrintable(value) {
			return name, false
		}
		switch id[2] {
		case arcCommonName:
			name.CommonName = string(value)
		case arcOrganization:
			name.Organization = append(name.Organization, string(value))
		case arcCountry:
		default:
			return name, false
		}
	}
	return name, true
}

// plainAttributes: none, or a request for extensions that asks for DNS names alone.
func plainAttributes(attributes cryptobyte.String) bool {
	if attributes.Empty() {
		return true
	}
	var attribute, values, extensions, extension, value, names, name cryptobyte.String
	if !attributes.ReadASN1(&attribute, tags.SEQUENCE) || !attributes.Empty() || !skip(&attribute, extensionRequest) ||
		!attribute.ReadASN1(&values, tags.SET) || !attribute.Empty() ||
		!values.ReadASN1(&extensions, tags.SEQUENCE) || !values.Empty() ||
		!extensions.ReadASN1(&extension, tags.SEQUENCE) || !extensions.Empty() || !skip(&extension, subjectAltName) ||
		!extension.ReadASN1(&value, tags.OCTET_STRING) || !extension.Empty() ||
		!value.ReadASN1(&names, tags.SEQUENCE) || !value.Empty() {
		return false
	}
	for !names.Empty() {
		if !names.ReadASN1(&name, tags.Tag(2).ContextSpecific()) || !allPrintable(name) { // dNSName
			return false
		}
	}
	return true
}

// In DER: id-extensionRequest (RFC 2985 §5.4.2), id-ce-subjectAltName (RFC 5280 §4.2.1.6).
var (
	extensionRequest = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14}
	subjectAltName   = []byte{6, 3, 0x55, 29, 17}
)

func skip(s *cryptobyte.String, prefix []byte) bool {
	return bytes.HasPrefix(*s, prefix) && s.Skip(len(prefix))
}

func allPrintable(text []byte) bool {
	for _, c := range text {
		if !printable(c) {
			return false
		}
	}
	return true
}
