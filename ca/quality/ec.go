package quality

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"

	"bollard/internal/curve448"
)

// checkEC returns the key's SubjectPublicKeyInfo.
func checkEC(key *ecdsa.PublicKey, policy Policy) ([]byte, error) {
	switch key.Curve {
	case elliptic.P256(), elliptic.P384(), elliptic.P521():
	case elliptic.P224():
		if !policy.P224 {
			return nil, refuse(Curve, "elliptic curve P-224 isn't allowed (allowed: P-256, P-384, P-521)")
		}
	case nil:
		return nil, refuse(Malformed, "the ECDSA key has no curve")
	default:
		return nil, refuse(Curve, "elliptic curve %s isn't allowed (allowed: P-256, P-384, P-521)", key.Curve.Params().Name)
	}
	if key.X == nil || key.Y == nil { //nolint:staticcheck // only encoding reads them, and it doesn't look
		return nil, refuse(Malformed, "the ECDSA key has no point")
	}
	// Encoding refuses infinity and points off the curve; there are no others,
	// these curves having prime order.
	spki, err := curve448.MarshalPublicKey(key)
	if err != nil {
		return nil, refuse(Point, "the point isn't on the curve %s", key.Curve.Params().Name)
	}
	// ±G: a private key of 1 or of the order less 1, what a dead random number
	// generator gives.
	x := firstCoordinate(key, spki)
	if bytes.Equal(x, key.Curve.Params().Gx.FillBytes(make([]byte, len(x)))) {
		return nil, refuse(Point, "the point is the curve's base point: the private key is 1")
	}
	return spki, nil
}

// firstCoordinate is x of a key's point, which ends its SubjectPublicKeyInfo (RFC 5480
// §2.2) in uncompressed form (SEC 1 §2.3.3).
func firstCoordinate(key *ecdsa.PublicKey, spki []byte) []byte {
	size := (key.Curve.Params().BitSize + 7) / 8
	return spki[len(spki)-2*size : len(spki)-size]
}
