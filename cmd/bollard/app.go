package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"bollard/admin"
	"bollard/alert"
	"bollard/approval/docket"
	"bollard/ca"
	"bollard/ca/quality"
	"bollard/ca/status"
	"bollard/contract"
	"bollard/detect"
	"bollard/firmware/campaign"
	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/gate"
	"bollard/fleet"
	"bollard/internal/config"
	"bollard/keys"
	"bollard/ledger"
	"bollard/store"
)

// app is an opened data directory: everything a command or the server works with.
type app struct {
	dir       string
	cfg       *config.File
	log       *slog.Logger
	clock     func() time.Time
	store     *store.Store
	keeper    *keys.Keeper
	blocked   *quality.Blocklist
	authority *ca.Authority
	fleet     *fleet.Service
	registrar *fleet.Registrar
	alerts    *alert.Service
	docket    *docket.Docket
	depot     *depot.Depot
	releases  *catalogue.Catalogue
	updates   *gate.Gate
	contracts *contract.Service
	rollouts  *campaign.Service
	// reconsider has messages in question asked about anew; nil in a command.
	reconsider func()
	seal       *sealer
	notary     *notary
	backends   atomic.Pointer[[]config.Backend] // in force: a server may read them anew
	// controller brings groups of stations to what is wanted of them.
	controller *fleet.Controller
	// certificates are the server's; nil in a command.
	certificates *serverCertificates
	status       *status.Server // nil in a command
}

// openApp opens a data directory whose lock the caller holds, for a command.
func openApp(ctx context.Context, dir string, cfg *config.File, log *slog.Logger) (*app, error) {
	return openAppAt(ctx, time.Now, dir, cfg, log, nil)
}

