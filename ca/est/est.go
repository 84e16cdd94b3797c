// Package est is the door for Enrolment over Secure Transport (RFC 7030 with
// RFC 8951): it hands out the CA certificates, says what a request should look
// like, and takes requests of stations that proved themselves in TLS or with a
// one-time secret; below a CA label, of whom that label's Registrar lets in.
//
// It promises that nobody is served but by the operations listed here, that no
// request is read before its sender is proven, and that a request contributes
// its public key and nothing else.
package est

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"bollard/ca"
)

// Claim is what a client shows of itself. Nothing in it is proven yet but the
// possession of the leaf's private key.
type Claim struct {
	Certificates []*x509.Certificate // as presented in TLS, leaf first, chain not verified
	Basic        *Basic              // nil without an HTTP Basic header
	Bearer       string              // access token (RFC 6750 §2.1), "" without one
	Source       netip.Addr
	// Renewal is set for simplereenroll: the certificate to be renewed is the
	// only proof that counts (RFC 7030 §3.3.2).
	Renewal bool
}

// Basic is the HTTP Basic header of a claim: a station's identity and its
// one-time secret.
type Basic struct {
	User   string
	Secret []byte
}

// Registrar knows who may have a certificate. *fleet.Registrar is one.
type Registrar interface {
	// Prove finds out whose request this is. The error is a *Refusal, or
	// something else if that couldn't be judged now.
	Prove(ctx context.Context, claim Claim) (Applicant, error)
}

// Applicant is a station that proved itself.
type Applicant interface {
	// Certify returns the certificate for a key: a new one, or the one this
	// request brought before. It is recorded before it is returned. The error is
	// a *Refusal, or something else if it can't be done now and the same request
	// may succeed later.
	Certify(ctx context.Context, csr ca.CSR) (*ca.Issued, error)
	// Station names it for the log.
	Station() string
}

// Refusal is a decision against a request. Public goes to the client, Reason to
// the operator.
type Refusal struct {
	Status     int
	Public     string
	Reason     string
	RetryAfter time.Duration // 0: no Retry-After header
}

// Error returns the operator's reason.
func (r *Refusal) Error() string { return r.Reason }

// Authority is what the door tells everybody. *ca.Authority is one.
type Authority interface {
	Roots(kind ca.Kind) []*x509.Certificate
	Intermediates(kind ca.Kind) []*x509.Certificate
	Paths(kind ca.Kind) []ca.Path
}

// Label is a further CA that enrols here, below its own name (RFC 7030 §3.2.2).
type Label struct {
	Kind      ca.Kind // whose issuing CA it is, and the label
	Keys      []ca.KeyClass
	Registrar Registrar
}

// Config of a Door.
type Config struct {
	Authority Authority
	Registrar Registrar
	// Keys are the key classes a request may bring, the preferred first.
	Keys []ca.KeyClass
	// Labels are served while their hierarchies are there; renewal isn't.
	Labels []Label
	// RetryAfter is told with 202 while nothing can be signed; 0 means a minute.
	RetryAfter time.Duration
	// Served, if set, hears of each answer: the operation ("" for none of
	// them) and its HTTP status.
	Served func(operation string, status int)
	Log    *slog.Logger // nil: discarded
}

func (c Config) complete() (Config, error) {
	if c.Authority == nil || c.Registrar == nil || len(c.Keys) == 0 {
		return c, fmt.Errorf("internal error: est.Config needs Authority, Registrar and Keys")
	}
	if c.RetryAfter <= 0 {
		c.RetryAfter = time.Minute
	}
	if c.Served == nil {
		c.Served = func(string, int) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
