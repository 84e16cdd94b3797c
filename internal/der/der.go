// Package der puts elements of DER (X.690) together in one buffer.
//
// It promises what a Builder of cryptobyte makes, without one and its garbage for each
// level: a certificate has nineteen on its way.
package der

import (
	"encoding/binary"
	"math/bits"

	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Append appends an element, of contents that are in several pieces.
func Append(b []byte, tag tags.Tag, contents ...[]byte) []byte {
	n := 0
	for _, c := range contents {
		n += len(c)
	}
	b = AppendHead(b, tag, n)
	for _, c := range contents {
		b = append(b, c...)
	}
	return b
}

// AppendHead appends what is before so many octets of contents (X.690 §8.1.2 and §10.1):
// a tag below 31 and the shortest form of the length.
func AppendHead(b []byte, tag tags.Tag, contents int) []byte {
	b = append(b, byte(tag))
	if contents < 0x80 {
		return append(b, byte(contents))
	}
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(contents))
	digits := length[8-octets(contents):]
	return append(append(b, 0x80|byte(len(digits))), digits...)
}

// Size is that of an element with so many octets of contents.
func Size(contents int) int {
	if contents < 0x80 {
		return 2 + contents
	}
	return 2 + octets(contents) + contents
}

// octets are those of a number.
func octets(n int) int { return (bits.Len(uint(n)) + 7) / 8 }
