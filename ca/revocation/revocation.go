// Package revocation learns what OCSP responders and CRLs say of certificates, own ones
// and those of other CAs. Package ca/status is the other side: what is said of own ones.
//
// It promises that nothing counts but what a certificate's issuer signed, about that
// certificate and in force; that one question to the outside is asked once, however many
// want its answer; and that no responder, slow or broken, costs more than its own answers.
package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ocsp"
	"golang.org/x/sync/semaphore"

	"bollard/ca"
	"bollard/internal/safehttp"
	"bollard/internal/turns"
	"bollard/ocpp"
)

const (
	// fetchesAtOnce bounds the outside requests under way.
	fetchesAtOnce = 16
	// fetchesOfHost bounds those to one host: the others go on when it is slow.
	fetchesOfHost = 4
	// sources bounds the responders, and the lists, of one certificate that are
	// tried: its CA wrote them, whoever that is.
	sources = 2
)

var (
	// errNotFetched is why nothing outside is asked.
	errNotFetched = errors.New("no responder may be asked; list it under ocsp_hosts")
	// errUnheard is why nothing is known of a certificate.
	errUnheard = errors.New("the responder doesn't know the certificate")
)

// Fetcher reaches the responders and CRLs that URLs from the wire name, as far as they
// are allowed. *safehttp.Client is one.
type Fetcher interface {
	Get(ctx context.Context, rawURL string) (*safehttp.Response, error)
	Post(ctx context.Context, rawURL, contentType string, body []byte) (*safehttp.Response, error)
}

// Responder answers DER OCSP requests about certificates of the own CAs;
// own is false if the issuer is none of them.
type Responder func(ctx context.Context, request []byte) (response []byte, own bool, err error)

// Authority has the CA certificates that status information is checked with.
// *ca.Authority is one.
type Authority interface {
	Roots(kind ca.Kind) []*x509.Certificate
	Intermediates(kind ca.Kind) []*x509.Certificate
	Paths(kind ca.Kind) []ca.Path
	Anchors(ctx context.Context, use string) ([]ca.TrustAnchor, error)
}

// Config of a Checker.
type Config struct {
	Authority Authority
	Own       Responder        // nil: none
	Fetch     Fetcher          // nil: nothing outside is asked
	Clock     func() time.Time // nil: time.Now
}

// Checker learns the status of certificates. It is safe for concurrent use. A defect
// that outsiders' bytes find is the error of one question.
type Checker struct {
	authority Authority
	own       Responder
	fetch     Fetcher
	clock     func() time.Time
	slots     *semaphore.Weighted // of all outside requests
	hosts     *turns.Turns        // by host
	cache     *cache
}

// New returns a Checker that has asked nobody yet.
func New(cfg Config) (*Checker, error) {
	if cfg.Authority == nil {
		return nil, errors.New("internal error: revocation.Config.Authority is missing")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Checker{
		authority: cfg.Authority, own: cfg.Own, fetch: cfg.Fetch, clock: cfg.Clock,
		slots: semaphore.NewWeighted(fetchesAtOnce), hosts: turns.New(fetchesOfHost), cache: newCache(),
	}, nil
}

// Response obtains the OCSP response (RFC 6960, DER) in force about a certificate that
// hash data names: the own responder's, or that of the URL. It may say anything of the
// certificate. Where its issuer isn't known here the signature is for the one who asks
// to check (M06.FR.02, .03). An error means that none was obtained.
func (c *Checker) Response(ctx context.Context, d ocpp.OCSPRequestData) (der []byte, err error) {
	defer contain(&err)
	about, err := subjectNamed(hashData(d))
	if err != nil {
		return nil, err
	}
	a, err := c.ocsp(ctx, about, urlsOf(d))
	return a.der, err
}

// Status learns by the source of the request what a certificate is: ocpp.CertificateGood,
// CertificateRevoked or CertificateUnknown, and until when that counts; zero where the
// responder doesn't say (M07). It is said here, so that what can't be verified here is
// an error, as what couldn't be learned.
func (c *Checker) Status(ctx context.Context, r ocpp.CertificateStatusRequest) (status string, next time.Time, err error) {
	defer contain(&err)
	about, err := subjectNamed(r.CertificateHashData)
	if err != nil {
		return "", time.Time{}, err
	}
	if r.Source == ocpp.SourceCRL {
		return c.crl(ctx, about, r.URLs)
	}
	a, err := c.ocsp(ctx, about, r.URLs)
	if err != nil {
		return "", time.Time{}, err
	}
	if !a.verified {
		return "", time.Time{}, errors.New("the OCSP response is of an issuer Bollard doesn't know; add its root with bollard ca trust add")
	}
	return a.word(), a.next, nil
}

// Revoked tells whether a certificate of another CA is revoked, by the responders it
// names and else by the lists it names, as far as they may be asked. The caller
// has proven the issuer. An error means that it couldn't be learned; what is asked
// when ctx ends is there for the next who asks.
func (c *Checker) Revoked(ctx context.Context, cert, issuer *x509.Certificate) (revoked bool, err error) {
	defer contain(&err)
	about, err := subjectOf(cert, issuer)
	if err != nil {
		return false, err
	}
	known := issuers{certificates: []*x509.Certificate{issuer}, roots: x509.NewCertPool(), proven: true}
	var failed []error
	if urls := cert.OCSPServer; len(urls) > 0 {
		a, err := c.ocspOf(ctx, about, urls[:min(len(urls), sources)], known)
		if err == nil && a.status != ocsp.Unknown {
			return a.status == ocsp.Revoked, nil
		}
		if err == nil {
			err = errUnheard
		}
		failed = append(failed, err)
	}
	if urls := cert.CRLDistributionPoints; len(urls) > 0 {
		word, _, err := c.listed(ctx, about, urls[:min(len(urls), sources)], issuer)
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
func (c *Checker) RevokedByHash(ctx context.Context, d ocpp.OCSPRequestData) (revoked bool, err error) {
	defer contain(&err)
	about, err := subjectNamed(hashData(d))
	if err != nil {
		return false, err
	}
	known, err := c.issuersFor(ctx, []ca.Kind{ca.KindMO, ca.KindMO20}, "mo")
	if err != nil {
		return false, err
	}
	known.proven = true
	a, err := c.ocspOf(ctx, about, urlsOf(d), known)
	if err == nil && a.status == ocsp.Unknown {
		err = errUnheard
	}
	return err == nil && a.status == ocsp.Revoked, err
}

func hashData(d ocpp.OCSPRequestData) ocpp.CertificateHashData {
	return ocpp.CertificateHashData{HashAlgorithm: d.HashAlgorithm, IssuerNameHash: d.IssuerNameHash, IssuerKeyHash: d.IssuerKeyHash, SerialNumber: d.SerialNumber}
}

// urlsOf is the one a station names, if it is one for a message.
func urlsOf(d ocpp.OCSPRequestData) []string {
	if d.ResponderURL == "" || len(d.ResponderURL) > ocpp.MaxStatusURL {
		return nil
	}
	return []string{d.ResponderURL}
}

// contain makes a panic an error: here outsiders' bytes are read, also in goroutines
// of their own, where it would end the process.
func contain(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("what was answered couldn't be read, which is a defect of Bollard's: %v", p)
	}
}
