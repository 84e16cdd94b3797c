package contract

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/ca"
	"bollard/internal/curve448"
	"bollard/iso15118/message"
	"bollard/iso15118/signature"
)

// kinds are the hierarchies that an edition's certificates are of.
type kinds struct{ mo, oem, cps, v2g ca.Kind }

// kindsOf are those for a key of the edition: a chain is on one curve ([V2G20-2709]).
func kindsOf(p message.Protocol, key crypto.PublicKey) kinds {
	if _, ok := key.(ed448.PublicKey); ok {
		return kinds{ca.KindMO448, ca.KindOEM448, ca.KindCPS448, ca.KindV2G448}
	}
	if p == message.ISO20 {
		return kinds{ca.KindMO20, ca.KindOEM20, ca.KindCPS20, ca.KindV2G20}
	}
	return kinds{ca.KindMO, ca.KindOEM, ca.KindCPS, ca.KindV2G}
}

// allKinds are those of all editions and curves.
func allKinds() []kinds {
	return []kinds{kindsOf(message.ISO2, nil), kindsOf(message.ISO20, nil), kindsOf(message.ISO20, ed448.PublicKey{})}
}

// suites are the signatures of an edition.
func (s *Service) suites(p message.Protocol) []signature.Suite {
	if p != message.ISO20 {
		return []signature.Suite{signature.P256}
	}
	var list []signature.Suite
	for _, class := range s.authority.Keys20() {
		list = append(list, map[ca.KeyClass]signature.Suite{ca.ClassP521: signature.P521, ca.ClassP256: signature.P256, ca.ClassEd448: signature.Ed448}[class])
	}
	return list
}

// fits tells whether a certificate's key is one of an edition.
func (s *Service) fits(p message.Protocol, cert *x509.Certificate) bool {
	suite, err := signature.SuiteOf(cert.PublicKey)
	return err == nil && slices.Contains(s.suites(p), suite)
}

// protocolOf tells an edition by the curve of a certificate's key where nothing else
// does: a key on P-256 counts as one of ISO 15118-2, also where tests have it in -20.
func protocolOf(cert *x509.Certificate) (message.Protocol, error) {
	if _, ok := cert.PublicKey.(ed448.PublicKey); ok {
		return message.ISO20, nil
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return 0, errors.New("the certificate's key isn't one of ISO 15118-2 (P-256) or -20 (P-521)")
	}
	switch key.Curve {
	case elliptic.P256():
		return message.ISO2, nil
	case elliptic.P521():
		return message.ISO20, nil
	}
	return 0, fmt.Errorf("the certificate's key is on %s, ISO 15118-2 has P-256, -20 P-521", key.Curve.Params().Name)
}

// verifyCar verifies a provisioning chain up to a root of a manufacturer: own or
// trusted for the use oem, and no other ([V2G2-925]). It tells who answers for the car.
func (s *Service) verifyCar(ctx context.Context, p message.Protocol, chain []*x509.Certificate, now time.Time) (maker, *Fault, error) {
	path, fault, err := s.verifiedPath(ctx, purpose{p, kindsOf(p, chain[0].PublicKey).oem, "oem", agreeing}, chain, now)
	if fault != nil || err != nil {
		return maker{}, fault, err
	}
	return makerOf(path), nil, nil
}

// verifyContract verifies a contract chain up to a root of a provider.
func (s *Service) verifyContract(ctx context.Context, p message.Protocol, chain []*x509.Certificate, now time.Time) (*Fault, error) {
	usage := agreeing | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment
	if p == message.ISO20 {
		usage = x509.KeyUsageDigitalSignature // updated by nobody
	}
	return s.verify(ctx, purpose{p, kindsOf(p, chain[0].PublicKey).mo, "mo", usage}, chain, now)
}

