package approval

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// SSH signatures as OpenSSH's PROTOCOL.sshsig has them.
const (
	beginSSH = "-----BEGIN SSH SIGNATURE-----"
	endSSH   = "-----END SSH SIGNATURE-----"
	magicSSH = "SSHSIG"
	// maxSignature bounds a signature, of either kind: one with an RSA key of
	// 16,384 bits fits an armoured sshsig, and a CMS with its certificates.
	maxSignature = 64 << 10
	// userPresent is the flag of a security key that was touched.
	userPresent = 1
)

// signedSSH is the blob behind its magic.
type signedSSH struct {
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// parseSSH reads an armoured signature.
func parseSSH(text []byte) (*signedSSH, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(string(text)), beginSSH)
	if ok {
		body, ok = strings.CutSuffix(body, endSSH)
	}
	if !ok {
		return nil, errors.New("signature isn't between its BEGIN and END lines")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.Join(strings.Fields(body), ""))
	if err != nil {
		return nil, errors.New("signature isn't base64")
	}
	blob, ok := bytes.CutPrefix(raw, []byte(magicSSH))
	if !ok {
		return nil, errors.New("signature isn't an SSH signature of a file")
	}
	var s signedSSH
	if err := ssh.Unmarshal(blob, &s); err != nil {
		return nil, errors.New("SSH signature can't be read")
	}
	if s.Version != 1 {
		return nil, fmt.Errorf("SSH signature is of version %d, not 1", s.Version)
	}
	return &s, nil
}

func checkSSH(signature []byte) check {
	parsed, err := parseSSH(signature)
	if err != nil {
		return func(*Key, []byte, time.Time) (bool, error) { return false, err }
	}
	return func(k *Key, statement []byte, _ time.Time) (bool, error) {
		if k.Kind != KindSSH || !bytes.Equal(k.Data, parsed.PublicKey) {
			return false, nil
		}
		return true, parsed.verify(k, statement)
	}
}

// verify checks the signature by a key that it names.
func (s *signedSSH) verify(k *Key, statement []byte) error {
	if s.Namespace != Namespace {
		return fmt.Errorf("it is for namespace %.40q: sign with `ssh-keygen -Y sign -n %s`", s.Namespace, Namespace)
	}
	var digest []byte
	switch s.Hash {
	case "sha256":
		sum := sha256.Sum256(statement)
		digest = sum[:]
	case "sha512":
		sum := sha512.Sum512(statement)
		digest = sum[:]
	default:
		return fmt.Errorf("it uses the hash %.40q", s.Hash)
	}
	public, err := ssh.ParsePublicKey(k.Data)
	if err != nil {
		return errors.New("the registered key can't be read any more")
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal(s.Signature, &sig); err != nil {
		return errors.New("it can't be read")
	}
	if sig.Format == ssh.KeyAlgoRSA { // SHA-1 (PROTOCOL.sshsig forbids it)
		return errors.New("it uses SHA-1")
	}
	signed := append([]byte(magicSSH), ssh.Marshal(struct {
		Namespace, Reserved, Hash string
		Digest                    []byte
	}{s.Namespace, s.Reserved, s.Hash, digest})...)
	if err := public.Verify(signed, &sig); err != nil {
		return errors.New("it isn't over this statement: sign what `--print` prints, byte for byte")
	}
	touched := public.Type() == ssh.KeyAlgoSKED25519 || public.Type() == ssh.KeyAlgoSKECDSA256
	if touched && (len(sig.Rest) < 1 || sig.Rest[0]&userPresent == 0) {
		return errors.New("the security key wasn't touched")
	}
	return nil
}
