package release

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Dialect is a form of signature that stations verify over the SHA-256 of an
// image. OCPP's text asks for RSA-PSS or ECSchnorr (1.6 white paper, 2.x L01); of
// the latter nobody has an implementation.
type Dialect string

// The dialects.
const (
	// ECDSAP256 is ECDSA on P-256, ASN.1 DER: what every station seen verifies.
	ECDSAP256 Dialect = "ecdsa-p256-sha256"
	// RSAPSS has MGF1 with SHA-256 and a salt of exactly SaltPSS bytes, which
	// verifiers with a fixed and with any salt length take.
	RSAPSS Dialect = "rsa-pss-sha256"
	// RSAPKCS1 is the only form of RSA that stations verify which leave OpenSSL's
	// padding as it is.
	RSAPKCS1 Dialect = "rsa-pkcs1v15-sha256"
)

// SaltPSS is the salt's length in bytes, that of the hash (RFC 8017 §9.1).
const SaltPSS = sha256.Size

// Bounds of RSA keys: 3072 bits last beyond 2030, and a signature by more than
// 4096 isn't sure to fit MaxSignature.
const minRSA, maxRSA = 3072, 4096

// MaxSignature is the length of OCPP's field for the signature
// (FirmwareType.signature), in characters of Base64.
const MaxSignature = 800

// Dialects returns those there are.
func Dialects() []Dialect { return []Dialect{ECDSAP256, RSAPSS, RSAPKCS1} }

// ParseDialect finds a dialect by its name.
func ParseDialect(name string) (Dialect, error) {
	var names []string
	for _, d := range Dialects() {
		if string(d) == name {
			return d, nil
		}
		names = append(names, string(d))
	}
	return "", fmt.Errorf("unknown dialect %.40q (known: %s)", name, strings.Join(names, ", "))
}

// CheckKey says whether a key signs firmware at all.
func CheckKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return nil
		}
		return fmt.Errorf("key on %s: stations verify ECDSA on P-256", key.Curve.Params().Name)
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSA || bits > maxRSA {
			return fmt.Errorf("RSA key of %d bits: firmware is signed with %d to %d", bits, minRSA, maxRSA)
		}
		return nil
	}
	return fmt.Errorf("key of type %T doesn't sign firmware: use ECDSA on P-256, or RSA", public)
}

// Fits says whether a key signs in the dialect.
func (d Dialect) Fits(public crypto.PublicKey) error {
	if _, err := ParseDialect(string(d)); err != nil {
		return err
	}
	if err := CheckKey(public); err != nil {
		return err
	}
	if _, ec := public.(*ecdsa.PublicKey); ec != (d == ECDSAP256) {
		return fmt.Errorf("%s isn't a dialect of the key's algorithm", d)
	}
	return nil
}

// Options is what a crypto.Signer is given to sign a SHA-256 in the dialect.
func (d Dialect) Options() crypto.SignerOpts {
	if d == RSAPSS {
		return &rsa.PSSOptions{SaltLength: SaltPSS, Hash: crypto.SHA256}
	}
	return crypto.SHA256
}

// Verify checks a signature's bytes over the SHA-256 of what was signed. It
// takes one form only: for ECDSA strict DER with nothing behind it, never r‖s;
// for PSS a salt of SaltPSS bytes.
func (d Dialect) Verify(public crypto.PublicKey, digest [sha256.Size]byte, signature []byte) error {
	if err := d.Fits(public); err != nil {
		return err
	}
	good := false
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(key, digest[:], signature)
	case *rsa.PublicKey:
		if d == RSAPSS {
			good = rsa.VerifyPSS(key, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: SaltPSS, Hash: crypto.SHA256}) == nil
		} else {
			good = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
		}
	}
	if !good {
		return fmt.Errorf("it isn't a signature of this file by this key in %s", d)
	}
	return nil
}

// Signature of an image.
type Signature struct {
	Dialect Dialect `json:"alg"`
	Salt    int     `json:"salt,omitempty"` // of RSAPSS, in bytes
	Cert    string  `json:"cert_sha256"`    // of the signer's certificate, DER
	Value   string  `json:"value"`          // Base64 (RFC 4648 §4), padded, without line breaks: what OCPP carries
}

func (s Signature) validate() error {
	if _, err := ParseDialect(string(s.Dialect)); err != nil {
		return fmt.Errorf("signatures: %w", err)
	}
	if salt := map[Dialect]int{RSAPSS: SaltPSS}[s.Dialect]; s.Salt != salt {
		return fmt.Errorf("signatures: salt of %s is %d, not %d", s.Dialect, salt, s.Salt)
	}
	if !isHex(s.Cert, sha256.Size) {
		return errors.New("signatures: cert_sha256 isn't a SHA-256 in lower-case hex")
	}
	if _, err := DecodeSignature(s.Value); err != nil {
		return fmt.Errorf("signatures: %w", err)
	}
	return nil
}

// DecodeSignature reads a signature as OCPP carries it, in its only spelling:
// decoders disagree about line breaks, missing padding and stray bits.
func DecodeSignature(value string) ([]byte, error) {
	if value == "" || len(value) > MaxSignature {
		return nil, fmt.Errorf("signature has %d characters, and OCPP's field 1 to %d", len(value), MaxSignature)
	}
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil || base64.StdEncoding.EncodeToString(raw) != value {
		return nil, errors.New("signature isn't one line of padded Base64")
	}
	return raw, nil
}

// Verify checks the signature over an image's SHA-256 by its certificate, and
// that it is this certificate's. Whether that one is trusted isn't asked.
func (s Signature) Verify(cert *x509.Certificate, digest [sha256.Size]byte) error {
	if Fingerprint(cert) != s.Cert {
		return errors.New("the release names another signing certificate")
	}
	raw, err := DecodeSignature(s.Value)
	if err != nil {
		return err
	}
	return s.Dialect.Verify(cert.PublicKey, digest, raw)
}

// Fingerprint is the SHA-256 of a certificate's DER in lower-case hex.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}
