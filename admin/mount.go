package admin

import (
	"context"
	"errors"
	"time"

	"bollard/ca"
	"bollard/keys"
)

// MountCA has a hierarchy's root certify a PKI mount of a Vault.
type MountCA struct {
	Kind string `json:"kind"`
	URI  string `json:"uri"` // vault-pki:…
	CSR  []byte `json:"csr"` // the mount's
}

// MountedCA is a CA that is a PKI mount.
type MountedCA struct {
	Kind     string    `json:"kind"`
	Subject  string    `json:"subject"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
}

func (o *operations) caMount(ctx context.Context, in MountCA) (PEM, error) {
	if !keys.IsMount(in.URI) {
		return PEM{}, Usagef("such as vault-pki:address=https://vault.example:8200;mount=pki?token-source=FILE (docs/vault-ca.md)", "--uri isn't that of a PKI mount")
	}
	cert, err := o.cfg.Authority.CertifyMount(ctx, ca.Kind(in.Kind), in.URI, in.CSR, Actor(ctx))
	if err != nil {
		return PEM{}, mountRefusal(err)
	}
	return PEM{ca.PEM(cert)}, nil
}

func (o *operations) caUseMount(ctx context.Context, in KindRef) (MountedCA, error) {
	cert, err := o.cfg.Authority.UseMount(ctx, ca.Kind(in.Kind), Actor(ctx))
	if err != nil {
		return MountedCA{}, mountRefusal(err)
	}
	return MountedCA{Kind: in.Kind, Subject: cert.Subject.String(), Serial: ca.SerialOf(cert), NotAfter: cert.NotAfter}, nil
}

func mountRefusal(err error) error {
	if errors.Is(err, ca.ErrNoHierarchy) || errors.Is(err, ca.ErrNoMount) || errors.Is(err, ca.ErrRollover) || errors.Is(err, ca.ErrMountAnswer) {
		return Refusedf("docs/vault-ca.md has the steps", "%w", err)
	}
	return err
}
