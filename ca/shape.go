package ca

import (
	"bytes"
	"crypto/sha256"
	"strconv"
	"sync"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// shapes remembers which shapes of certificates zlint found no fault with: it
// takes longer than signing, and a fleet's certificates are all alike. Only
// praise is remembered; every certificate has its own lint besides, which holds
// each value that a shape leaves out against the plan.
type shapes struct {
	mu    sync.Mutex
	sound map[shape]bool
}

type shape [sha256.Size]byte

// maxShapes bounds the memory. A day of a fleet has one for each form its
// serial numbers have.
const maxShapes = 1024

func newShapes() *shapes { return &shapes{sound: map[shape]bool{}} }

// lint is lintRFC5280, unless a certificate of this shape passed before.
func (s *shapes) lint(der, tbs []byte, profile string) ([]string, error) {
	key, known := shapeOf(tbs, profile)
	s.mu.Lock()
	sound := known && s.sound[key]
	s.mu.Unlock()
	if sound {
		return nil, nil
	}
	faults, err := lintRFC5280(der, profile)
	if known && err == nil && len(faults) == 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.sound) >= maxShapes {
			clear(s.sound)
		}
		s.sound[key] = true
	}
	return faults, err
}

// shapeOf is a hash over to-be-signed bytes (RFC 5280 §4.1.2) in which these
// values, and nothing else, are made equal:
//
//   - the serial number but for its length and sign,
//   - the time of day of both dates; days stay, since lints come into effect,
//   - which letter and which digit stands where in the last name of the subject,
//   - the coordinates of a point on an elliptic curve,
//   - the octets of the subject key identifier.
//
// No demand of RFC 5280 depends on them. Tags, lengths, algorithms, all other
// names and extensions are part of the shape, and so is whether the subject is
// the issuer. What can't be walked has no shape.
func shapeOf(tbs []byte, profile string) (shape, bool) {
	var room [1024]byte
	masked := append(room[:0], tbs...)
	outer := cryptobyte.String(masked)
	var all, serial, issuer, validity, subject, spki, point, wrapped, extensions cryptobyte.String
	ok := outer.ReadASN1(&all, tags.SEQUENCE) &&
		all.SkipASN1(tags.Tag(0).ContextSpecific().Constructed()) && // version
		all.ReadASN1(&serial, tags.INTEGER) &&
		all.SkipASN1(tags.SEQUENCE) && // algorithm
		all.ReadASN1(&issuer, tags.SEQUENCE) &&
		all.ReadASN1(&validity, tags.SEQUENCE) &&
		all.ReadASN1(&subject, tags.SEQUENCE) &&
		all.ReadASN1(&spki, tags.SEQUENCE) &&
		spki.SkipASN1(tags.SEQUENCE) &&
		spki.ReadASN1(&point, tags.BIT_STRING) &&
		all.ReadASN1(&wrapped, tags.Tag(3).ContextSpecific().Constructed()) &&
		wrapped.ReadASN1(&extensions, tags.SEQUENCE)
	selfIssued := bytes.Equal(issuer, subject)
	if !ok || len(serial) == 0 || !maskTimes(validity) || !maskLastName(subject) || !maskKeyID(extensions) {
		return shape{}, false
	}
	serial[0] &= 0x80
	clear(serial[1:])
	const uncompressed = 4 // SEC 1 §2.3.3
	if len(point) > 2 && len(point)%2 == 0 && point[0] == 0 && point[1] == uncompressed {
		clear(point[2:])
	}
	masked = strconv.AppendBool(masked, selfIssued)
	return sha256.Sum256(append(append(masked, ' '), profile...)), true
}

// maskTimes makes the time of day of each UTCTime (YYMMDDHHMMSSZ) 000000.
func maskTimes(validity cryptobyte.String) bool {
	for !validity.Empty() {
		var value cryptobyte.String
		var tag tags.Tag
		if !validity.ReadAnyASN1(&value, &tag) {
			return false
		}
		if tag == tags.UTCTime && len(value) == 13 {
			maskText(value[6:12])
		}
	}
	return true
}

// maskLastName masks the value of the last attribute, the common name.
func maskLastName(subject cryptobyte.String) bool {
	var value cryptobyte.String
	for !subject.Empty() {
		var set, attribute cryptobyte.String
		if !subject.ReadASN1(&set, tags.SET) || !set.ReadASN1(&attribute, tags.SEQUENCE) ||
			!attribute.SkipASN1(tags.OBJECT_IDENTIFIER) || !attribute.ReadAnyASN1(&value, nil) {
			return false
		}
	}
	maskText(value)
	return true
}

// maskKeyID masks the subject key identifier (RFC 5280 §4.2.1.2).
func maskKeyID(extensions cryptobyte.String) bool {
	id := []byte{2*40 + 5, 29, 14} // 2.5.29.14
	for !extensions.Empty() {
		var extension, oid, value, octets cryptobyte.String
		if !extensions.ReadASN1(&extension, tags.SEQUENCE) || !extension.ReadASN1(&oid, tags.OBJECT_IDENTIFIER) {
			return false
		}
		if !bytes.Equal(oid, id) {
			continue
		}
		if extension.ReadASN1(&value, tags.OCTET_STRING) && value.ReadASN1(&octets, tags.OCTET_STRING) && value.Empty() {
			clear(octets)
		}
	}
	return true
}

// maskText makes all digits one digit and all letters of a case one letter.
func maskText(text []byte) {
	for i, c := range text {
		switch {
		case '0' <= c && c <= '9':
			text[i] = '0'
		case 'a' <= c && c <= 'z':
			text[i] = 'a'
		case 'A' <= c && c <= 'Z':
			text[i] = 'A'
		}
	}
}
