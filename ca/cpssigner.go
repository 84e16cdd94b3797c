package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"

	"bollard/keys"
)

// CPSSigner signs what is installed in cars.
type CPSSigner struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // sub-CA 2, sub-CA 1
	Key         crypto.Signer       // role cps
}

var cpsOffice = office{
	what: "CPS", profile: func(h hierarchy) string { return h.leaves[0] }, reference: "cps:", role: keys.RoleCPS,
}

// CPSSigner returns the signer of a certificate provisioning service, cps or
// cps-20, issued or renewed if that is due. ErrNoHierarchy without one.
func (a *Authority) CPSSigner(ctx context.Context, kind Kind) (*CPSSigner, error) {
	h, err := hierarchyOf(kind)
	if err != nil {
		return nil, err
	}
	l := a.hierarchy(kind)
	if l.issuing == nil || kind != KindCPS && kind != KindCPS20 && kind != KindCPS448 {
		return nil, fmt.Errorf("%w: %s; make it with bollard ca create %s", ErrNoHierarchy, h.kind, h.kind)
	}
	if err := l.leads(kind); err != nil {
		return nil, err
	}
	signer, err := a.officer(ctx, cpsOffice, l.issuing.name)
	if err != nil {
		return nil, err
	}
	return &CPSSigner{Certificate: signer.Certificate, Chain: l.issuing.chain, Key: signer.Key}, nil
}
