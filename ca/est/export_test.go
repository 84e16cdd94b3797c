package est

import "bollard/ca"

// DecodeBody is the decoder of request bodies.
func DecodeBody(data []byte) ([]byte, *Refusal) { return decodeBody(data) }

// CSRAttributes encodes /csrattrs.
func CSRAttributes(classes []ca.KeyClass) ([]byte, error) { return csrAttributes(classes) }

// MaxBody is the size of body that is read.
const MaxBody = maxBody

// CertsOnly and Encode make an answer.
func CertsOnly(certificates []byte) []byte { return certsOnly(certificates) }
func Encode(der []byte) []byte             { return encode(der) }
