package fleet

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/ocsp"

	"bollard/ca"
	"bollard/ocpp"
)

// statusSources bounds the responders, and the lists, of one certificate that are
// tried: its CA wrote them, whoever that is.
const statusSources = 2

// errUnheard is why nothing is known of a certificate.
var errUnheard = errors.New("the responder doesn't know the certificate")

// Revoked tells whether a certificate of another CA is revoked, by the responders it
// names and else by the lists it names, as far as ocsp_hosts has them. The caller
// has proven the issuer. An error means that it couldn't be learned; what is asked
// when ctx ends is there for the next who asks.
func (s *Service) Revoked(ctx context.Context, cert, issuer *x509.Certificate) (bool, error) {
	about, err := subjectOf(cert, issuer)
	if err != nil {
		return false, err
	}
	t := s.statusOf()
	known := issuers{certificates: []*x509.Certificate{issuer}, roots: x509.NewCertPool(), proven: true}
	var failed []error
	if urls := cert.OCSPServer; len(urls) > 0 {
		a, err := t.ocspOf(ctx, about, urls[:min(len(urls), statusSources)], known)
		if err == nil && a.status != ocsp.Unknown {
			return a.status == ocsp.Revoked, nil
		}
		if err == nil {
			err = errUnheard
		}
		failed = append(failed, err)
	}
	if urls := cert.CRLDistributionPoints; len(urls) > 0 {
		word, _, err := t.listed(ctx, about, urls[:min(len(urls), statusSources)], issuer)
		if err == nil {
			return word == ocpp.CertificateRevoked, nil
		}
		failed = append(failed, err)
	}
	if len(failed) == 0 {
		return false, errors.New("the certificate names neither responder nor list")
	}
	return false, errors.Join(failed...)
}

// RevokedByHash is Revoked for a certificate of a contract of which a station knows
// hashes alone. Its provider has to be known: own, or a root trusted for mo, to which
// the responder's chain leads.
func (s *Service) RevokedByHash(ctx context.Context, d ocpp.OCSPRequestData) (bool, error) {
	about, err := parseSubject(ocpp.CertificateHashData{HashAlgorithm: d.HashAlgorithm, IssuerNameHash: d.IssuerNameHash, IssuerKeyHash: d.IssuerKeyHash, SerialNumber: d.SerialNumber})
	if err != nil {
		return false, err
	}
	known, err := s.issuersFor(ctx, []ca.Kind{ca.KindMO, ca.KindMO20}, "mo")
	if err != nil {
		return false, err
	}
	known.proven = true
	var urls []string
	if d.ResponderURL != "" && len(d.ResponderURL) <= ocpp.MaxStatusURL {
		urls = append(urls, d.ResponderURL)
	}
	a, err := s.statusOf().ocspOf(ctx, about, urls, known)
	if err == nil && a.status == ocsp.Unknown {
		err = errUnheard
	}
	return err == nil && a.status == ocsp.Revoked, err
}

// subjectOf names a certificate for its responder, by SHA-256, which OCPP's stations
// ask with too.
func subjectOf(cert, issuer *x509.Certificate) (subject, error) {
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	if rest, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key); err != nil || len(rest) > 0 {
		return subject{}, errors.New("the issuer's key can't be read")
	}
	return subject{hash: crypto.SHA256, nameHash: digest(crypto.SHA256, issuer.RawSubject), keyHash: digest(crypto.SHA256, key.Bits.RightAlign()), serial: cert.SerialNumber}, nil
}
