// Package curve448 is what crypto/x509 doesn't know of Ed448 (RFC 8410): keys,
// certificates and the paths they make.
//
// It promises to say of anything else what crypto/x509 says of it, and of a path that
// every signature in it, every date and every constraint was checked.
package curve448

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/ecc/goldilocks"
	"github.com/cloudflare/circl/sign/ed448"
	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// OID is id-Ed448 (RFC 8410 §3), of keys and of signatures; it has no parameters.
var OID = asn1.ObjectIdentifier{1, 3, 101, 113}

// Algorithm is its AlgorithmIdentifier in DER.
func Algorithm() []byte {
	der, err := asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: OID})
	if err != nil {
		panic("internal error: an identifier can't be encoded: " + err.Error())
	}
	return der
}

type publicKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Key       asn1.BitString
}

// MarshalPublicKey returns a SubjectPublicKeyInfo in DER.
func MarshalPublicKey(key crypto.PublicKey) ([]byte, error) {
	if der := marshalP256(key); der != nil {
		return der, nil
	}
	public, ok := key.(ed448.PublicKey)
	if !ok {
		return x509.MarshalPKIXPublicKey(key)
	}
	if len(public) != ed448.PublicKeySize {
		return nil, fmt.Errorf("an Ed448 key of %d bytes", len(public))
	}
	return asn1.Marshal(publicKeyInfo{pkix.AlgorithmIdentifier{Algorithm: OID}, asn1.BitString{Bytes: public, BitLength: 8 * len(public)}})
}

// p256Head is all of a SubjectPublicKeyInfo of P-256 but the point (RFC 5480 §2).
var p256Head = []byte{
	0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 3, 0x42, 0,
}

// marshalP256 is what x509.MarshalPKIXPublicKey says of the keys that nearly all
// stations have, at a tenth of the cost: of a certificate it is asked eight times. nil
// for others.
func marshalP256(key crypto.PublicKey) []byte {
	public, ok := key.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() || public.X == nil || public.Y == nil { //nolint:staticcheck // only Bytes reads them, and it doesn't look
		return nil
	}
	point, err := public.Bytes()
	if err != nil {
		return nil // crypto/x509's to say why
	}
	return append(p256Head[:len(p256Head):len(p256Head)], point...)
}

// ParseP256 reads what marshalP256 says; nil for all else, and for what is no point of the
// curve.
func ParseP256(spki []byte) *ecdsa.PublicKey {
	point, ok := bytes.CutPrefix(spki, p256Head)
	if !ok {
		return nil
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil // crypto/x509's to say why
	}
	return key
}

// PublicKey reads a SubjectPublicKeyInfo of Ed448; nil, and no error, of another kind.
func PublicKey(spki []byte) (crypto.PublicKey, error) {
	var info publicKeyInfo
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 || !info.Algorithm.Algorithm.Equal(OID) {
		return nil, nil //nolint:nilerr // crypto/x509's to judge
	}
	switch {
	case len(info.Algorithm.Parameters.FullBytes) > 0:
		return nil, errors.New("an Ed448 key with parameters (RFC 8410 §3)")
	case len(info.Key.Bytes) != ed448.PublicKeySize || info.Key.BitLength != 8*ed448.PublicKeySize:
		return nil, fmt.Errorf("an Ed448 key of %d bits", info.Key.BitLength)
	}
	public := ed448.PublicKey(info.Key.Bytes)
	return public, CheckPublicKey(public)
}

// CheckPublicKey refuses what is no point of the curve, or one of low order, whose
// private half everybody knows.
func CheckPublicKey(key ed448.PublicKey) error {
	if len(key) != ed448.PublicKeySize {
		return fmt.Errorf("an Ed448 key of %d bytes", len(key))
	}
	point, err := goldilocks.FromBytes(key)
	if err != nil {
		return errors.New("the Ed448 key isn't a point of its curve")
	}
	point.Double()
	point.Double() // the cofactor is 4
	if point.IsIdentity() {
		return errors.New("the Ed448 key is of low order")
	}
	return nil
}

// ParseCertificate is crypto/x509's, whose result has an Ed448 key too, as
// ed448.PublicKey of circl.
func ParseCertificate(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil || cert.PublicKey != nil {
		return cert, err
	}
	cert.PublicKey, err = PublicKey(cert.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	return cert, nil
}

// ParseCertificates is ParseCertificate of several, one after the other.
func ParseCertificates(der []byte) ([]*x509.Certificate, error) {
	list, err := x509.ParseCertificates(der)
	for i := range list {
		if err == nil {
			list[i], err = ParseCertificate(list[i].Raw)
		}
	}
	return list, err
}

// SignedWith tells whether a certificate is signed with Ed448.
func SignedWith(cert *x509.Certificate) bool {
	if cert.SignatureAlgorithm != x509.UnknownSignatureAlgorithm {
		return false // crypto/x509 has a name for all but ours
	}
	var outer struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}
	_, err := asn1.Unmarshal(cert.Raw, &outer)
	return err == nil && bytes.Equal(outer.Algorithm.FullBytes, Algorithm())
}

// CheckSignature checks a certificate's signature by a key.
func CheckSignature(cert, by *x509.Certificate) error {
	key, ok := by.PublicKey.(ed448.PublicKey)
	if !ok {
		return by.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
	}
	if !SignedWith(cert) || !ed448.Verify(key, cert.RawTBSCertificate, cert.Signature, "") {
		return errors.New("the Ed448 signature doesn't verify")
	}
	return nil
}

// CheckSignatureFrom checks that a certificate is signed by a CA.
func CheckSignatureFrom(cert, by *x509.Certificate) error {
	if _, ok := by.PublicKey.(ed448.PublicKey); !ok {
		return cert.CheckSignatureFrom(by)
	}
	if !by.BasicConstraintsValid || !by.IsCA || by.KeyUsage != 0 && by.KeyUsage&x509.KeyUsageCertSign == 0 {
		return fmt.Errorf("%s is no CA certificate", by.Subject)
	}
	return CheckSignature(cert, by)
}

// Replace returns to-be-signed bytes (of a certificate, a list or a request) with
// others in place of some of its elements, by their index.
func Replace(tbs []byte, with map[int][]byte) ([]byte, error) {
	if len(with) == 0 {
		return tbs, nil
	}
	input := cryptobyte.String(tbs)
	var all cryptobyte.String
	if !input.ReadASN1(&all, tags.SEQUENCE) || !input.Empty() {
		return nil, errors.New("internal error: to-be-signed bytes can't be read")
	}
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		for i := 0; !all.Empty(); i++ {
			var element cryptobyte.String
			var tag tags.Tag
			if !all.ReadAnyASN1Element(&element, &tag) {
				b.SetError(errors.New("internal error: to-be-signed bytes can't be read"))
				return
			}
			if other, ok := with[i]; ok {
				element = other
			}
			b.AddBytes(element)
		}
	})
	return b.Bytes()
}
