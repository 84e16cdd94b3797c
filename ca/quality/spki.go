package quality

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
)

var (
	oidRSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEC      = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// curveNames are those crypto/x509 reads and those stations' libraries offer.
var curveNames = map[string]string{
	"1.3.132.0.33":          "P-224",
	"1.2.840.10045.3.1.7":   "P-256",
	"1.3.132.0.34":          "P-384",
	"1.3.132.0.35":          "P-521",
	"1.3.132.0.10":          "secp256k1",
	"1.2.840.10045.3.1.1":   "P-192",
	"1.3.36.3.3.2.8.1.1.7":  "brainpoolP256r1",
	"1.3.36.3.3.2.8.1.1.11": "brainpoolP384r1",
	"1.3.36.3.3.2.8.1.1.13": "brainpoolP512r1",
	"1.2.156.10197.1.301":   "SM2",
}

// CheckSPKI judges a DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7). It names the
// reason for keys that crypto/x509 can't read too. Errors are Check's.
func CheckSPKI(der []byte, policy Policy) error {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	rest, err := asn1.Unmarshal(der, &info)
	if err != nil || len(rest) != 0 || info.Key.BitLength%8 != 0 {
		return refuse(Malformed, "it isn't a SubjectPublicKeyInfo")
	}
	algorithm := info.Algorithm.Algorithm
	switch {
	case algorithm.Equal(oidRSA):
		if err := checkRSABits(info.Key.Bytes, policy); err != nil {
			return err
		}
	case algorithm.Equal(oidEC):
		if err := checkECBits(info.Algorithm.Parameters.FullBytes, info.Key.Bytes, policy); err != nil {
			return err
		}
	case algorithm.Equal(oidEd25519): // named by Check
	default:
		return refuse(Kind, "key type %s isn't allowed (allowed: ECDSA, RSA)", algorithm)
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		if algorithm.Equal(oidEC) {
			return refuse(Point, "the point isn't on its curve")
		}
		return refuse(Malformed, "the public key isn't readable")
	}
	return Check(public, policy)
}

// checkRSABits reads exponents of any size: crypto/x509 stops at an int.
func checkRSABits(bits []byte, policy Policy) error {
	var key struct{ N, E *big.Int }
	rest, err := asn1.Unmarshal(bits, &key)
	if err != nil || len(rest) != 0 {
		return refuse(Malformed, "it isn't an RSA public key")
	}
	if key.E.BitLen() > 31 {
		// The digits of an exponent with thousands of them help nobody.
		return refuse(Exponent, "RSA public exponent of %d bits isn't allowed (only 65537)", key.E.BitLen())
	}
	return Check(&rsa.PublicKey{N: key.N, E: int(key.E.Int64())}, policy)
}

func checkECBits(parameters, point []byte, policy Policy) error {
	var curve asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(parameters, &curve); err != nil || len(rest) != 0 {
		return refuse(Curve, "the elliptic curve isn't a named one")
	}
	name, known := curveNames[curve.String()]
	switch {
	case !known:
		return refuse(Curve, "elliptic curve %s isn't allowed (allowed: P-256, P-384, P-521)", curve)
	case name == "P-256", name == "P-384", name == "P-521", name == "P-224" && policy.P224:
	default:
		return refuse(Curve, "elliptic curve %s isn't allowed (allowed: P-256, P-384, P-521)", name)
	}
	switch {
	case len(point) == 0:
		return refuse(Malformed, "the ECDSA key has no point")
	case point[0] == 0:
		return refuse(Point, "the point is the point at infinity")
	case point[0] != 4:
		// RFC 5480 §2.2 leaves compressed points to choice; certificates with
		// them can't be read by most stacks.
		return refuse(Point, "the point isn't in uncompressed form (RFC 5480 §2.2)")
	}
	return nil
}
