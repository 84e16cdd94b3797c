package approval

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Kind of a person's key.
type Kind string

// An SSH key signs by sshsig, the key of an X.509 certificate by CMS.
const (
	KindSSH  Kind = "ssh"
	KindX509 Kind = "x509"
)

// minRSA is the smallest RSA key that approves (A00.FR.501 has 2048 for
// stations; people's keys are newer).
const minRSA = 3072

// Key is a public key as it was registered.
type Key struct {
	Kind Kind   `json:"kind"`
	ID   string `json:"id"`   // SHA256:… as ssh-keygen prints it, or the certificate's SHA-256 in hex
	Data []byte `json:"data"` // SSH wire format, or the certificate's DER
}

// check judges whether a signature was made by a key; mine is false if it is
// another's, with an error if it can be nobody's.
type check func(k *Key, statement []byte, now time.Time) (mine bool, err error)

// ParseSSH reads one line of an authorized_keys or .pub file.
func ParseSSH(text []byte) (Key, error) {
	public, _, options, rest, err := ssh.ParseAuthorizedKey(text)
	switch {
	case err != nil:
		return Key{}, errors.New("couldn't read an SSH public key: give the .pub file")
	case len(bytes.TrimSpace(rest)) > 0:
		return Key{}, errors.New("there is more than one SSH key: give one")
	case len(options) > 0:
		return Key{}, errors.New("the SSH key has options: give the .pub file as ssh-keygen wrote it")
	}
	if err := strong(public); err != nil {
		return Key{}, err
	}
	return Key{Kind: KindSSH, ID: ssh.FingerprintSHA256(public), Data: public.Marshal()}, nil
}

// strong refuses kinds of keys that don't sign approvals: DSA, small RSA, and
// certificates, whose signer isn't asked here.
func strong(public ssh.PublicKey) error {
	switch public.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		if crypto, ok := public.(ssh.CryptoPublicKey); ok {
			if key, ok := crypto.CryptoPublicKey().(*rsa.PublicKey); ok && key.N.BitLen() >= minRSA {
				return nil
			}
		}
		return fmt.Errorf("an RSA key needs %d bits", minRSA)
	}
	return fmt.Errorf("SSH keys of kind %.40q don't approve: use ed25519, ecdsa, their sk- forms, or rsa", public.Type())
}

// ParseX509 reads a certificate, PEM or DER. It is taken as it is: who issued
// it, and whether that issuer has revoked it, isn't asked.
func ParseX509(data []byte) (Key, error) {
	if block, rest := pem.Decode(data); block != nil {
		if block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
			return Key{}, errors.New("give one PEM certificate, without its key or chain")
		}
		data = block.Bytes
	}
	cert, err := x509.ParseCertificate(data)
	if err != nil {
		return Key{}, errors.New("couldn't read a certificate, PEM or DER")
	}
	switch public := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSA {
			return Key{}, fmt.Errorf("an RSA key needs %d bits", minRSA)
		}
	default:
		return Key{}, errors.New("certificates of ECDSA and RSA keys approve; for Ed25519 register an SSH key")
	}
	sum := sha256.Sum256(cert.Raw)
	return Key{Kind: KindX509, ID: hex.EncodeToString(sum[:]), Data: cert.Raw}, nil
}

// isSSH tells the two kinds of signatures apart.
func isSSH(signature []byte) bool {
	return strings.HasPrefix(strings.TrimSpace(string(signature)), beginSSH)
}