// openAppAt is openApp with a clock and a server's metrics; m may be nil.
func openAppAt(ctx context.Context, clock func() time.Time, dir string, cfg *config.File, log *slog.Logger, m *metrics) (*app, error) {
	if err := checkPrivate(dir); err != nil {
		return nil, err
	}
	seal, err := openSealer(filepath.Join(dir, sealName))
	if err != nil {
		return nil, err
	}
	keeper, err := openKeeper(ctx, dir, cfg, log)
	if err != nil {
		return nil, err
	}
	// A missing database beside a configuration is a loss, not a new start:
	// opening it would begin a second history.
	database := filepath.Join(dir, databaseName)
	if info, err := os.Stat(database); errors.Is(err, fs.ErrNotExist) || (err == nil && info.Size() == 0) {
		return nil, admin.Failedf("restore it from a backup; `bollard init` starts anew in another directory", "the database %s is missing or empty", database)
	}
	blocked, err := quality.Load(dir)
	if err != nil {
		return nil, admin.Failedf("mend or remove the file; no certificate is issued without its block lists", "%v", err)
	}
	db, err := store.Open(ctx, store.Config{Path: database, Clock: clock, Log: log})
	if err != nil {
		return nil, errors.Join(err, blocked.Close(), keeper.Close())
	}
	a := &app{dir: dir, cfg: cfg, log: log, clock: clock, store: db, keeper: keeper, blocked: blocked, seal: seal}
	a.notary = newNotary(db, keeper, cfg)
	a.backends.Store(&cfg.Backends)
	if err := a.openServices(ctx, m); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *app) openServices(ctx context.Context, m *metrics) error {
	authority, err := ca.New(ctx, ca.Config{
		Assurance:    assurance(a.cfg),
		Store:        a.store,
		KeyBase:      a.cfg.Keys.URI,
		StatusURL:    statusURL(a.cfg),
		Organisation: a.cfg.Organisation,
		Country:      a.cfg.Country,
		Curves20:     curves20(a.cfg),
		Blocked:      a.blocked,
		Keeper:       a.keeper,
		Alarm: func(ctx context.Context, issuer string) error {
			return a.alerts.Record(ctx, detect.Sign{Kind: detect.MountAnswer, Detail: issuer})
		},
		Clock: a.clock,
		Log:   a.log,
	})
	if err != nil {
		return err
	}
	alerts := alert.Config{
		Store: a.store, Minimum: detect.Criticality(a.cfg.Alerts.Minimum), Organisation: a.cfg.Organisation, Clock: a.clock, Log: a.log,
	}
	var refused func(class string)
	if m != nil {
		refused, alerts.Observer = m.refused, m
	}
	if alerts.Receivers, err = alertReceivers(a.dir, a.cfg); err != nil {
		return err
	}
	if a.alerts, err = alert.New(alerts); err != nil {
		return err
	}
	if a.docket, err = a.openDocket(); err != nil {
		return err
	}
	verdictKey, err := a.seal.verdictKey()
	if err != nil {
		return err
	}
	checker, err := a.newRevocation(authority)
	if err != nil {
		return err
	}
	service, err := fleet.New(ctx, fleet.Config{
		Store:           a.store,
		VerdictKey:      verdictKey,
		Authority:       authority,
		Revocation:      checker,
		Record:          func(ctx context.Context, e ledger.Event) error { return a.store.Record(ctx, e) },
		Organisation:    a.cfg.Organisation,
		PublicURL:       a.cfg.Public.OCPP,
		RolloverURL:     a.cfg.Public.Rollover,
		UnknownIdentity: a.cfg.UnknownIdentity,
		Clock:           a.clock,
		Log:             a.log,
		Refused:         refused,
		Watcher:         a.alerts,
		Approved:        a.docket.Grant,

		ServedRoots:  a.servedRoots,
		Guard:        guardRules(a.cfg.Guard),
		P224:         models(a.cfg.P224),
		KeepUpstream: a.keepUpstream,

		AnswersCars: a.answersCars,

		RenewalsPerMinute: a.cfg.Renewal.PerMinute,
		RevokeSuperseded:  a.cfg.Renewal.RevokeSuperseded,
	})
	if err != nil {
		return err
	}
	a.authority, a.fleet = authority, service
	a.registrar = fleet.NewRegistrar(service, a.store)
	a.controller = fleet.NewController(service, a.store)
	pools, cps, err := contractPools(a.dir, a.cfg)
	if err != nil {
		return err
	}
	a.contracts, err = contract.New(ctx, contract.Config{
		Store: a.store, Authority: authority, Pools: pools, CPS: cps, Revocation: checker, HardFail: a.cfg.Contracts.Revocation == config.RevocationHard,
		Strict: a.cfg.Contracts.Leaves == config.LeavesStrict,
		Flooded: func(ctx context.Context, maker string) error {
			return a.alerts.Record(ctx, detect.Sign{Kind: detect.MakerFlood, Detail: maker})
		}, Clock: a.clock, Log: a.log,
	})
	if err != nil {
		return err
	}
	return a.openFirmware(ctx)
}

// curves20 are the curves of ISO 15118-20 that the configuration names.
func curves20(cfg *config.File) []ca.KeyClass {
	var list []ca.KeyClass
	for _, name := range cfg.Contracts.Curves20 {
		list = append(list, ca.KeyClass(name))
	}
	return list
}

// assurance are the policies that the configuration names; it was checked when it was
// read.
func assurance(cfg *config.File) ca.Assurance {
	attested, _ := x509.ParseOID(cfg.Assurance.Attested)
	other, _ := x509.ParseOID(cfg.Assurance.Other)
	return ca.Assurance{Attested: attested, Other: other}
}

// statusURL is what certificates name: nothing while only a running server
// knows the port.
func statusURL(cfg *config.File) string {
	at := cfg.StatusURL()
	if u, err := url.Parse(at); err != nil || u.Port() == "0" {
		return ""
	}
	return at
}

// operations without a server: nothing is live.
func (a *app) operations() *admin.Registry {
	rules := &policing{app: a}
	return rules.register(a.withUpkeep(admin.New(a.adminConfig())))
}

// backendNames are those of the back ends in force, as the gateway calls them.
func (a *app) backendNames() []string {
	var names []string
	for i, b := range *a.backends.Load() {
		names = append(names, backendName(b, i))
	}
	return names
}

