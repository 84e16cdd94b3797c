package admin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"time"

	"bollard/ca"
)

// AddTrust trusts outside roots for one use.
type AddTrust struct {
	Use string `json:"use"`
	PEM []byte `json:"pem"` // one or more certificates; a single DER one is taken too
	// File is its name, for errors.
	File string `json:"file,omitempty"`
}

// RemoveTrust forgets an outside root.
type RemoveTrust struct {
	Use  string `json:"use"`
	Hash string `json:"hash"` // eight digits suffice if they are unique
}

// TrustFilter selects anchors.
type TrustFilter struct {
	Use string `json:"use,omitempty"` // empty: all
}

// Anchor is a trusted outside root.
type Anchor struct {
	Use      string    `json:"use"`
	Hash     string    `json:"sha256"`
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
	AddedAt  time.Time `json:"added_at"`
}

// Anchors is a list.
type Anchors struct {
	Anchors []Anchor `json:"anchors"`
}

func (o *operations) registerTrust(r *Registry) {
	Register(r, "ca.trust.add", o.trustAdd)
	Register(r, "ca.trust.list", o.trustList)
	Register(r, "ca.trust.remove", o.trustRemove)
}

// trustAdd checks every certificate before it adds the first.
func (o *operations) trustAdd(ctx context.Context, in AddTrust) (Anchors, error) {
	if err := knownUse(in.Use); err != nil {
		return Anchors{}, err
	}
	certs, err := parseCertificates(in.File, in.PEM)
	if err != nil {
		return Anchors{}, err
	}
	for _, c := range certs {
		if err := ca.CheckRoot(c, o.cfg.Clock()); err != nil {
			return Anchors{}, Refusedf("nothing was added", "%w", aboutFile(in.File, err))
		}
	}
	var out Anchors
	for _, c := range certs {
		a, err := o.cfg.Authority.AddAnchor(ctx, in.Use, []byte(encodePEM(c)), Actor(ctx))
		if err != nil {
			return Anchors{}, err
		}
		out.Anchors = append(out.Anchors, anchor(a))
	}
	return out, nil
}

func (o *operations) trustList(ctx context.Context, in TrustFilter) (Anchors, error) {
	if in.Use != "" {
		if err := knownUse(in.Use); err != nil {
			return Anchors{}, err
		}
	}
	list, err := o.cfg.Authority.Anchors(ctx, in.Use)
	if err != nil {
		return Anchors{}, err
	}
	out := Anchors{Anchors: make([]Anchor, len(list))}
	for i, a := range list {
		out.Anchors[i] = anchor(a)
	}
	return out, nil
}

func (o *operations) trustRemove(ctx context.Context, in RemoveTrust) (Anchor, error) {
	if err := knownUse(in.Use); err != nil {
		return Anchor{}, err
	}
	a, err := o.cfg.Authority.RemoveAnchor(ctx, in.Use, in.Hash, Actor(ctx))
	if err != nil {
		return Anchor{}, err
	}
	return anchor(a), nil
}

func knownUse(use string) error {
	if !slices.Contains(ca.AnchorUses(), use) {
		return Usagef("uses are "+strings.Join(ca.AnchorUses(), ", "), "roots can't be trusted for use %q", use)
	}
	return nil
}

func parseCertificates(file string, data []byte) ([]*x509.Certificate, error) {
	file = cmp.Or(file, "the file")
	const hint = "give a PEM file with CERTIFICATE blocks"
	if !bytes.Contains(data, []byte("-----BEGIN ")) {
		c, err := x509.ParseCertificate(data)
		if err != nil {
			return nil, Usagef(hint, "%s is neither PEM nor a DER certificate", file)
		}
		return []*x509.Certificate{c}, nil
	}
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != "CERTIFICATE" {
			return nil, Usagef(hint, "%s has a %q block", file, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, Usagef(hint, "couldn't read certificate %d of %s: %w", len(certs)+1, file, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, Usagef(hint, "there is no certificate in the file")
	}
	return certs, nil
}

func anchor(a ca.TrustAnchor) Anchor {
	view := Anchor{Use: a.Use, Hash: a.Hash, Subject: a.Subject, AddedAt: a.AddedAt}
	if c, err := x509.ParseCertificate(a.DER); err == nil {
		view.NotAfter = c.NotAfter
	}
	return view
}
