package contract

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"bollard/ca"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/iso15118/signature"
	"bollard/ledger"
)

// CPS is a certificate provisioning service elsewhere, which signs what is installed
// in cars under a V2G root that they trust. *pool.Client is one.
type CPS interface {
	// Sign returns a CertificateInstallationRes of ISO 15118-2 with the contract data of
	// an answer in it, signed. It ends with ctx. Safe for concurrent use.
	Sign(ctx context.Context, data *message.Response) (exi []byte, err error)
}

// outsideCPS stands in a bundle for the serial number of a CPS elsewhere.
const outsideCPS = "outside"

// complete has the CPS sign an answer, whose certificate it returns with what stands for
// its serial number: the own one, or where own is nil the one elsewhere.
func (s *Service) complete(ctx context.Context, own *ca.CPSSigner, a *message.Response) (*x509.Certificate, string, error) {
	if own == nil {
		cps, err := s.signElsewhere(ctx, a)
		if err != nil {
			return nil, "", fmt.Errorf("couldn't have an answer for a car signed elsewhere: %w", err)
		}
		return cps, outsideCPS, nil
	}
	a.CPS = chainOf(own.Certificate, own.Chain)
	sig, err := signature.Sign(s.random, own.Key, a.Protocol.Set(), a.Signed()...)
	if err != nil {
		return nil, "", fmt.Errorf("couldn't sign an answer for a car: %w", err)
	}
	a.Signature = &sig
	return own.Certificate, ca.SerialOf(own.Certificate), nil
}

// signElsewhere takes over what a CPS elsewhere signed, if it is what it was given.
func (s *Service) signElsewhere(ctx context.Context, a *message.Response) (*x509.Certificate, error) {
	exi, err := s.cps.Sign(ctx, a)
	if err != nil {
		return nil, err
	}
	out, err := message.DecodeResponse(a.Protocol, exi)
	switch {
	case err != nil:
		return nil, fmt.Errorf("it can't be read: %w", err)
	case !bytes.Equal(out.Contract.Certificate, a.Contract.Certificate) || !slices.EqualFunc(out.Contract.SubCertificates, a.Contract.SubCertificates, bytes.Equal) ||
		!bytes.Equal(out.Key, a.Key) || !bytes.Equal(out.Public, a.Public) || out.EMAID != a.EMAID:
		return nil, errors.New("it isn't the contract data that was to be signed")
	}
	cps, fault, err := s.signedByCPS(ctx, out)
	switch {
	case err != nil:
		return nil, err
	case fault != nil:
		return nil, fault
	}
	// The Ids are the signer's choice. Neither header nor kind of message is signed.
	a.CPS, a.Signature = out.CPS, out.Signature
	a.Contract.ID, a.KeyID, a.PublicID, a.EMAIDID = out.Contract.ID, out.KeyID, out.PublicID, out.EMAIDID
	return cps, nil
}

// signedByCPS checks that an answer is signed, all of it, by a CPS under a V2G root
// that is trusted here; it returns the CPS's certificate. An error is no verdict.
func (s *Service) signedByCPS(ctx context.Context, a *message.Response) (*x509.Certificate, *Fault, error) {
	if a.Signature == nil {
		return nil, badSignature("it isn't signed"), nil
	}
	cps, fault := parse(a.CPS)
	if fault != nil {
		return nil, fault, nil
	}
	if !s.fits(a.Protocol, cps[0]) || !isCPS(cps[0]) {
		return nil, badChain("who signed it is no CPS of the edition (DC=CPS)"), nil
	}
	if fault, err := s.verify(ctx, purpose{a.Protocol, kindsOf(a.Protocol, cps[0].PublicKey).v2g, "v2g", x509.KeyUsageDigitalSignature}, cps, s.clock()); fault != nil || err != nil {
		return nil, fault, err
	}
	if err := signature.Verify(a.Protocol.Set(), *a.Signature, cps[0].PublicKey, s.suites(a.Protocol), a.Signed()...); err != nil {
		return nil, badSignature("its signature: " + err.Error()), nil
	}
	return cps[0], nil, nil
}

// isCPS looks for the attribute that cars look for (DC=CPS).
func isCPS(cert *x509.Certificate) bool {
	for _, a := range cert.Subject.Names {
		if a.Type.String() == "0.9.2342.19200300.100.1.25" && a.Value == "CPS" {
			return true
		}
	}
	return false
}

// SignFor has the own CPS sign contract data of ISO 15118-2 that another provider made
// and sealed. Its certificate has to be the account's, under a root trusted for mo. What
// is wrong with it is a *Fault.
func (s *Service) SignFor(ctx context.Context, actor string, emaid identifier.EMAID, a *message.Response) error {
	chain, fault := parse(a.Contract)
	if fault != nil {
		return fault
	}
	named, unreadable := identifier.ParseEMAID(chain[0].Subject.CommonName)
	inside, unread := identifier.ParseEMAID(a.EMAID)
	if !s.fits(a.Protocol, chain[0]) || unreadable != nil || unread != nil || !named.Same(emaid) || !inside.Same(emaid) {
		return badChain("the certificate isn't the account's, or is of another edition")
	}
	fault, err := s.verifyContract(ctx, a.Protocol, chain, s.clock())
	switch {
	case err != nil:
		return err
	case fault != nil:
		return fault
	}
	signer, err := s.authority.CPSSigner(ctx, kindsOf(a.Protocol, chain[0].PublicKey).cps)
	if errors.Is(err, ca.ErrNoHierarchy) {
		return unavailable("nobody here signs for cars")
	}
	if err != nil {
		return err
	}
	a.SetIDs()
	// On record before it is signed: the signature is worth what a car takes for it.
	err = s.store.Record(ctx, ledger.Event{Kind: "contract.signed", Subject: ca.SerialOf(chain[0]), Actor: actor, People: []string{"emaid"},
		Data: map[string]string{"emaid": string(emaid.Bare()), "cps": ca.SerialOf(signer.Certificate), "protocol": a.Protocol.String()}})
	if err != nil {
		return err
	}
	_, _, err = s.complete(ctx, signer, a)
	return err
}
