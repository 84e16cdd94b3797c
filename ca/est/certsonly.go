package est

import (
	"encoding/base64"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers of CMS (RFC 5652 §4, §5.1), in DER.
var (
	oidData       = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1}
	oidSignedData = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2}
)

// certsOnly is a CMS message that carries certificates and nothing that is signed
// (RFC 5652 §5.1, RFC 7030 §4.1.3).
func certsOnly(certificates []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(certificates)+64)) // what is around them
	explicit := tags.Tag(0).ContextSpecific().Constructed()
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(oidSignedData)
		b.AddASN1(explicit, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)                                 // version
				b.AddASN1(tags.SET, func(*cryptobyte.Builder) {}) // digestAlgorithms
				b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(oidData) })
				b.AddASN1(explicit, func(b *cryptobyte.Builder) { b.AddBytes(certificates) })
				b.AddASN1(tags.SET, func(*cryptobyte.Builder) {}) // signerInfos
			})
		})
	})
	return b.Bytes()
}

// lineLength of base64 answers (RFC 2045 §6.8).
const lineLength = 76

// encode is base64 in lines.
func encode(der []byte) []byte {
	const whole = lineLength / 4 * 3
	out := make([]byte, 0, base64.StdEncoding.EncodedLen(len(der))+len(der)/whole+1)
	for len(der) > 0 {
		n := min(whole, len(der))
		out = append(base64.StdEncoding.AppendEncode(out, der[:n]), '\n')
		der = der[n:]
	}
	return out
}
