package der_test

import (
	"bytes"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"bollard/internal/der"
)

// Elements of all lengths' forms are cryptobyte's, and as long as Size says.
func TestElementsAreCryptobytes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000, 1 << 24} {
		contents := bytes.Repeat([]byte{0x5a}, n)
		var b cryptobyte.Builder
		b.AddBytes([]byte("before"))
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(contents) })
		want, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		got := der.Append([]byte("before"), tags.SEQUENCE, contents[:n/3], nil, contents[n/3:])
		if !bytes.Equal(got, want) || len(got) != len("before")+der.Size(n) {
			t.Errorf("%d octets of contents: %x…, %d long, want %x…, %d, and Size says %d", n, got[:min(16, len(got))], len(got), want[:min(16, len(want))], len(want), der.Size(n))
		}
	}
}
