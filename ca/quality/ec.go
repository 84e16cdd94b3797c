package quality

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
)

func checkEC(key *ecdsa.PublicKey, policy Policy) error {
	switch key.Curve {
	case elliptic.P256(), elliptic.P384(), elliptic.P521():
	case elliptic.P224():
		if !policy.P224 {
			return refuse(Curve, "elliptic curve P-224 isn't allowed (allowed: P-256, P-384, P-521)")
		}
	case nil:
		return refuse(Malformed, "the ECDSA key has no curve")
	default:
		return refuse(Curve, "elliptic curve %s isn't allowed (allowed: P-256, P-384, P-521)", key.Curve.Params().Name)
	}
	if key.X == nil || key.Y == nil { //nolint:staticcheck // only Bytes reads them, and it doesn't look
		return refuse(Malformed, "the ECDSA key has no point")
	}
	// Bytes refuses infinity and points off the curve; there are no others,
	// these curves having prime order.
	point, err := key.Bytes()
	if err != nil {
		return refuse(Point, "the point isn't on the curve %s", key.Curve.Params().Name)
	}
	// ±G: a private key of 1 or of the order less 1, what a dead random number
	// generator gives.
	size := (len(point) - 1) / 2
	if bytes.Equal(point[1:1+size], key.Curve.Params().Gx.FillBytes(make([]byte, size))) {
		return refuse(Point, "the point is the curve's base point: the private key is 1")
	}
	return nil
}
