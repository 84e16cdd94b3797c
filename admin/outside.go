package admin

import (
	"context"
	"encoding/pem"
	"errors"
	"time"

	"bollard/ca"
)

// RequestCA asks for the request of a CA that others are to certify.
type RequestCA struct {
	Kind  string `json:"kind"`
	Level int    `json:"level"` // 1, 2: sub-CA; 0: the root, of a hierarchy there is
}

// ImportChain is what they made of it.
type ImportChain struct {
	Kind string `json:"kind"`
	PEM  []byte `json:"pem"` // the CA of ours first, up to the root
}

// RenewedCA is a CA below a root that got another certificate.
type RenewedCA struct {
	Kind     string    `json:"kind"`
	Name     string    `json:"name"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
}

// RenewedCAs is a list.
type RenewedCAs struct {
	Renewed []RenewedCA `json:"renewed"`
}

func (o *operations) caRequest(ctx context.Context, in RequestCA) (PEM, error) {
	der, err := o.cfg.Authority.RequestCA(ctx, ca.Kind(in.Kind), in.Level, Actor(ctx))
	if errors.Is(err, ca.ErrHierarchyExists) || errors.Is(err, ca.ErrNoHierarchy) {
		return PEM{}, Refusedf("`bollard ca show` lists the hierarchies there are", "%w", err)
	}
	if err != nil {
		return PEM{}, err
	}
	return PEM{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))}, nil
}

// caImport answers with the roots the hierarchy leads to then, the served one first.
func (o *operations) caImport(ctx context.Context, in ImportChain) (PEM, error) {
	if err := o.cfg.Authority.ImportChain(ctx, ca.Kind(in.Kind), in.PEM, Actor(ctx)); err != nil {
		return PEM{}, err
	}
	return PEM{encodePEM(o.cfg.Authority.PathRoots(ca.Kind(in.Kind))...)}, nil
}

func (o *operations) caRenew(ctx context.Context, in KindRef) (RenewedCAs, error) {
	renewed, err := o.cfg.Authority.RenewCAs(ctx, ca.Kind(in.Kind), Actor(ctx))
	out := RenewedCAs{Renewed: []RenewedCA{}}
	for _, r := range renewed {
		out.Renewed = append(out.Renewed, RenewedCA{Kind: string(r.Kind), Name: r.Name, Serial: r.Serial, NotAfter: r.NotAfter})
	}
	return out, err
}
