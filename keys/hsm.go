package keys

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/pkcs11"
	stepuri "go.step.sm/crypto/kms/uri"
)

// hsm is one logged-in token, as pkcs11.PKCS11 serves it.
type hsm interface {
	CreateKey(*apiv1.CreateKeyRequest) (*apiv1.CreateKeyResponse, error)
	CreateSigner(*apiv1.CreateSignerRequest) (crypto.Signer, error)
	Close() error
}

// dialHSM opens a token and logs in. The PIN goes to the library beside the
// URI, never in it: the library's errors repeat URIs.
func dialHSM(at hsmLocation, pin []byte) (hsm, error) {
	return pkcs11.New(context.Background(), apiv1.Options{
		Type: apiv1.PKCS11,
		URI: stepuri.New(SchemeHSM, url.Values{
			"module-path": {at.module}, at.selector: {at.token}, "max-sessions": {fmt.Sprint(hsmCalls + 2)},
		}).String(),
		Pin: string(pin),
	})
}

// objectURI is the key's own name in its token. The role is part of the label,
// so the key can't be found under another; the id is derived from it, because
// PKCS#11 pairs private and public halves by id.
func objectURI(name string, role Role) string {
	label := "bollard:" + string(role) + ":" + name
	id := sha256.Sum256([]byte(label))
	return stepuri.New(SchemeHSM, url.Values{"id": {"0x" + hex.EncodeToString(id[:16])}, "object": {label}}).String()
}

func roles() []Role { return []Role{RoleCA, RoleTLS, RoleOCSP, RoleFirmware, RoleLedger} }

// lookUp finds a key by name and role. ErrNotFound, or ErrRole if the name is
// taken by a key of another role.
func lookUp(t hsm, name string, role Role) (crypto.Signer, error) {
	signer, err := t.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: objectURI(name, role)})
	if !errors.As(err, new(apiv1.NotFoundError)) {
		return signer, err
	}
	for _, other := range roles() {
		if other == role {
			continue
		}
		_, err := t.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: objectURI(name, other)})
		if err == nil {
			return nil, fmt.Errorf("%w (%q)", ErrRole, other)
		}
		if !errors.As(err, new(apiv1.NotFoundError)) {
			return nil, err
		}
	}
	return nil, ErrNotFound
}

func hsmAlgorithm(alg Algorithm) (apiv1.SignatureAlgorithm, int, error) {
	switch alg {
	case P256:
		return apiv1.ECDSAWithSHA256, 0, nil
	case P384:
		return apiv1.ECDSAWithSHA384, 0, nil
	case P521:
		return apiv1.ECDSAWithSHA512, 0, nil
	case RSA2048:
		return apiv1.SHA256WithRSA, 2048, nil
	case RSA3072:
		return apiv1.SHA256WithRSA, 3072, nil
	}
	_, err := generate(alg) // says which are known
	return 0, 0, err
}

// keyPlace is a parsed key URI with the token it is in.
func (k *Keeper) keyPlace(uri string, role Role) (hsmLocation, *token, error) {
	at, err := parseHSM(uri)
	switch {
	case err != nil:
		return at, nil, err
	case at.name == "":
		return at, nil, errors.New("key URI pkcs11: it names no key; add ;object=NAME")
	case !role.valid():
		return at, nil, fmt.Errorf("key %s: unknown role %q", uri, role)
	case role == RoleTLS || role == RoleSSH:
		// RSA key exchange (TLS_RSA_WITH_*, which OCPP demands) needs
		// decryption in every handshake; a stranger's handshakes must not
		// keep the module of the CA busy. The same is true of SSH.
		return at, nil, fmt.Errorf("key %s: keys of TLS and SSH are kept in files; use a %s: URI", uri, SchemeSoft)
	}
	return at, k.hsm.token(at, k.pinOf(at)), nil
}

func (k *Keeper) createInHSM(ctx context.Context, uri string, role Role, alg Algorithm) (Signer, error) {
	at, t, err := k.keyPlace(uri, role)
	if err != nil {
		return nil, fmt.Errorf("couldn't create a key: %w", err)
	}
	signature, bits, err := hsmAlgorithm(alg)
	if err != nil {
		return nil, fmt.Errorf("couldn't create key %s: %w", uri, err)
	}
	// Making and looking first are one step: all calls of the module wait. An HSM
	// takes seconds for an RSA key: the keys made before it aren't counted.
	public, err := loggedIn(ctx, t, hsmCalls, func(l *login) (crypto.PublicKey, error) {
		switch _, err := l.find(at.name, role); {
		case err == nil || errors.Is(err, ErrRole):
			return nil, ErrExists
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
		made, err := l.hsm.CreateKey(&apiv1.CreateKeyRequest{Name: objectURI(at.name, role), SignatureAlgorithm: signature, Bits: bits})
		if err != nil {
			return nil, err
		}
		return made.PublicKey, nil
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't create key %s: %w", uri, err)
	}
	return t.signer(at, role, uri, public), nil
}

func (k *Keeper) openInHSM(ctx context.Context, uri string, role Role) (Signer, error) {
	at, t, err := k.keyPlace(uri, role)
	if err != nil {
		return nil, fmt.Errorf("couldn't open a key: %w", err)
	}
	public, err := use(ctx, t, func(l *login) (crypto.PublicKey, error) {
		found, err := l.find(at.name, role)
		if err != nil {
			return nil, err
		}
		return found.Public(), nil
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't open key %s for %q: %w", uri, role, err)
	}
	return t.signer(at, role, uri, public), nil
}

// OpenLater returns the signer of a key in a token that is ErrUnavailable now:
// its public key is known, from its certificate, and each use of it looks for
// the token again.
func (k *Keeper) OpenLater(uri string, role Role, public crypto.PublicKey) (Signer, error) {
	at, t, err := k.keyPlace(uri, role)
	if err != nil {
		return nil, fmt.Errorf("couldn't open a key: %w", err)
	}
	return t.signer(at, role, uri, public), nil
}

// signer signs in the token. The key belongs to the login, not to the signer:
// its handle doesn't outlive the former, and a token that came back may hold
// another key under the name.
func (t *token) signer(at hsmLocation, role Role, uri string, public crypto.PublicKey) Signer {
	return &signer{public: public, role: role, uri: uri, sign: func(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
		sig, err := use(context.Background(), t, func(l *login) ([]byte, error) {
			key, err := l.find(at.name, role)
			if errors.Is(err, ErrNotFound) {
				err = errKeyGone // it was there: look again after a new login
			}
			if err != nil {
				return nil, err
			}
			if same, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !same.Equal(public) {
				return nil, errOtherKey
			}
			return key.Sign(rand, digest, opts)
		})
		if err != nil {
			return nil, fmt.Errorf("couldn't sign with key %s: %w", uri, err)
		}
		return sig, nil
	}}
}
