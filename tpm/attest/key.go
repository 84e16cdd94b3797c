package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// AK is an attestation key by its public area: one with which a TPM signs what it says
// itself, and nothing that is brought to it.
type AK struct {
	public crypto.PublicKey
	name   []byte
}

// ParseAK reads a TPMT_PUBLIC and holds it against what an attestation key must be
// (TPM 2.0 part 1 §31): whoever could sign with it what he likes could write statements.
func ParseAK(area []byte) (*AK, error) {
	p, public, name, err := publicArea(area)
	if err != nil {
		return nil, err
	}
	a := p.ObjectAttributes
	switch {
	case !a.Restricted || !a.SignEncrypt || a.Decrypt:
		return nil, fmt.Errorf("%w: an attestation key is restricted, and only signs", ErrKey)
	case !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin:
		return nil, fmt.Errorf("%w: an attestation key is made in its TPM and never leaves it (sensitiveDataOrigin, fixedTPM, fixedParent)", ErrKey)
	}
	if err := attestationScheme(p); err != nil {
		return nil, err
	}
	return &AK{public, name}, nil
}

// Public is the key that statements verify with.
func (a *AK) Public() crypto.PublicKey { return a.public }

// publicArea reads a TPMT_PUBLIC with a key that crypto knows, and its Name.
func publicArea(area []byte) (*tpm2.TPMTPublic, crypto.PublicKey, []byte, error) {
	p, err := structure[tpm2.TPMTPublic]("a public area", area)
	if err != nil {
		return nil, nil, nil, err
	}
	if _, known := hashes[p.NameAlg]; !known {
		return nil, nil, nil, fmt.Errorf("%w: its name is made with a hash weaker than SHA-256, or none", ErrKey)
	}
	public, err := tpm2.Pub(*p)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	switch key := public.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < 2048 || bits > 4096 || key.E != 65537 {
			return nil, nil, nil, fmt.Errorf("%w: RSA with %d bits and exponent %d", ErrKey, bits, key.E)
		}
	case *ecdsa.PublicKey:
		if _, err := key.ECDH(); err != nil {
			return nil, nil, nil, fmt.Errorf("%w: its point isn't on its curve", ErrKey)
		}
	}
	name, err := tpm2.ObjectName(p)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return p, public, name.Buffer, nil
}

// attestationScheme: a restricted key has one way to sign, for good.
func attestationScheme(p *tpm2.TPMTPublic) error {
	var hash tpm2.TPMIAlgHash
	if r, err := p.Parameters.RSADetail(); err == nil {
		if s, err := r.Scheme.Details.RSASSA(); err == nil {
			hash = s.HashAlg
		} else if s, err := r.Scheme.Details.RSAPSS(); err == nil {
			hash = s.HashAlg
		}
	} else if e, err := p.Parameters.ECCDetail(); err == nil {
		if s, err := e.Scheme.Details.ECDSA(); err == nil {
			hash = s.HashAlg
		}
	}
	if _, known := hashes[hash]; !known {
		return fmt.Errorf("%w: an attestation key signs by RSASSA, RSAPSS or ECDSA with SHA-256 or stronger", ErrKey)
	}
	return nil
}

// secretSize: what a credential can carry is bounded by the hash of the EK's name.
const secretSize = 32

// Challenge is a secret which only the TPM of an endorsement key can tell, and only
// while it holds the attestation key it was made for (TPM2_ActivateCredential).
type Challenge struct {
	Secret     []byte // kept here
	Credential []byte // TPM2B_ID_OBJECT
	Encrypted  []byte // TPM2B_ENCRYPTED_SECRET
}

