package ca

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
)

// TariffSigner signs tariffs for cars.
type TariffSigner struct {
	Certificate *x509.Certificate // of MO sub-CA 2: a car has it in its contract chain
	Key         crypto.Signer
}

// TariffSigner returns the one of a provider, mo or mo-20: its sub-CA 2, whose key
// usage has digitalSignature for that. What it signs for tariffs is a digest of EXI,
// which never is one of a certificate. ErrNoHierarchy without one.
func (a *Authority) TariffSigner(kind Kind) (*TariffSigner, error) {
	if kind != KindMO && kind != KindMO20 {
		return nil, fmt.Errorf("internal error: %s signs no tariffs", kind)
	}
	l := a.hierarchy(kind)
	by := l.issuing
	if by == nil {
		return nil, fmt.Errorf("%w: %s; make it with bollard ca create %s", ErrNoHierarchy, kind, kind)
	}
	if err := l.leads(kind); err != nil {
		return nil, err
	}
	if by.cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, errors.New("internal error: MO sub-CA 2 has no digitalSignature")
	}
	return &TariffSigner{Certificate: by.cert, Key: by.signer}, nil
}
