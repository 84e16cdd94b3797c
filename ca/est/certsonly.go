package est

import (
	"encoding/base64"

	tags "golang.org/x/crypto/cryptobyte/asn1"

	"bollard/internal/der"
)

// Object identifiers of CMS (RFC 5652 §4, §5.1), in DER.
var (
	oidData       = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1}
	oidSignedData = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2}
)

// In DER: version 1, no digestAlgorithms, an encapContentInfo of no data; no signerInfos.
var (
	beforeCertificates = append([]byte{2, 1, 1, 0x31, 0, 0x30, byte(len(oidData))}, oidData...)
	afterCertificates  = []byte{0x31, 0}
)

// certsOnly is a CMS message that carries certificates and nothing that is signed
// (RFC 5652 §5.1, RFC 7030 §4.1.3).
func certsOnly(certificates []byte) []byte {
	explicit := tags.Tag(0).ContextSpecific().Constructed()
	signedData := len(beforeCertificates) + der.Size(len(certificates)) + len(afterCertificates)
	content := der.Size(signedData)
	all := len(oidSignedData) + der.Size(content)
	b := der.AppendHead(make([]byte, 0, der.Size(all)), tags.SEQUENCE, all)
	b = der.AppendHead(append(b, oidSignedData...), explicit, content)
	b = der.AppendHead(b, tags.SEQUENCE, signedData)
	b = der.Append(append(b, beforeCertificates...), explicit, certificates)
	return append(b, afterCertificates...)
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
