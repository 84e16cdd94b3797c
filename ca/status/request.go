package status

import (
	"crypto"
	_ "crypto/sha1"   // CertIDs of RFC 5019
	_ "crypto/sha256" // CertIDs of OCPP
	_ "crypto/sha512" // CertIDs of OCPP
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Limits of a request.
const (
	maxRequestBytes = 10 << 10
	maxRequests     = 8  // in one OCSPRequest
	maxNonce        = 32 // octets (RFC 8954 §2.1)
	maxSerialBytes  = 20 // RFC 5280 §4.1.2.2
)

// errMalformed answers what isn't a request by RFC 6960 §4.1 within the limits.
var errMalformed = errors.New("malformed OCSP request")

// hashAlgorithms are those a CertID may use; the index is the cache's.
var hashAlgorithms = []struct {
	oid  string // as DER has it
	hash crypto.Hash
}{
	{"\x2b\x0e\x03\x02\x1a", crypto.SHA1},                   // 1.3.14.3.2.26
	{"\x60\x86\x48\x01\x65\x03\x04\x02\x01", crypto.SHA256}, // 2.16.840.1.101.3.4.2.1
	{"\x60\x86\x48\x01\x65\x03\x04\x02\x02", crypto.SHA384},
	{"\x60\x86\x48\x01\x65\x03\x04\x02\x03", crypto.SHA512},
}

var oidNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}

// certID names one certificate (RFC 6960 §4.1.1).
type certID struct {
	algorithm int    // index of hashAlgorithms; -1: one we don't know
	name, key []byte // the request's own
	serial    serialNumber
	other     *big.Int // a serial number no certificate has, zero too; else nil
}

// number is the serial number.
func (id certID) number() *big.Int {
	if id.other != nil {
		return id.other
	}
	return new(big.Int).SetBytes(id.serial[:])
}

// request is an OCSPRequest.
type request struct {
	ids   []certID
	nonce []byte // nil: none asked for
}

// parseRequest reads an OCSPRequest, and puts its CertIDs at the end of ids. A signature
// and the requestor's name are left aside (RFC 6960 §4.1.2 leaves them to the responder).
func parseRequest(der []byte, ids []certID) (request, error) {
	r := request{ids: ids}
	if len(der) > maxRequestBytes {
		return r, errMalformed
	}
	input := cryptobyte.String(der)
	var outer, tbs, list, extensions cryptobyte.String
	var extended bool
	if !input.ReadASN1(&outer, tags.SEQUENCE) || !input.Empty() ||
		!outer.ReadASN1(&tbs, tags.SEQUENCE) ||
		!outer.SkipOptionalASN1(explicit(0)) || !outer.Empty() ||
		!readVersion(&tbs) ||
		!tbs.SkipOptionalASN1(explicit(1)) ||
		!tbs.ReadASN1(&list, tags.SEQUENCE) ||
		!tbs.ReadOptionalASN1(&extensions, &extended, explicit(2)) || !tbs.Empty() {
		return r, errMalformed
	}
	for !list.Empty() {
		id, ok := readRequest(&list)
		if !ok || len(r.ids) == maxRequests {
			return r, errMalformed
		}
		r.ids = append(r.ids, id)
	}
	if len(r.ids) == 0 {
		return r, errMalformed
	}
	if extended && !readExtensions(extensions, &r.nonce) {
		return r, errMalformed
	}
	return r, nil
}

func explicit(n uint8) tags.Tag { return tags.Tag(n).ContextSpecific().Constructed() }

// readVersion: only v1 (0), which DER leaves out but some clients write.
func readVersion(tbs *cryptobyte.String) bool {
	var wrapped cryptobyte.String
	var present bool
	if !tbs.ReadOptionalASN1(&wrapped, &present, explicit(0)) {
		return false
	}
	if !present {
		return true
	}
	var version int
	return wrapped.ReadASN1Integer(&version) && wrapped.Empty() && version == 0
}

