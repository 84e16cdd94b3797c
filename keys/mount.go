package keys

import (
	"context"
	"errors"
	"fmt"

	"bollard/keys/vault"
)

// MountOrder asks a mount for one certificate.
type MountOrder = vault.Order

// Mount is a PKI mount of a Vault: a CA that issues itself. It is logged in to as keys in
// Vault are, and its errors are theirs: ErrUnavailable is worth trying again, and leaves
// open whether the mount did what was asked.
type Mount struct {
	t    *token
	at   vaultLocation
	name string // for people
}

// Mount returns the PKI mount of a vault-pki: URI, to use as a CA. It asks nothing of it.
func (k *Keeper) Mount(uri string) (*Mount, error) {
	if !IsMount(uri) {
		return nil, fmt.Errorf("%q isn't the URI of a PKI mount: %s:…", uri, SchemeMount)
	}
	at, err := parseMount(uri)
	if err != nil {
		return nil, err
	}
	of, _ := at.of(RoleCA).(vaultLocation)
	return &Mount{t: k.hsm.token(of, nil), at: of, name: fmt.Sprintf("the PKI mount %s of %s", of.mount, of.address)}, nil
}

// Role is that of the mount which sets the names of certificates; "" without one.
func (m *Mount) Role() string { return m.at.signRole }

// String names the mount.
func (m *Mount) String() string { return m.name }

// Issuer returns the certificate (DER) that it issues with.
func (m *Mount) Issuer(ctx context.Context) ([]byte, error) {
	return ask(ctx, m, "read its certificate", (*vault.Client).Issuer)
}

// Sign has a certificate issued, and returns its DER, unjudged.
func (m *Mount) Sign(ctx context.Context, o MountOrder) ([]byte, error) {
	return ask(ctx, m, "have a certificate issued", func(c *vault.Client, ctx context.Context) ([]byte, error) { return c.Sign(ctx, o) })
}

// Certificate returns one that it issued (DER), by the octets of its serial number.
// ErrNotFound.
func (m *Mount) Certificate(ctx context.Context, serial []byte) ([]byte, error) {
	return ask(ctx, m, "read a certificate", func(c *vault.Client, ctx context.Context) ([]byte, error) {
		return c.Certificate(ctx, vault.Serial(serial))
	})
}

// Serials returns the octets of the serial numbers of what it issued.
func (m *Mount) Serials(ctx context.Context) ([][]byte, error) {
	return ask(ctx, m, "list its certificates", (*vault.Client).Serials)
}

// Revoke has it revoke one; one that is revoked stays so.
func (m *Mount) Revoke(ctx context.Context, serial []byte) error {
	_, err := ask(ctx, m, "have a certificate revoked", func(c *vault.Client, ctx context.Context) (struct{}, error) {
		return struct{}{}, c.Revoke(ctx, vault.Serial(serial))
	})
	return err
}

// RevokeShown has it revoke one (DER) that it issued and didn't keep.
func (m *Mount) RevokeShown(ctx context.Context, der []byte) error {
	_, err := ask(ctx, m, "have a certificate revoked", func(c *vault.Client, ctx context.Context) (struct{}, error) {
		return struct{}{}, c.RevokeShown(ctx, der)
	})
	return err
}

// Revocations returns its revocation list (DER), unjudged.
func (m *Mount) Revocations(ctx context.Context) ([]byte, error) {
	return ask(ctx, m, "read its revocation list", (*vault.Client).Revocations)
}

// ask puts one question to a mount, within the timeout.
func ask[T any](ctx context.Context, m *Mount, what string, f func(*vault.Client, context.Context) (T, error)) (T, error) {
	out, err := use(ctx, m.t, func(l *login) (T, error) {
		var none T
		in, ok := l.hsm.(vaultLogin)
		if !ok {
			return none, errors.New("internal error: the login of a mount isn't one to Vault")
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), in.timeout)
		defer cancel()
		out, err := f(in.client, ctx)
		if err != nil {
			return none, vaultFault(err)
		}
		return out, nil
	})
	if err != nil {
		return out, fmt.Errorf("couldn't %s at %s: %w", what, m.name, err)
	}
	return out, nil
}
