package ca

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"unicode/utf8"

	tags "golang.org/x/crypto/cryptobyte/asn1"

	"bollard/internal/der"
)

// Attributes of names that stations have, by the last arc of id-at (X.520).
const (
	arcCommonName   = 3
	arcCountry      = 6
	arcOrganization = 10
)

// appendName appends what encoding/asn1 makes of a name (RFC 5280 §4.1.2.4). It does so
// itself for those of a country, an organisation and a common name, which all stations
// have, at a twentieth of the cost: of a certificate it is asked twice.
func appendName(b []byte, n *pkix.Name) ([]byte, error) {
	attributes, plain := plainName(n)
	if !plain {
		name, err := asn1.Marshal(n.ToRDNSequence())
		return append(b, name...), err
	}
	size := 0
	for _, a := range attributes {
		if a.text != "" {
			size += relativeHead + len(a.text)
		}
	}
	b = der.AppendHead(b, tags.SEQUENCE, size)
	for _, a := range attributes {
		if a.text != "" {
			b = appendRelativeName(b, a.arc, a.text)
		}
	}
	return b, nil
}

type attribute struct {
	arc  byte
	text string
}

// plainName is false for a name with anything else, or with what would need another
// form. An attribute without a text isn't there.
func plainName(n *pkix.Name) (list [3]attribute, plain bool) {
	if len(n.OrganizationalUnit)+len(n.Locality)+len(n.Province)+len(n.StreetAddress)+len(n.PostalCode)+len(n.SerialNumber) > 0 ||
		len(n.Names)+len(n.ExtraNames) > 0 {
		return list, false
	}
	country, one := atMostOne(n.Country)
	organization, alsoOne := atMostOne(n.Organization)
	list = [3]attribute{{arcCountry, country}, {arcOrganization, organization}, {arcCommonName, n.CommonName}}
	for _, a := range list {
		if len(a.text) > 100 || !utf8.ValidString(a.text) { // longer ones have lengths of more than one octet
			return list, false
		}
	}
	return list, one && alsoOne
}

// atMostOne is false for several values, and for one without a text, which is one.
func atMostOne(values []string) (string, bool) {
	switch len(values) {
	case 0:
		return "", true
	case 1:
		return values[0], values[0] != ""
	}
	return "", false
}

// relativeHead is the size of a RelativeDistinguishedName of one attribute without its text.
const relativeHead = 11

func appendRelativeName(b []byte, arc byte, text string) []byte {
	tag := byte(tags.PrintableString)
	for i := range len(text) {
		if !printable(text[i]) {
			tag = byte(tags.UTF8String)
		}
	}
	n := byte(len(text))
	b = append(b, byte(tags.SET), n+9, byte(tags.SEQUENCE), n+7, byte(tags.OBJECT_IDENTIFIER), 3, 0x55, 4, arc, tag, n)
	return append(b, text...)
}

// printable: of PrintableString (X.680 §41.4).
func printable(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '\'' <= c && c <= ')', '+' <= c && c <= ':':
		return true
	}
	return c == ' ' || c == '=' || c == '?'
}