// verify tells what is wrong with a chain. An error is no verdict: whether anything is
// couldn't be told.
func (s *Service) verify(ctx context.Context, to purpose, chain []*x509.Certificate, now time.Time) (*Fault, error) {
	_, fault, err := s.verifiedPath(ctx, to, chain, now)
	return fault, err
}

// verifiedPath is verify, with the path that holds, leaf first and root last.
func (s *Service) verifiedPath(ctx context.Context, to purpose, chain []*x509.Certificate, now time.Time) ([]*x509.Certificate, *Fault, error) {
	roots, err := s.rootsFor(ctx, to.kind, to.use)
	if err != nil {
		return nil, nil, err
	}
	leaf := chain[0]
	switch {
	case !s.fits(to.p, leaf):
		return nil, badChain("the certificate's key isn't one of the edition"), nil
	case leaf.IsCA:
		return nil, badChain("the certificate is a CA's"), nil
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return nil, badChain("the certificate isn't one to sign with"), nil
	case now.After(leaf.NotAfter):
		return nil, expired("the certificate expired on " + leaf.NotAfter.Format(time.DateOnly)), nil
	case now.Before(leaf.NotBefore):
		return nil, notYet("the certificate isn't valid before " + leaf.NotBefore.Format(time.DateOnly)), nil
	}
	paths, err := pathsOf(leaf, roots, slices.Concat(s.authority.Intermediates(to.kind), chain[1:]), now)
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return nil, expired("a certificate of the chain has expired"), nil
	}
	if err != nil {
		return nil, badChain(fmt.Sprintf("the chain leads to no root trusted for %s (`bollard ca trust add --use %s`): %T", to.use, to.use, err)).orElsewhere(), nil
	}
	if s.strict {
		var lacks string
		if paths, lacks = s.strictly(to, paths); len(paths) == 0 {
			return nil, badChain(lacks + ": contracts.leaves is strict"), nil
		}
	}
	fault, err := s.standing(ctx, paths[0])
	return paths[0], fault, err
}

// pathsOf are the ways from a leaf to roots.
func pathsOf(leaf *x509.Certificate, roots, between []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	if _, ok := leaf.PublicKey.(ed448.PublicKey); ok {
		return curve448.Paths(leaf, roots, between, now)
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, cert := range roots {
		options.Roots.AddCert(cert)
	}
	for _, cert := range between {
		options.Intermediates.AddCert(cert)
	}
	return leaf.Verify(options)
}

// rootsFor are the own roots of a hierarchy and those trusted for a use.
func (s *Service) rootsFor(ctx context.Context, kind ca.Kind, use string) ([]*x509.Certificate, error) {
	anchors, err := s.authority.Anchors(ctx, use)
	if err != nil {
		return nil, err
	}
	list := slices.Clone(s.authority.Roots(kind))
	for _, a := range anchors {
		cert, err := curve448.ParseCertificate(a.DER)
		if err != nil {
			return nil, fmt.Errorf("couldn't read trusted root %s; remove it and add it again: %w", a.Hash, err)
		}
		list = append(list, cert)
	}
	return list, nil
}

// parse reads a chain of a message.
func parse(c message.Chain) ([]*x509.Certificate, *Fault) {
	var chain []*x509.Certificate
	for _, der := range append([][]byte{c.Certificate}, c.SubCertificates...) {
		cert, err := curve448.ParseCertificate(der)
		if err != nil {
			return nil, badChain("a certificate of the chain can't be read")
		}
		chain = append(chain, cert)
	}
	return chain, nil
}

// verifySignature checks a request's signature with the key of its certificate.
func (s *Service) verifySignature(r *message.Request, cert *x509.Certificate) *Fault {
	if r.Signature == nil {
		return badSignature("the request isn't signed")
	}
	if err := signature.Verify(r.Protocol.Set(), *r.Signature, cert.PublicKey, s.suites(r.Protocol), r.Signed()...); err != nil {
		return badSignature("the request's signature: " + err.Error())
	}
	return nil
}
