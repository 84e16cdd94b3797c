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
	// NewKey: for one more key of a CA that others certify.
	NewKey bool `json:"new_key,omitempty"`
	// CA names the one of a hierarchy there is, such as one whose key moved; "": that at Level.
	CA string `json:"ca,omitempty"`
}

// ImportChain is what they made of it.
type ImportChain struct {
	Kind string `json:"kind"`
	PEM  []byte `json:"pem"`            // the CA of ours first, up to the root
	File string `json:"file,omitempty"` // its name, for errors
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
	var der []byte
	var err error
	if in.CA != "" {
		der, err = o.cfg.Authority.RequestNamed(ctx, ca.Kind(in.Kind), in.CA, Actor(ctx))
	} else {
		der, err = o.cfg.Authority.RequestCA(ctx, ca.Kind(in.Kind), in.Level, in.NewKey, Actor(ctx))
	}
	if errors.Is(err, ca.ErrHierarchyExists) || errors.Is(err, ca.ErrNoHierarchy) {
		return PEM{}, Refusedf("`bollard ca show` lists the hierarchies there are", "%w", err)
	}
	if err != nil {
		return PEM{}, err
	}
	return PEM{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))}, nil
}

// ChainRef names one by its hash, or by the first eight digits.
type ChainRef struct {
	Kind string `json:"kind"`
	Hash string `json:"hash,omitempty"`
}

// Chain is what others made of a CA of ours.
type Chain struct {
	Kind     string    `json:"kind"`
	Hash     string    `json:"hash"`
	CA       string    `json:"ca"`
	Root     string    `json:"root"`
	NotAfter time.Time `json:"not_after"` // of the CA's certificate
	Trusted  bool      `json:"trusted"`   // its root still is
	Over     bool      `json:"over"`      // one of its certificates has ended
}

// Chains is a list, in the order in which they count.
type Chains struct {
	Chains []Chain `json:"chains"`
}

func chainView(c ca.ImportedChain) Chain {
	return Chain{Kind: string(c.Kind), Hash: c.Hash, CA: c.CA.Subject.String(), Root: c.Root.Subject.String(), NotAfter: c.CA.NotAfter, Trusted: c.Trusted, Over: c.Over}
}

func (o *operations) caChains(ctx context.Context, in ChainRef) (Chains, error) {
	list, err := o.cfg.Authority.Chains(ctx, ca.Kind(in.Kind))
	out := Chains{Chains: []Chain{}}
	for _, c := range list {
		out.Chains = append(out.Chains, chainView(c))
	}
	return out, err
}

func (o *operations) caRemoveChain(ctx context.Context, in ChainRef) (Chain, error) {
	gone, err := o.cfg.Authority.RemoveChain(ctx, ca.Kind(in.Kind), in.Hash, Actor(ctx))
	if errors.Is(err, ca.ErrOnlyChain) {
		return Chain{}, Refusedf("`bollard ca request "+in.Kind+"` asks for another one, `bollard ca trust remove` ends the trust in a root", "%w", err)
	}
	if err != nil {
		return Chain{}, err
	}
	return chainView(gone), nil
}

// caImport answers with the roots the hierarchy leads to then, the served one first.
func (o *operations) caImport(ctx context.Context, in ImportChain) (PEM, error) {
	if err := o.cfg.Authority.ImportChain(ctx, ca.Kind(in.Kind), in.PEM, Actor(ctx)); err != nil {
		return PEM{}, aboutFile(in.File, err)
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

// ImportList is the newest revocation list of an offline root.
type ImportList struct {
	Kind string `json:"kind"`
	List []byte `json:"list"`           // PEM or DER
	File string `json:"file,omitempty"` // its name, for errors
	// Force takes it in though it revokes a CA in force, or lacks what the one before has.
	Force bool `json:"force,omitempty"`
}

// RootLists are those that are served for offline roots.
type RootLists struct {
	Lists []RootList `json:"lists"`
}

// RootList is one; without an end there is none.
type RootList struct {
	Root  string     `json:"root"` // its name here
	Until *time.Time `json:"until,omitempty"`
	// Revokes are CAs in force that it revokes: whoever reads it follows nothing they issued.
	Revokes []string `json:"revokes,omitempty"`
}

func (o *operations) caImportList(ctx context.Context, in ImportList) (RootLists, error) {
	_, err := o.cfg.Authority.ImportList(ctx, ca.Kind(in.Kind), in.List, in.Force, Actor(ctx))
	if errors.Is(err, ca.ErrListRevokes) {
		return RootLists{}, Refusedf("whoever reads it follows nothing that was issued below: take another certificate of it in first (`bollard ca request "+in.Kind+" --ca NAME`, a ceremony, `bollard ca import-chain "+in.Kind+" FILE`); --force takes the list in all the same", "%w", err)
	}
	if errors.Is(err, ca.ErrListForgets) {
		return RootLists{}, Refusedf("it was signed in an older copy of the root's folder: sign one in the newest, or revoke them once more there; --force takes the list in all the same", "%w", err)
	}
	if err != nil {
		return RootLists{}, aboutFile(in.File, err)
	}
	return o.caLists(ctx, KindRef{Kind: in.Kind})
}

func (o *operations) caLists(ctx context.Context, in KindRef) (RootLists, error) {
	list, err := o.cfg.Authority.RootLists(ctx, ca.Kind(in.Kind))
	out := RootLists{Lists: []RootList{}}
	for _, l := range list {
		out.Lists = append(out.Lists, RootList{Root: l.Issuer, Until: instant(l.NextUpdate), Revokes: l.Revokes})
	}
	return out, err
}
