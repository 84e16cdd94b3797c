// Package admin is what an operator can do: typed operations in one Registry,
// reached in process, or over the unix socket of a running server, and the
// HTTP surface that monitoring reads.
//
// It promises that an operation behaves the same whichever way it is reached,
// that every one that changes something names its actor, and that what it
// answers holds no stored secret.
package admin

import (
	"context"
	"log/slog"
	"time"

	"bollard/alert"
	"bollard/approval/docket"
	"bollard/ca"
	"bollard/ca/quality"
	"bollard/ca/step"
	"bollard/contract"
	"bollard/contract/pool"
	"bollard/firmware/campaign"
	"bollard/firmware/catalogue"
	"bollard/firmware/gate"
	"bollard/firmware/origin"
	"bollard/firmware/quote"
	"bollard/fleet"
	"bollard/ledger"
)

// Store is what the operations read and write beside fleet and ca. *store.Store
// is one. Methods are safe for concurrent use; writes are durable on return.
type Store interface {
	Certificate(ctx context.Context, serial string) (ca.Record, error)
	Certificates(ctx context.Context, f ca.Filter) ([]ca.Record, error)
	Stations(ctx context.Context) ([]fleet.Station, error)
	Plans(ctx context.Context) (map[string]fleet.Plan, error)
	NewestTime(ctx context.Context) (time.Time, error)
	Quote(ctx context.Context, station string) (quote.Record, error) // the zero Record if there is none
	SetSecret(ctx context.Context, name string, ciphertext []byte, events ...ledger.Event) error
}

// Config of the operations.
type Config struct {
	Fleet     *fleet.Service
	Registrar *fleet.Registrar
	Authority *ca.Authority
	Store     Store
	Alerts    *alert.Service
	Docket    *docket.Docket
	Releases  *catalogue.Catalogue
	Updates   *gate.Gate
	Contracts *contract.Service
	Pool      *pool.Tokens // who may use the pool
	ACME      ACMEStore
	Step      step.ProvisionerStore
	Blocked   *quality.Blocklist // keys that sign nothing here; nil for none
	Rollouts  *campaign.Service  // of releases
	// Origins tells what is known of the locations back ends name, newest first.
	Origins func(ctx context.Context) ([]origin.Lead, error)
	Ledger  LedgerStore
	Notary  Notary
	// Controller brings groups of stations to what is wanted of them.
	Controller *fleet.Controller
	// Live is the directory of live sessions; nil when no server runs in this process.
	Live fleet.Sessions
	// Failed tells why a station that proved who it is got no session when it
	// last tried, and when; nil when no server runs in this process.
	Failed func(key string) (reason string, at time.Time)
	// Seal encrypts a secret for storage under a name.
	Seal func(name string, secret []byte) ([]byte, error)
	// OwnNames are the host names that Bollard is dialled by, which nobody gets a
	// certificate for; Names are those of acme.names, as written.
	OwnNames, Names []string
	// Backends are the names of the back ends in force; nil: any may be named.
	Backends func() []string
	// Server describes the running server; nil when none runs in this process.
	Server func() Server
	Clock  func() time.Time
	Log    *slog.Logger
}

// operations serve the Registry New returns.
type operations struct{ cfg Config }

// New returns the Registry with every operation in it.
func New(cfg Config) *Registry {
	o := &operations{cfg: cfg}
	r := &Registry{operations: map[string]operation{}}
	o.registerStations(r)
	o.registerRegistration(r)
	o.registerFleet(r)
	o.registerCertificates(r)
	o.registerTrust(r)
	o.registerStatus(r)
	o.registerAlerts(r)
	o.registerLogs(r)
	o.registerLedger(r)
	o.registerApprovals(r)
	o.registerFirmware(r)
	o.registerContracts(r)
	o.registerPools(r)
	o.registerACME(r)
	o.registerStep(r)
	o.registerRollouts(r)
	return r
}

type actorKey struct{}

// WithActor says who acts, such as "operator:alice", for the ledger.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// Actor is who acts. Without WithActor it is an operator nobody named.
func Actor(ctx context.Context) string {
	if actor, ok := ctx.Value(actorKey{}).(string); ok {
		return actor
	}
	return "operator"
}
