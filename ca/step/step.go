// Package step is the door for the one-time tokens of step: the part of step-ca's HTTP API
// with which the step CLI gets, renews and revokes certificates of servers.
//
// It promises that a certificate leaves only for a token that a provisioner the operator
// added signed for this door, within its five minutes and once, for names that are both in
// the token and on the provisioner's list, or, on renewal, to whoever has the key of the
// certificate that is renewed; and that a resource which isn't listed here with who may
// ask for it is refused.
package step

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	"bollard/ca"
	"bollard/ca/quality"
	"bollard/ledger"
)

// Authority is what is asked of the CA. *ca.Authority is one.
type Authority interface {
	Records
	Roots(kind ca.Kind) []*x509.Certificate
	Prepare(ctx context.Context, order ca.Order) (*ca.Prepared, error)
	Issue(ctx context.Context, prepared *ca.Prepared) (*ca.Issued, error)
}

// Records are what is known of certificates.
type Records interface {
	Lookup(ctx context.Context, serial string) (*ca.Issued, error)
	Status(ctx context.Context, cert *x509.Certificate) (ca.Record, bool, error)
	RecordExternal(ctx context.Context, cert *x509.Certificate, station, actor string) error
	Revoke(ctx context.Context, serial, reason, actor string) (ca.Record, error)
}

// Errors callers branch on.
var (
	ErrTokenUsed          = errors.New("the token was used already")
	ErrProvisionerExists  = errors.New("there is a provisioner of that name")
	ErrUnknownProvisioner = errors.New("no such provisioner")
)

// Store keeps provisioners and the tokens that were used. Writes are durable, with their
// ledger events, before the methods return. Methods are safe for concurrent use.
type Store interface {
	StepProvisioner(ctx context.Context, name string) (p Provisioner, ok bool, err error)
	StepProvisioners(ctx context.Context) ([]Provisioner, error) // by name
	// UseStepToken notes that a token was used. ErrTokenUsed if it was before,
	// ErrUnknownProvisioner if its provisioner is gone.
	UseStepToken(ctx context.Context, use Use) error
	// StepRecorder returns what does that in the transaction of a certificate's intent.
	StepRecorder(use Use) ca.Recorder
	Record(ctx context.Context, events ...ledger.Event) error
}

// Use of a token.
type Use struct {
	Provisioner string // its ID
	Token       string // SHA-256 of iss, NUL and jti, lower-case hex: whoever has the issuer's name later
	At          time.Time
	Until       time.Time // it is known until then, and can't be good any more
	Event       ledger.Event
}

// Config of a Door.
type Config struct {
	// Host is the name clients dial: tokens for another are of no use here.
	Host string
	// Own are Bollard's names: whoever had a certificate for one could pose as it to every
	// station. They are nobody's to ask for, whatever a provisioner's list says.
	Own []string
	// Taken says whether a station is known by a name: its identity, a serial number, or
	// an SECC identifier.
	Taken func(ctx context.Context, name string) (bool, error)
	// OtherRoot says that the door itself shows a certificate from elsewhere, whose root
	// is the one that tokens name then.
	OtherRoot bool
	// ACME are the doors below /acme/ that step finds among the provisioners.
	ACME      []string
	Store     Store
	Authority Authority
	// Blocked holds keys that sign no tokens; nil for none.
	Blocked *quality.Blocklist
	Version string
	// Served, if set, hears of each answer: the operation ("" for none of them) and its
	// HTTP status.
	Served func(operation string, status int)
	Clock  func() time.Time
	Log    *slog.Logger // nil: discarded
}

func (c Config) complete() (Config, error) {
	if c.Host == "" || c.Taken == nil || c.Store == nil || c.Authority == nil || c.Clock == nil {
		return c, errors.New("internal error: step.Config needs Host, Taken, Store, Authority and Clock")
	}
	if c.Served == nil {
		c.Served = func(string, int) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
