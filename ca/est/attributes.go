package est

import (
	"encoding/asn1"
	"fmt"

	"bollard/ca"
)

// Object identifiers of CSR attributes (RFC 5480, RFC 8017, RFC 5758).
func ecPublicKey() asn1.ObjectIdentifier   { return asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} }
func rsaEncryption() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1} }
func ecdsaSHA256() asn1.ObjectIdentifier   { return asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2} }
func rsaSHA256() asn1.ObjectIdentifier     { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11} }

func curveOf(class ca.KeyClass) (asn1.ObjectIdentifier, bool) {
	switch class {
	case "P-224":
		return asn1.ObjectIdentifier{1, 3, 132, 0, 33}, true
	case ca.ClassP256:
		return asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, true
	case ca.ClassP384:
		return asn1.ObjectIdentifier{1, 3, 132, 0, 34}, true
	case ca.ClassP521:
		return asn1.ObjectIdentifier{1, 3, 132, 0, 35}, true
	}
	return nil, false
}

func bitsOf(class ca.KeyClass) (int, bool) {
	switch class {
	case ca.ClassRSA2048:
		return 2048, true
	case ca.ClassRSA3072:
		return 3072, true
	}
	return 0, false
}

// csrAttributes encodes CsrAttrs (RFC 7030 §4.5.2): the kinds of keys a request
// may bring, curves and sizes as values, and the signature algorithms to prove
// their possession with. There is nothing else to ask for: names and extensions
// come from here whatever a request says.
func csrAttributes(classes []ca.KeyClass) ([]byte, error) {
	type attribute struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
	var curves, sizes []asn1.RawValue
	for _, class := range classes {
		if oid, ok := curveOf(class); ok {
			curves = append(curves, raw(oid))
		} else if bits, ok := bitsOf(class); ok {
			sizes = append(sizes, raw(bits))
		} else {
			return nil, fmt.Errorf("internal error: key class %s has no object identifier", class)
		}
	}
	var list []any
	if len(curves) > 0 {
		list = append(list, attribute{ecPublicKey(), curves}, ecdsaSHA256())
	}
	if len(sizes) > 0 {
		list = append(list, attribute{rsaEncryption(), sizes}, rsaSHA256())
	}
	var members []byte
	for _, member := range list {
		der, err := asn1.Marshal(member)
		if err != nil {
			return nil, fmt.Errorf("couldn't encode the CSR attributes: %w", err)
		}
		members = append(members, der...)
	}
	return asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: members})
}

// raw encodes a value that can always be encoded.
func raw(value any) asn1.RawValue {
	der, err := asn1.Marshal(value)
	if err != nil {
		panic("internal error: couldn't encode a CSR attribute: " + err.Error())
	}
	return asn1.RawValue{FullBytes: der}
}
