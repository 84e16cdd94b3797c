package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"bollard/keys/vault"
)

// vaultCalls is how many requests of one login run at a time.
const vaultCalls = 64

// maxRoots bounds a file with CA certificates.
const maxRoots = 1 << 20

// secret is what the files of the login hold, apart by a byte none of them has.
func (at vaultLocation) secret(func() ([]byte, error)) ([]byte, error) {
	var parts [][]byte
	for _, f := range []struct {
		what, path    string
		private, text bool
	}{
		{"token of Vault", at.token, true, true},
		{"role id of Vault", at.roleID, false, true},
		{"secret id of Vault", at.secretID, true, true},
		{"token of Kubernetes", at.jwt, false, true}, // kubelet writes it for the pod's user
		{"certificate for Vault", at.cert, false, false},
		{"key for Vault", at.certKey, true, false},
	} {
		if f.path == "" {
			continue
		}
		read := readFile
		if f.text {
			read = readSecret
		}
		part, err := read(f.what, f.path, maxCredential, f.private)
		if err == nil && (len(part) == 0 || bytes.Contains(part, []byte{0})) {
			err = fmt.Errorf("%s must hold the %s", f.path, f.what)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrLogin, err)
		}
		parts = append(parts, part)
	}
	return bytes.Join(parts, []byte{0}), nil
}

// dial logs in to Vault.
func (at vaultLocation) dial(secret []byte, of Config) (hsm, error) {
	timeout := of.HSMTimeout
	method, err := at.method()
	if err != nil {
		return nil, err
	}
	cfg := vault.Config{
		Address: at.address, Namespace: at.namespace, Mount: at.mount, Calls: vaultCalls, Limit: timeout, Log: slog.New(slog.DiscardHandler),
		Login: vault.Login{Method: method, Mount: at.authMount, Role: at.authRole},
	}
	if at.pki {
		cfg.Answer = vault.MaxList
	}
	if at.roots != "" {
		pem, err := readFile("CA certificates of Vault", at.roots, maxRoots, false)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrLogin, err)
		}
		cfg.Roots = x509.NewCertPool()
		if !cfg.Roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s holds no certificates in PEM", ErrLogin, at.roots)
		}
	}
	first, second, two := bytes.Cut(secret, []byte{0})
	switch {
	case method == vault.MethodCert:
		pair, err := tls.X509KeyPair(first, second)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate and key of the login don't fit: %w", ErrLogin, err)
		}
		cfg.Client = &pair
	case two:
		cfg.Login.ID, cfg.Login.Secret = string(first), string(second)
	default:
		cfg.Login.Secret = string(first)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	client, err := vault.Open(ctx, cfg)
	if err != nil {
		return nil, vaultFault(err)
	}
	return vaultLogin{client, timeout}, nil
}

// vaultLogin is a login to Vault.
type vaultLogin struct {
	client  *vault.Client
	timeout time.Duration
}

var vaultTypes = map[Algorithm]string{
	P256: vault.TypeP256, P384: vault.TypeP384, P521: vault.TypeP521, RSA2048: vault.TypeRSA2048, RSA3072: vault.TypeRSA3072,
}

func (l vaultLogin) create(name string, role Role, alg Algorithm) (crypto.PublicKey, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	made, err := l.client.Create(ctx, label(name, role, "-"), vaultTypes[alg])
	if err != nil {
		return nil, vaultFault(err)
	}
	return made.Public(), nil
}

func (l vaultLogin) find(name string, role Role) (crypto.Signer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	key, err := l.client.Key(ctx, label(name, role, "-"))
	if err != nil {
		return nil, vaultFault(err)
	}
	return vaultSigner{key, l.timeout}, nil
}

func (l vaultLogin) custody(name string, role Role) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	key, err := l.client.Key(ctx, label(name, role, "-"))
	if err != nil {
		return "", vaultFault(err)
	}
	return "no: " + key.Kept(), nil
}

func (l vaultLogin) Close() error { return l.client.Close() }

type vaultSigner struct {
	key     *vault.Key
	timeout time.Duration
}

func (s vaultSigner) Public() crypto.PublicKey { return s.key.Public() }

func (s vaultSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	sig, err := s.key.Sign(ctx, digest, opts)
	if err != nil {
		return nil, vaultFault(err)
	}
	return sig, nil
}

// vaultFault says which of this package's errors one of Vault's is. A token that is no
// longer good is neither: it takes a new login. A Vault that is away keeps the login:
// what its credentials were good for, such as a secret id of few uses, isn't lost.
func vaultFault(err error) error {
	for theirs, ours := range map[error]error{
		vault.ErrNotFound: ErrNotFound, vault.ErrDenied: ErrDenied, vault.ErrLogin: ErrLogin, vault.ErrUnfit: ErrUnfit,
	} {
		if errors.Is(err, theirs) {
			return both{ours, err}
		}
	}
	if errors.Is(err, vault.ErrToken) {
		return err
	}
	return fmt.Errorf("%w: %w", unavailable(vaultLocation{}.kind()), err)
}

// both is an error of another package's that is one of this package's too.
type both struct{ ours, theirs error }

func (b both) Error() string   { return b.theirs.Error() }
func (b both) Unwrap() []error { return []error{b.ours, b.theirs} }
