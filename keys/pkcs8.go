package keys

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"

	"go.step.sm/crypto/pemutil"

	"bollard/internal/curve448"
)

// The role is kept inside the PKCS#8 structure, as the friendlyName attribute
// (RFC 5208 §5 attributes, RFC 2985 §5.5.1). So it is encrypted together with
// the key, doesn't depend on the file's name, and openssl still reads the file.

var oidFriendlyName = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 20}

const rolePrefix = "bollard role "

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

// privateKeyInfo is RFC 5208's PrivateKeyInfo.
type privateKeyInfo struct {
	Version    int
	Algorithm  asn1.RawValue
	PrivateKey []byte
	Attributes []attribute `asn1:"optional,tag:0,set"`
}

// encode returns the PEM file of a key and its role, encrypted (PBES2 with
// PBKDF2-HMAC-SHA256 and AES-256-CBC) if there is a passphrase.
func encode(private crypto.Signer, role Role, passphrase []byte) ([]byte, error) {
	plain, err := curve448.MarshalPrivateKey(private)
	if err != nil {
		return nil, err
	}
	var info privateKeyInfo
	if _, err := asn1.Unmarshal(plain, &info); err != nil {
		return nil, err
	}
	info.Attributes = []attribute{{
		Type:   oidFriendlyName,
		Values: []asn1.RawValue{{Tag: asn1.TagBMPString, Bytes: bmp(rolePrefix + string(role))}},
	}}
	der, err := asn1.Marshal(info)
	if err != nil {
		return nil, err
	}
	if len(passphrase) == 0 {
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}
	block, err := pemutil.EncryptPKCS8PrivateKey(rand.Reader, der, passphrase, x509.PEMCipherAES256)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

// encryptedBlock is the type of the PEM block of an encrypted key.
const encryptedBlock = "ENCRYPTED PRIVATE KEY"

// decode is the inverse of encode. passphrase is called only for an encrypted key.
func decode(file []byte, passphrase func() ([]byte, error)) (crypto.Signer, Role, error) {
	block, rest := pem.Decode(file)
	if block == nil || len(strings.TrimSpace(string(rest))) != 0 {
		return nil, "", errors.New("the file is not one PEM block; restore it from the backup")
	}
	private, role, err := decodePKCS8(block, passphrase)
	if err == nil && role == "" {
		err = errors.New("the key carries no role: Bollard didn't make it; create it with Bollard")
	}
	if err != nil {
		return nil, "", err
	}
	return private, role, nil
}

// decodeForeign reads what other programs write too; the role is then empty.
func decodeForeign(file []byte, passphrase func() ([]byte, error)) (crypto.Signer, Role, error) {
	block, rest := pem.Decode(file)
	if block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam -genkey
		block, rest = pem.Decode(rest)
	}
	if block == nil || len(strings.TrimSpace(string(rest))) != 0 {
		return nil, "", errors.New("the file is not one private key in PEM")
	}
	var private crypto.Signer
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return decodePKCS8(block, passphrase)
	}
	if err != nil {
		return nil, "", fmt.Errorf("the file holds no readable %s: write it as PKCS#8 with `openssl pkcs8 -topk8`", block.Type)
	}
	return private, "", nil
}

func decodePKCS8(block *pem.Block, passphrase func() ([]byte, error)) (crypto.Signer, Role, error) {
	der := block.Bytes
	switch block.Type {
	case "PRIVATE KEY":
	case encryptedBlock:
		secret, err := passphrase()
		if err != nil {
			return nil, "", err
		}
		if der, err = decrypt(der, secret); err != nil {
			return nil, "", err
		}
	default:
		return nil, "", fmt.Errorf("the file holds a PEM block of type %q, not a PKCS#8 private key", block.Type)
	}
	damaged := errors.New("the file holds no readable PKCS#8 key; restore it from the backup")
	if block.Type == encryptedBlock {
		// CBC padding fits by chance once in 256 wrong passphrases.
		damaged = ErrPassphrase
	}
	var info privateKeyInfo
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) != 0 {
		return nil, "", damaged
	}
	parsed, err := curve448.ParsePrivateKey(der)
	if err != nil {
		return nil, "", damaged
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, "", fmt.Errorf("a key of type %T can't sign", parsed)
	}
	return private, info.role(), nil
}

// decrypt turns what pemutil does with a malformed file (it panics on a cut
// ciphertext and on a wrong IV) into an error.
func decrypt(der, passphrase []byte) ([]byte, error) {
	var plain []byte
	ok := false
	func() {
		defer func() { _ = recover() }()
		out, err := pemutil.DecryptPKCS8PrivateKey(der, passphrase)
		plain, ok = out, err == nil
	}()
	if !ok {
		return nil, ErrPassphrase
	}
	return plain, nil
}

// role is what the key carries; "" if it carries none.
func (info privateKeyInfo) role() Role {
	for _, a := range info.Attributes {
		if !a.Type.Equal(oidFriendlyName) || len(a.Values) != 1 || a.Values[0].Tag != asn1.TagBMPString {
			continue
		}
		if name, ok := strings.CutPrefix(text(a.Values[0].Bytes), rolePrefix); ok && Role(name).valid() {
			return Role(name)
		}
	}
	return ""
}

// bmp encodes a string as BMPString (big-endian UTF-16).
func bmp(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = append(out, byte(u>>8), byte(u))
	}
	return out
}

func text(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		units = append(units, uint16(b[0])<<8|uint16(b[1]))
	}
	return string(utf16.Decode(units))
}
