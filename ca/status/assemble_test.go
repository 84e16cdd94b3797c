package status_test

import (
	"bytes"
	"encoding/asn1"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"bollard/ca/status"
)

// What is put together by hand is what DER's own rules give, at every length of a length.
func TestAssemble(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 70, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 125, 126, 127, 128, 129, 200, 220, 225, 230, 240, 250, 251, 252, 253, 254, 255, 256, 257, 500, 5000, 60000} {
		signed := bytes.Repeat([]byte{5}, n)
		for _, certificate := range [][]byte{nil, bytes.Repeat([]byte{6}, 20), bytes.Repeat([]byte{6}, 124), bytes.Repeat([]byte{6}, 254), bytes.Repeat([]byte{6}, 900)} {
			context0 := tags.Tag(0).ContextSpecific().Constructed()
			b := cryptobyte.NewBuilder(nil)
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { // RFC 6960 §4.2.1
				b.AddASN1Enum(0)
				b.AddASN1(context0, func(b *cryptobyte.Builder) {
					b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1})
						b.AddASN1(tags.OCTET_STRING, func(b *cryptobyte.Builder) {
							b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
								b.AddBytes(signed)
								if certificate != nil {
									b.AddASN1(context0, func(b *cryptobyte.Builder) {
										b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(certificate) })
									})
								}
							})
						})
					})
				})
			})
			if want := b.BytesOrPanic(); !bytes.Equal(status.Assemble(signed, certificate), want) {
				t.Errorf("of %d bytes and a certificate of %d it isn't DER", n, len(certificate))
			}
		}
	}
}
