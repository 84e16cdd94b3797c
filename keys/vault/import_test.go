package vault_test

import (
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"testing"

	"bollard/keys/vault/vaulttest"
)

// bring imports a key that was made outside Vault, as its documentation says: wrapped to
// a passing AES key, which is encrypted to Vault's wrapping key.
func bring(t *testing.T, s *vaulttest.Server, name string) error {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.Read(t.Context(), s.Token, "transit/wrapping_key")
	if err != nil {
		return err
	}
	data, _ := answer["data"].(map[string]any)
	text, _ := data["public_key"].(string)
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("Vault's wrapping key: %v", answer)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	passing := make([]byte, 32)
	if _, err := rand.Read(passing); err != nil {
		t.Fatal(err)
	}
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), passing, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Do(t.Context(), s.Token, "transit/keys/"+name+"/import", map[string]any{
		"type": "ecdsa-p256", "ciphertext": base64.StdEncoding.EncodeToString(append(sealed, wrap(t, passing, der)...)),
	})
	return err
}

// wrap is AES key wrap with padding (RFC 5649 §4.1), for more than one block.
func wrap(t *testing.T, key, plain []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	a := binary.BigEndian.AppendUint32([]byte{0xa6, 0x59, 0x59, 0xa6}, uint32(len(plain)))
	r := append(plain, make([]byte, (8-len(plain)%8)%8)...)
	for j := range 6 {
		for i := 0; i < len(r); i += 8 {
			b := append(append([]byte{}, a...), r[i:i+8]...)
			block.Encrypt(b, b)
			a = binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(b)^uint64(len(r)/8*j+i/8+1))
			copy(r[i:], b[8:])
		}
	}
	return append(a, r...)
}