// NewChallenge makes one. The attestation key's name is part of it, and with that
// each of its attributes.
func NewChallenge(random io.Reader, k EK, a *AK) (Challenge, error) {
	area, err := k.area()
	if err != nil {
		return Challenge{}, err
	}
	to, err := tpm2.ImportEncapsulationKey(&area)
	if err != nil {
		return Challenge{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	c := Challenge{Secret: make([]byte, secretSize)}
	if _, err := io.ReadFull(random, c.Secret); err != nil {
		return Challenge{}, fmt.Errorf("couldn't draw a challenge: %w", err)
	}
	credential, encrypted, err := tpm2.CreateCredential(random, to, a.name, c.Secret)
	if err != nil {
		return Challenge{}, fmt.Errorf("couldn't make a challenge: %w", err)
	}
	c.Credential = tpm2.Marshal(tpm2.TPM2BIDObject{Buffer: credential})
	c.Encrypted = tpm2.Marshal(tpm2.TPM2BEncryptedSecret{Buffer: encrypted})
	return c, nil
}

// area is what stands in the templates of endorsement keys of that kind: the name's
// hash and the symmetric cipher (TCG EK Credential Profile, B.3.3, B.3.4 and B.4.5).
func (k EK) area() (tpm2.TPMTPublic, error) {
	cipher := func(bits tpm2.TPMKeyBits) tpm2.TPMTSymDefObject {
		return tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgAES, KeyBits: tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, bits), Mode: tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB)}
	}
	switch key := k.public.(type) {
	case *rsa.PublicKey:
		return tpm2.TPMTPublic{
			Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{Symmetric: cipher(128), KeyBits: 2048}),
			Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()}),
		}, nil
	case *ecdsa.PublicKey:
		raw, err := key.Bytes()
		if err != nil {
			return tpm2.TPMTPublic{}, fmt.Errorf("%w: %w", ErrKey, err)
		}
		curve, hash, bits := tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256, tpm2.TPMKeyBits(128)
		if len(raw) > 65 {
			curve, hash, bits = tpm2.TPMECCNistP384, tpm2.TPMAlgSHA384, 256
		}
		half := len(raw) / 2
		return tpm2.TPMTPublic{
			Type: tpm2.TPMAlgECC, NameAlg: hash,
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{Symmetric: cipher(bits), CurveID: curve}),
			Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
				X: tpm2.TPM2BECCParameter{Buffer: raw[1 : 1+half]}, Y: tpm2.TPM2BECCParameter{Buffer: raw[1+half:]},
			}),
		}, nil
	}
	return tpm2.TPMTPublic{}, errors.New("internal error: an endorsement key that NewEK didn't make")
}

// Certificate verifies an attestation key's certificate, leaf first, against the CAs
// that give them out, and returns the key.
func Certificate(chain []*x509.Certificate, roots []*x509.Certificate, now time.Time) (crypto.PublicKey, error) {
	if len(chain) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrCertificate)
	}
	leaf := chain[0]
	if leaf.IsCA || !slices.ContainsFunc(leaf.UnknownExtKeyUsage, oidAttestation.Equal) {
		return nil, fmt.Errorf("%w: it isn't for an attestation key (no extended key usage 2.23.133.8.3)", ErrCertificate)
	}
	trusted, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range roots {
		trusted.AddCert(c)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: trusted, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return leaf.PublicKey, nil
}

// Certified is a TPM's statement about one of its keys (TPM2_Certify).
type Certified struct {
	Public    []byte // TPMT_PUBLIC of the key
	Statement []byte // TPMS_ATTEST
	Signature []byte // TPMT_SIGNATURE of the attestation key
}

// Key is the key it is about, by its own word.
func (c Certified) Key() (crypto.PublicKey, error) {
	_, public, _, err := publicArea(c.Public)
	return public, err
}

// Verify says whether key was made in the TPM of an attestation key, for its use
// there alone, in answer to a nonce.
func (c Certified) Verify(ak, key crypto.PublicKey, nonce []byte) error {
	said, _, err := statement(ak, tpm2.TPMSTAttestCertify, c.Statement, c.Signature)
	if err != nil {
		return err
	}
	p, public, name, err := publicArea(c.Public)
	if err != nil {
		return err
	}
	if len(nonce) == 0 || subtle.ConstantTimeCompare(said.ExtraData.Buffer, nonce) != 1 {
		return fmt.Errorf("%w: its qualifyingData isn't what was asked for", ErrNonce)
	}
	info, err := said.Attested.Certify()
	if err != nil || !bytes.Equal(info.Name.Buffer, name) {
		return fmt.Errorf("%w: its name isn't that of the public area", ErrOtherKey)
	}
	if same, ok := public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !same.Equal(key) {
		return fmt.Errorf("%w than the one a certificate is asked for", ErrOtherKey)
	}
	if a := p.ObjectAttributes; !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.SignEncrypt {
		return fmt.Errorf("%w: an attested key signs, was made in its TPM and never leaves it (sign, sensitiveDataOrigin, fixedTPM, fixedParent)", ErrKey)
	}
	return nil
}
