package keys

import (
	"crypto"
	"crypto/rsa"
	"io"
	"log/slog"
)

// Signer is a private key bound to its role. An RSA signer of RoleTLS is a
// crypto.Decrypter too, for the RSA key exchange suites OCPP demands.
type Signer interface {
	crypto.Signer
	Role() Role
	URI() string
}

// signer holds the private key in closures only: neither reflection, nor fmt
// with any verb, nor an encoder finds it, wherever the signer is embedded.
type signer struct {
	public crypto.PublicKey
	sign   func(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error)
	role   Role
	uri    string
}

// decrypter is a signer for TLS_RSA_WITH_* key exchange.
type decrypter struct {
	*signer
	decrypt func(rand io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error)
}

func newSigner(private crypto.Signer, role Role, uri string) Signer {
	s := &signer{public: private.Public(), sign: private.Sign, role: role, uri: uri}
	if key, ok := private.(*rsa.PrivateKey); ok && role == RoleTLS {
		return &decrypter{signer: s, decrypt: key.Decrypt}
	}
	return s
}

func (s *signer) Public() crypto.PublicKey { return s.public }
func (s *signer) Role() Role               { return s.role }
func (s *signer) URI() string              { return s.uri }

func (s *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.sign(rand, digest, opts)
}

// String names the key, never its value.
func (s *signer) String() string       { return string(s.role) + " key " + s.uri }
func (s *signer) GoString() string     { return s.String() }
func (s *signer) LogValue() slog.Value { return slog.StringValue(s.String()) }

func (d *decrypter) Decrypt(rand io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return d.decrypt(rand, msg, opts)
}
