package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Of certificates of TPMs (TCG EK Credential Profile for TPM 2.0, §3.2 and §3.5).
var (
	oidEndorsement  = asn1.ObjectIdentifier{2, 23, 133, 8, 1}           // tcg-kp-EKCertificate
	oidAttestation  = asn1.ObjectIdentifier{2, 23, 133, 8, 3}           // tcg-kp-AIKCertificate
	oidManufacturer = asn1.ObjectIdentifier{2, 23, 133, 2, 1}           // tcg-at-tpmManufacturer
	oidOAEP         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7} // id-RSAES-OAEP
	oidSAN          = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// EK is a TPM's endorsement key: it decrypts, and is who the TPM is.
type EK struct {
	public crypto.PublicKey
	hash   string
}

// ParseEK reads a SubjectPublicKeyInfo of a kind TPMs have endorsement keys of:
// RSA-2048 and P-256 of the low range, P-384 of the high one.
func ParseEK(spki []byte) (EK, error) {
	public, err := publicKey(spki)
	if err != nil {
		return EK{}, fmt.Errorf("%w: the endorsement key can't be read", ErrMalformed)
	}
	return NewEK(public)
}

// publicKey reads a SubjectPublicKeyInfo, of RSA also one that says what it is for: some
// manufacturers' endorsement keys are id-RSAES-OAEP (RFC 4055 §4.1, §1.2), which
// crypto/x509 doesn't know.
func publicKey(spki []byte) (crypto.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err == nil {
		return public, nil
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if rest, failed := asn1.Unmarshal(spki, &info); failed != nil || len(rest) > 0 || !info.Algorithm.Algorithm.Equal(oidOAEP) || info.Key.BitLength%8 != 0 {
		return nil, err
	}
	return x509.ParsePKCS1PublicKey(info.Key.Bytes)
}

// NewEK is ParseEK for a key that was read.
func NewEK(public crypto.PublicKey) (EK, error) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() != 2048 || key.E != 65537 {
			return EK{}, fmt.Errorf("%w: an endorsement key is RSA-2048 with exponent 65537, P-256 or P-384", ErrKey)
		}
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return EK{}, fmt.Errorf("%w: an endorsement key is RSA-2048, P-256 or P-384", ErrKey)
		}
	default:
		return EK{}, fmt.Errorf("%w: an endorsement key is RSA-2048, P-256 or P-384", ErrKey)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return EK{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	h := sha256.Sum256(spki)
	return EK{public, hex.EncodeToString(h[:])}, nil
}

// Hash is the SHA-256 of the SubjectPublicKeyInfo, by which lists name it.
func (k EK) Hash() string { return k.hash }

// ParseEKCertificate reads one as TPMs keep it: an area that is longer than the
// certificate ends in zeros or ones.
func ParseEKCertificate(data []byte) (*x509.Certificate, error) {
	if len(data) > maxStructure {
		return nil, fmt.Errorf("%w: an endorsement certificate of %d bytes", ErrMalformed, len(data))
	}
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(data, &outer)
	if err != nil || len(bytes.Trim(rest, "\x00")) > 0 && len(bytes.Trim(rest, "\xff")) > 0 {
		return nil, fmt.Errorf("%w: the endorsement certificate isn't one certificate in DER", ErrMalformed)
	}
	cert, err := x509.ParseCertificate(outer.FullBytes)
	if err != nil {
		return nil, fmt.Errorf("%w: the endorsement certificate: %w", ErrMalformed, err)
	}
	if cert.PublicKey == nil { // of an algorithm that crypto/x509 doesn't know
		if cert.PublicKey, err = publicKey(cert.RawSubjectPublicKeyInfo); err != nil {
			return nil, fmt.Errorf("%w: the key of the endorsement certificate: %w", ErrMalformed, err)
		}
	}
	return cert, nil
}

// Manufacturers are whose endorsement certificates count.
type Manufacturers struct {
	Roots, Intermediates []*x509.Certificate
}

// Verify says whether one of the certificates is the key's, of one of the
// manufacturers; the others may be between it and the root.
func (m Manufacturers) Verify(k EK, presented []*x509.Certificate, now time.Time) error {
	i := slices.IndexFunc(presented, func(c *x509.Certificate) bool {
		other, err := NewEK(c.PublicKey)
		return err == nil && other.hash == k.hash
	})
	if i < 0 {
		return fmt.Errorf("%w: it comes without a certificate of its own", ErrEndorsement)
	}
	leaf := *presented[i] // its list of extensions is written to
	switch {
	case leaf.IsCA:
		return fmt.Errorf("%w: its certificate is a CA's", ErrEndorsement)
	case !slices.ContainsFunc(leaf.UnknownExtKeyUsage, oidEndorsement.Equal):
		return fmt.Errorf("%w: its certificate isn't for an endorsement key (no extended key usage 2.23.133.8.1)", ErrEndorsement)
	case leaf.KeyUsage&(x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement) == 0:
		return fmt.Errorf("%w: its certificate doesn't let it decrypt", ErrEndorsement)
	}
	// The TPM's model stands in a critical alternative name, which crypto/x509 reads
	// nothing of.
	if namesTPM(&leaf) {
		leaf.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(leaf.UnhandledCriticalExtensions), oidSAN.Equal)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range m.Roots {
		roots.AddCert(c)
	}
	for _, c := range slices.Concat(m.Intermediates, presented) {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return fmt.Errorf("%w: %w", ErrEndorsement, err)
	}
	return nil
}

// namesTPM says whether the alternative names are one directoryName with the TPM's
// manufacturer, and nothing else that somebody would have to judge.
func namesTPM(c *x509.Certificate) bool {
	i := slices.IndexFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSAN) })
	if i < 0 {
		return false
	}
	value := cryptobyte.String(c.Extensions[i].Value)
	var names, directory, rdns cryptobyte.String
	if !value.ReadASN1(&names, tags.SEQUENCE) || !value.Empty() ||
		!names.ReadASN1(&directory, tags.Tag(4).ContextSpecific().Constructed()) || !names.Empty() ||
		!directory.ReadASN1(&rdns, tags.SEQUENCE) || !directory.Empty() {
		return false
	}
	named := false
	for !rdns.Empty() {
		var set cryptobyte.String
		if !rdns.ReadASN1(&set, tags.SET) {
			return false
		}
		for !set.Empty() {
			var attribute cryptobyte.String
			var oid asn1.ObjectIdentifier
			if !set.ReadASN1(&attribute, tags.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&oid) {
				return false
			}
			named = named || oid.Equal(oidManufacturer)
		}
	}
	return named
}