func (a *app) adminConfig() admin.Config {
	return admin.Config{
		Fleet: a.fleet, Registrar: a.registrar, Controller: a.controller, Authority: a.authority, Store: a.store, Alerts: a.alerts, Docket: a.docket, Releases: a.releases, Updates: a.updates, Rollouts: a.rollouts, Contracts: a.contracts, Pool: a.poolTokens(), ACME: a.store, Step: a.store, Blocked: a.blocked, Origins: a.store.Leads, Ledger: a.store, Notary: a.notary,
		Seal: a.seal.Seal, Backends: a.backendNames, OwnNames: a.cfg.OwnNames(), Names: a.cfg.ACME.Names, Clock: a.clock, Log: a.log,
	}
}

// Close closes the database and the block lists and leaves the tokens; the
// lock is the caller's.
func (a *app) Close() error {
	var depot error
	if a.depot != nil {
		depot = a.depot.Close()
	}
	return errors.Join(a.store.Close(), a.blocked.Close(), a.keeper.Close(), depot)
}

func openKeeper(ctx context.Context, dir string, cfg *config.File, log *slog.Logger) (*keys.Keeper, error) {
	return keys.New(keys.Config{
		Dir: filepath.Join(dir, keysName), Passphrase: keyPassphrase(ctx, dir, cfg.Keys.PassphraseFile), PIN: hsmPIN(), Log: log,
	})
}

// loadConfig reads DIR/bollard.yaml; without one there is no data directory.
func loadConfig(dir string) (*config.File, error) {
	cfg, _, err := readConfig(dir)
	return cfg, err
}

// readConfig is loadConfig with the file's digest, for the record.
func readConfig(dir string) (cfg *config.File, digest string, err error) {
	cfg, digest, err = config.Load(filepath.Join(dir, configName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", noDataDirectory(dir)
	}
	if err != nil {
		return nil, "", err
	}
	if _, err := keys.Join(cfg.Keys.URI, "probe.key"); err != nil {
		return nil, "", admin.Usagef("write keys.uri in "+configName+" as docs/keys.md has it", "%s: keys.uri: %w", filepath.Join(dir, configName), err)
	}
	return cfg, digest, nil
}

func noDataDirectory(dir string) error {
	// What can't be looked at is no leftover.
	if found, _ := leftovers(dir); len(found) > 0 {
		return admin.Usagef(removeLeftovers(dir, found), "%s is missing in %s, which already has %s", configName, dir, strings.Join(found, ", "))
	}
	return admin.Usagef("`bollard init --data "+shellWord(dir)+"` makes one, or name another with --data", "there is no %s in %s", configName, dir)
}

// checkPrivate refuses a data directory others can enter: the protection of
// keys, database and socket starts there.
func checkPrivate(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("couldn't look at the data directory: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return admin.Refusedf("`chmod 700 "+shellWord(dir)+"`", "the data directory %s is open to other users (mode %04o)", dir, mode)
	}
	return nil
}

// withOperations runs f with the operations of the running server, or, if
// there is none, with its own while it holds the lock: never two writers.
func (c *cli) withOperations(ctx context.Context, f func(ctx context.Context, v admin.Invoker) error) error {
	if _, err := os.Stat(filepath.Join(c.data, configName)); errors.Is(err, fs.ErrNotExist) {
		return noDataDirectory(c.data)
	}
	lock, client, err := lockOrServer(ctx, c.data)
	if err != nil {
		return err
	}
	if client != nil {
		return f(ctx, client)
	}
	defer lock.release()
	if err := refuseForeignOwner(c.data); err != nil {
		return err
	}
	cfg, err := loadConfig(c.data)
	if err != nil {
		return err
	}
	a, err := openApp(ctx, c.data, cfg, quietLog(c.stderr))
	if err != nil {
		return err
	}
	err = f(admin.WithActor(ctx, admin.OperatorName(os.Geteuid())), a.operations())
	return errors.Join(err, a.Close())
}

// call runs one operation, wherever it is to be run.
func call[In, Out any](ctx context.Context, c *cli, name string, in In) (Out, error) {
	var out Out
	err := c.withOperations(ctx, func(ctx context.Context, v admin.Invoker) error {
		var err error
		out, err = admin.Call[In, Out](ctx, v, name, in)
		return err
	})
	return out, err
}
