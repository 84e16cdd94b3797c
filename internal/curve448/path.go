package curve448

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudflare/circl/sign/ed448"
)

// Bounds of a search: certificates of a path, root included, and signatures checked
// on the way: who sends the chain chooses its certificates.
const (
	longest      = 6
	mostVerified = 64
)

// ErrNoPath is what is wrong with a leaf that leads to no root.
var ErrNoPath = errors.New("no path of certificates on Ed448 leads to a root")

// Paths returns the ways from a leaf to a root, leaf first and root last, on which
// every key and every signature is Ed448, as RFC 5280 §6.1 validates them. Name
// constraints, which ISO 15118 doesn't have, and unknown critical extensions end a way.
// Where a certificate's dates alone are wrong it is x509.CertificateInvalidError with
// x509.Expired.
func Paths(leaf *x509.Certificate, roots, between []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	s := &search{roots: roots, between: between, now: now, left: mostVerified}
	if _, ok := leaf.PublicKey.(ed448.PublicKey); !ok {
		return nil, fmt.Errorf("%w: the leaf's key isn't one", ErrNoPath)
	}
	if s.good(leaf) {
		s.extend([]*x509.Certificate{leaf})
	}
	switch {
	case len(s.found) > 0:
		return s.found, nil
	case s.expired != nil:
		return nil, x509.CertificateInvalidError{Cert: s.expired, Reason: x509.Expired}
	}
	return nil, ErrNoPath
}

type search struct {
	roots, between []*x509.Certificate
	now            time.Time
	left           int // signatures that may still be checked
	found          [][]*x509.Certificate
	expired        *x509.Certificate
}

// good tells whether a certificate itself may be in a path.
func (s *search) good(cert *x509.Certificate) bool {
	if s.now.Before(cert.NotBefore) || s.now.After(cert.NotAfter) {
		s.expired = cert
		return false
	}
	return len(cert.UnhandledCriticalExtensions) == 0 && !slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidNameConstraints) })
}

func (s *search) extend(path []*x509.Certificate) {
	last := path[len(path)-1]
	for _, root := range s.roots {
		if root.Equal(last) && len(path) > 1 {
			continue
		}
		if s.signs(root, path) {
			s.found = append(s.found, append(slices.Clone(path), root))
		}
	}
	if len(path) == longest-1 {
		return
	}
	for _, by := range s.between {
		if !slices.ContainsFunc(path, by.Equal) && !bytes.Equal(by.RawIssuer, by.RawSubject) && s.signs(by, path) {
			s.extend(append(slices.Clone(path), by))
		}
	}
}

// signs tells whether a CA may be, and is, the issuer of a path's last certificate.
func (s *search) signs(by *x509.Certificate, path []*x509.Certificate) bool {
	last := path[len(path)-1]
	if !bytes.Equal(by.RawSubject, last.RawIssuer) {
		return false
	}
	if _, ok := by.PublicKey.(ed448.PublicKey); !ok || s.left == 0 {
		return false
	}
	s.left--
	// The pathLenConstraint counts CAs between it and the leaf (RFC 5280 §4.2.1.9).
	if by.MaxPathLen >= 0 && len(path)-1 > by.MaxPathLen {
		return false
	}
	return CheckSignatureFrom(last, by) == nil && s.good(by)
}

var oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