func readRequest(list *cryptobyte.String) (certID, bool) {
	var one, cert, algorithm, extensions cryptobyte.String
	var extended bool
	id := certID{algorithm: -1}
	if !list.ReadASN1(&one, tags.SEQUENCE) ||
		!one.ReadASN1(&cert, tags.SEQUENCE) ||
		!one.ReadOptionalASN1(&extensions, &extended, explicit(0)) || !one.Empty() ||
		!cert.ReadASN1(&algorithm, tags.SEQUENCE) ||
		!readHash(&algorithm, &id) || !emptyOrNull(algorithm) ||
		!cert.ReadASN1((*cryptobyte.String)(&id.name), tags.OCTET_STRING) ||
		!cert.ReadASN1((*cryptobyte.String)(&id.key), tags.OCTET_STRING) ||
		!readSerial(&cert, &id) || !cert.Empty() {
		return id, false
	}
	if extended && !readExtensions(extensions, nil) {
		return id, false
	}
	if id.algorithm >= 0 {
		size := hashAlgorithms[id.algorithm].hash.Size()
		return id, len(id.name) == size && len(id.key) == size
	}
	return id, true
}

// readHash reads a hash algorithm's OID, and readSerial a CertID's serial number: without
// garbage if it is one we know, and one that a certificate may have.
func readHash(algorithm *cryptobyte.String, id *certID) bool {
	whole := *algorithm
	var content cryptobyte.String
	if !algorithm.ReadASN1(&content, tags.OBJECT_IDENTIFIER) {
		return false
	}
	for i, known := range hashAlgorithms {
		if known.oid == string(content) {
			id.algorithm = i
			return true
		}
	}
	var oid asn1.ObjectIdentifier
	return whole.ReadASN1ObjectIdentifier(&oid)
}

func readSerial(cert *cryptobyte.String, id *certID) bool {
	whole := *cert
	var content cryptobyte.String
	if !cert.ReadASN1(&content, tags.INTEGER) || len(content) == 0 {
		return false
	}
	positive := content[0]&0x80 == 0
	if len(content) > 1 && content[0] == 0 && content[1]&0x80 != 0 {
		content = content[1:] // it was there for the sign
	}
	if positive && content[0] != 0 && len(content) <= maxSerialBytes {
		copy(id.serial[maxSerialBytes-len(content):], content)
		return true
	}
	id.other = new(big.Int)
	return whole.ReadASN1Integer(id.other) && id.other.Sign() <= 0 && id.other.BitLen() <= 8*maxSerialBytes
}

// emptyOrNull: the parameters of a hash are NULL or left out.
func emptyOrNull(parameters cryptobyte.String) bool {
	var null cryptobyte.String
	return parameters.Empty() || parameters.ReadASN1(&null, tags.NULL) && null.Empty() && parameters.Empty()
}

// readExtensions takes the nonce and refuses critical extensions it doesn't
// know (RFC 6960 §4.4).
func readExtensions(wrapped cryptobyte.String, nonce *[]byte) bool {
	var list cryptobyte.String
	if !wrapped.ReadASN1(&list, tags.SEQUENCE) || !wrapped.Empty() {
		return false
	}
	for !list.Empty() {
		var one, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var critical bool
		if !list.ReadASN1(&one, tags.SEQUENCE) ||
			!one.ReadASN1ObjectIdentifier(&oid) ||
			!one.ReadOptionalASN1Boolean(&critical, tags.BOOLEAN, false) ||
			!one.ReadASN1(&value, tags.OCTET_STRING) || !one.Empty() {
			return false
		}
		switch {
		case nonce != nil && oid.Equal(oidNonce):
			// RFC 8954 §2.1: 1 to 32 octets, anything else is malformed.
			var n cryptobyte.String
			if *nonce != nil || !value.ReadASN1(&n, tags.OCTET_STRING) || !value.Empty() || len(n) < 1 || len(n) > maxNonce {
				return false
			}
			*nonce = slices.Clone(n)
		case critical:
			return false
		}
	}
	return true
}
