package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/admin"
	"bollard/ca"
	"bollard/ca/status"
	"bollard/ca/subscriber"
	"bollard/firmware/depot"
	"bollard/firmware/origin"
	"bollard/firmware/quote"
	"bollard/fleet"
	"bollard/gateway"
	"bollard/internal/config"
	"bollard/internal/rollout"
	"bollard/ledger"
	"bollard/ledger/witness"
	"bollard/ocpp"
	"bollard/store"
	"bollard/uploads"
	"bollard/warden"
)

// server is an app with its listeners and everything that runs.
type server struct {
	*app
	doors      *doors
	level      *slog.LevelVar
	gateway    *gateway.Gateway
	maintained []*ca.ServerCertificates // of the own CA: they renew themselves
	metrics    *prometheus.Registry
	registry   *admin.Registry
	warden     *warden.Warden
	rules      string                 // digest of the policy's files at the start
	recorder   *recorder              // nil: traffic isn't recorded
	uploads    *uploads.Uploads       // nil without listen.firmware
	downloads  *depot.Door            // nil, too
	origins    *origin.Origins        // nil, too
	outside    *subscriber.Subscriber // nil without server_certificate.acme
	lockers    *lockers               // nil without listen.sftp
	witness    *witness.Service
	quotes     *quote.Service
	started    time.Time
	retention  atomic.Pointer[store.Retention]
}

func newServer(ctx context.Context, a *app, d *doors, level *slog.LevelVar, metrics *prometheus.Registry) (*server, error) {
	s := &server{app: a, doors: d, level: level, metrics: metrics, started: time.Now()}
	s.retention.Store(retentionOf(a.cfg))
	var err error
	if s.status, err = status.New(status.Config{
		Authority: a.authority, Clock: a.clock, Log: a.log,
		Calm: func() bool { return s.gateway.Calm() }, // asked once it serves
	}); err != nil {
		return nil, err
	}
	s.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bollard_status_fault", Help: "1 if OCSP responses or revocation lists couldn't be signed anew the last time.",
	}, func() float64 {
		if s.status.Fault() != nil {
			return 1
		}
		return 0
	}))
	s.metrics.MustRegister(newAlertQueues(s.alerts), newRolloutGauges("bollard_", "Rollouts", s.controller.Watch),
		newRolloutGauges("bollard_firmware_", "Rollouts of firmware", func() rollout.Watch { return s.rollouts.Watch() }))
	places, err := ledgerPlaces(a.dir, a.cfg, a.store)
	if err != nil {
		return nil, err
	}
	s.witness = witness.New(witness.Config{Notary: a.notary, Places: places, Every: a.cfg.Ledger.Every, Log: a.log})
	s.metrics.MustRegister(newKeptGauge(s.witness, places))
	backends, err := gatewayBackends(a.dir, a.cfg, a.store, a.seal)
	if err != nil {
		return nil, err
	}
	listeners, err := s.listeners(ctx)
	if err != nil {
		return nil, err
	}
	versions, err := defaultVersions(a.cfg.Stations)
	if err != nil {
		return nil, err
	}
	if err := s.openDoor(ctx); err != nil {
		return nil, err
	}
	if err := s.openQuotes(); err != nil {
		return nil, err
	}
	if err := s.newWarden(ctx); err != nil {
		return nil, err
	}
	s.gateway, err = gateway.New(ctx, gateway.Config{
		Listeners:       listeners,
		Path:            "/ocpp/",
		UnknownIdentity: a.cfg.UnknownIdentity,
		Door:            a.fleet,
		Guard:           s.warden,
		Backends:        backends,
		Limits:          gatewayLimits(a.cfg),
		DefaultVersion:  versions,
		Log:             a.log,
		Metrics:         s.metrics,
		Notice:          a.alerts.Notice,
		Clock:           a.clock,
	})
	if err != nil {
		return nil, err
	}
	a.fleet.Attach(s.gateway)
	a.reconsider = s.gateway.Reconsider
	if err := s.renewTickets(ctx); err != nil {
		return nil, err
	}
	if err := s.openUploads(); err != nil {
		return nil, err
	}
	operations := a.adminConfig()
	operations.Live = s.gateway
	operations.Failed = s.gateway.LastFailure
	operations.Server = s.describe
	if s.origins != nil {
		operations.Origins = func(context.Context) ([]origin.Lead, error) { return s.origins.List(), nil }
	}
	rules := &policing{app: a, warden: s.warden, reconsider: s.gateway.Reconsider}
	s.registry = rules.register(a.withUpkeep(admin.New(operations)))
	return s, nil
}

