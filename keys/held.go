package keys

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"strings"
)

// hsm is one login to where keys are that never leave: a token, a TPM, a Vault or a cloud.
type hsm interface {
	create(name string, role Role, alg Algorithm) (crypto.PublicKey, error)
	find(name string, role Role) (crypto.Signer, error) // ErrNotFound
	// custody is what is said of a key's leaving: see Custody.
	custody(name string, role Role) (string, error)
	Close() error
}

// label is a key's own name where it is kept. The role is part of it, so the key can't
// be found under another.
func label(name string, role Role, separator string) string {
	return strings.Join([]string{"bollard", string(role), name}, separator)
}

// lookUp finds a key by name and role. ErrNotFound, or ErrRole if the name is
// taken by a key of another role.
func lookUp(t hsm, name string, role Role) (crypto.Signer, error) {
	signer, err := t.find(name, role)
	if !errors.Is(err, ErrNotFound) {
		return signer, err
	}
	for _, other := range roles() {
		if other == role {
			continue
		}
		switch _, err := t.find(name, other); {
		case err == nil || errors.Is(err, ErrPIN): // a TPM's key of a role whose PIN is another
			return nil, fmt.Errorf("%w (%q)", ErrRole, other)
		case errors.Is(err, ErrDenied): // not to be seen by this login: none of ours
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}
	return nil, ErrNotFound
}

// keyPlace is a parsed key URI with the token it is in.
func (k *Keeper) keyPlace(uri string, role Role) (string, *token, error) {
	at, err := parsePlace(uri)
	if err != nil {
		return "", nil, err
	}
	name := at.key()
	switch {
	case name == "":
		return "", nil, fmt.Errorf("key URI %s: it names no key; add ;object=NAME", at.scheme())
	case !role.valid():
		return "", nil, fmt.Errorf("key %s: unknown role %q", uri, role)
	case role == RoleTLS || role == RoleSSH || role == RoleAccount:
		// RSA key exchange (TLS_RSA_WITH_*, which OCPP demands) needs
		// decryption in every handshake; a stranger's handshakes must not
		// keep the module of the CA busy. The same is true of SSH.
		return "", nil, fmt.Errorf("key %s: keys of TLS, SSH and accounts are kept in files; use a %s: URI", uri, SchemeSoft)
	case !built(at):
		return "", nil, errNotBuilt(at)
	}
	return name, k.hsm.token(at.named("").of(role), k.cfg.PIN), nil
}

func (k *Keeper) createHeld(ctx context.Context, uri string, role Role, alg Algorithm) (Signer, error) {
	name, t, err := k.keyPlace(uri, role)
	if err != nil {
		return nil, fmt.Errorf("couldn't create a key: %w", err)
	}
	if !alg.held() {
		return nil, fmt.Errorf("couldn't create key %s: unknown algorithm %q (known: p256, p384, p521, rsa2048, rsa3072)", uri, alg)
	}
	// Making and looking first are one step: all calls of the module wait. An HSM
	// takes seconds for an RSA key: the keys made before it aren't counted.
	public, err := loggedIn(ctx, t, t.m.calls, func(l *login) (crypto.PublicKey, error) {
		switch _, err := l.find(name, role); {
		case err == nil || errors.Is(err, ErrRole):
			return nil, ErrExists
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
		return l.hsm.create(name, role, alg)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't create key %s: %w", uri, err)
	}
	return t.signer(name, role, uri, public), nil
}

func (k *Keeper) openHeld(ctx context.Context, uri string, role Role) (Signer, error) {
	name, t, err := k.keyPlace(uri, role)
	if err != nil {
		return nil, fmt.Errorf("couldn't open a key: %w", err)
	}
	public, err := use(ctx, t, func(l *login) (crypto.PublicKey, error) {
		found, err := l.find(name, role)
		if err != nil {
			return nil, err
		}
		return found.Public(), nil
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't open key %s for %q: %w", uri, role, err)
	}
	return t.signer(name, role, uri, public), nil
}

// OpenLater returns the signer of a key in a token that is ErrUnavailable now:
// its public key is known, from its certificate, and each use of it looks for
// the token again.
func (k *Keeper) OpenLater(uri string, role Role, public crypto.PublicKey) (Signer, error) {
	name, t, err := k.keyPlace(uri, role)
	if err != nil {
		return nil, fmt.Errorf("couldn't open a key: %w", err)
	}
	return t.signer(name, role, uri, public), nil
}

// signer signs in the token. The key belongs to the login, not to the signer:
// its handle doesn't outlive the former, and a token that came back may hold
// another key under the name.
func (t *token) signer(name string, role Role, uri string, public crypto.PublicKey) Signer {
	return &signer{public: public, role: role, uri: uri, sign: func(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
		sig, err := use(context.Background(), t, func(l *login) ([]byte, error) {
			key, err := l.find(name, role)
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