// newWarden puts policy before the fleet's own judgement.
func (s *server) newWarden(ctx context.Context) error {
	rules, digest, err := readPolicy(s.dir)
	if err != nil {
		return err
	}
	s.rules = digest
	for _, f := range rules.Findings() {
		s.log.Warn("a policy rule does nothing", "rule", f.Rule, "file", f.File, "line", f.Line, "why", f.Text)
	}
	zone, err := time.LoadLocation(s.cfg.Policy.TimeZone) // "" is UTC; config has tried it
	if err != nil {
		return fmt.Errorf("policy.time_zone: %w", err)
	}
	cfg := warden.Config{
		Next: &contractGuard{&updateGuard{s.fleet, s.app}}, Rules: rules, Anchors: s.anchors, Group: s.groupOf, Notice: s.alerts.Notice, Zone: zone, Clock: s.clock, Log: s.log, Metrics: s.metrics,
		Record:       func(ctx context.Context, e ledger.Event) error { return s.store.Record(ctx, e) },
		Transactions: s.store,
	}
	if mb := s.cfg.Policy.RecordMB; mb > 0 {
		if s.recorder, err = newRecorder(s.dir, mb, s.log); err != nil {
			return err
		}
		cfg.Traffic = s.recorder.Take
	}
	s.warden, err = warden.New(ctx, cfg)
	return err
}

// groupOf is station.group of rules.
func (s *server) groupOf(ctx context.Context, sess fleet.Session) string {
	adm := sess.Admission()
	group, err := s.controller.GroupOf(ctx, ocpp.Identity{Name: adm.Station.Identity}.Key())
	if err != nil {
		s.log.Warn("couldn't tell a station's group; rules see none", "station", adm.Station.Identity, "err", err)
	}
	return group
}

func (s *server) listeners(ctx context.Context) ([]gateway.Listener, error) {
	own, err := s.serverCertificates(ctx, false)
	if err != nil {
		return nil, err
	}
	if err := s.openOutside(ctx); err != nil {
		return nil, err
	}
	files, err := s.frontFiles(s.cfg.Server)
	if err != nil {
		return nil, err
	}
	s.maintained = append(s.maintained, own)
	s.certificates = &serverCertificates{own: own}
	s.certificates.files.Store(files)
	var cnOnly *ca.ServerCertificates
	list := make([]gateway.Listener, len(s.cfg.Listen.OCPP))
	for i, l := range s.cfg.Listen.OCPP {
		proxies, _ := l.Proxies() // checked when the file was read
		list[i] = gateway.Listener{
			Name: fmt.Sprintf("ocpp[%d]", i), Net: s.doors.ocpp[i], Profiles: l.Profiles, Allow: l.Allow,
			Trust: l.Trust, Legacy: l.LegacyTLS, RefuseOrigin: l.RefuseOrigin, NewChain: l.Rollover, Proxies: proxies,
		}
		switch {
		case len(l.Profiles) == 1 && l.Profiles[0] == 1: // plain ws
		case l.CNOnly:
			if cnOnly == nil {
				if cnOnly, err = s.serverCertificates(ctx, true); err != nil {
					return nil, err
				}
				s.maintained = append(s.maintained, cnOnly)
			}
			list[i].Certificate = cnOnly.GetCertificate
		case l.Rollover: // the own root is what changes: files have no part in it
			list[i].Certificate = own.GetFollowing
		default:
			list[i].Certificate = s.certificates.get
		}
	}
	return list, nil
}

func defaultVersions(hints []config.StationHint) (map[string]ocpp.Version, error) {
	versions := map[string]ocpp.Version{}
	for i, h := range hints {
		id, err := ocpp.ParseIdentity(h.Identity)
		v, ok := ocpp.ParseSubprotocol("ocpp" + h.Version)
		if err != nil || !ok {
			return nil, fmt.Errorf("stations[%d]: %q with version %q can't be a hint", i, h.Identity, h.Version)
		}
		versions[id.Key()] = v
	}
	return versions, nil
}

// describe tells server.status what runs.
func (s *server) describe() admin.Server {
	at := s.doors.addresses()
	return admin.Server{Version: version(), StartedAt: s.started, OCPP: at.OCPP, PKI: at.PKI, Status: at.Status, Admin: at.Admin, OpenFiles: openFiles()}
}
