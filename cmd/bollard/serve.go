package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"bollard/admin"
	"bollard/ledger"
)

// serveOptions of one server.
type serveOptions struct {
	dataDir string
	kept    []ledger.Note     // the ledger must continue them
	log     io.Writer         // where the log goes
	reload  <-chan os.Signal  // each receive re-reads the configuration; may be nil
	ready   func(a addresses) // called once everything listens; may be nil
	clock   func() time.Time  // nil: time.Now
}

// addresses the server really listens on, as host:port; "" is not open.
type addresses struct {
	OCPP   []string // one a listener, in the configuration's order
	PKI    string
	Status string
	Admin  string

	Firmware string
	SFTP     string
	ACME     string
}

func (c *cli) serveCommand() *cobra.Command {
	var checkpoints []string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the front end until SIGTERM",
		Long: `Run the front end until SIGTERM or SIGINT, then let sessions end in order.
SIGHUP re-reads bollard.yaml (back ends, limits, certificate files, approvers,
log level) and the rules in DIR/policy.`,
		Args: cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal doesn't wait for the draining
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			kept, err := readCheckpoints(checkpoints)
			if err != nil {
				return err
			}
			limitMemory(os.DirFS("/"))
			defer keepFloor(liveHeap).release()
			return serve(ctx, serveOptions{dataDir: c.data, kept: kept, log: c.stderr, reload: reload})
		}),
	}
	cmd.Flags().StringArrayVar(&checkpoints, "checkpoint", nil, "file with a checkpoint kept elsewhere (ledger checkpoint prints it): refuse a data directory\nthat was set back to an older state")
	return cmd
}

// serve runs everything of a data directory until ctx ends, then drains.
func serve(ctx context.Context, o serveOptions) error {
	cfg, digest, err := readConfig(o.dataDir)
	if err != nil {
		return err
	}
	lock, err := lockForServer(ctx, o.dataDir)
	if err != nil {
		return err
	}
	defer lock.release() // last: until then nobody else may write
	log, level := newLog(o.log, cfg.Log)
	doors, err := openDoors(ctx, o.dataDir, cfg)
	if err != nil {
		return err
	}
	defer doors.Close() // the servers close theirs; this is for errors on the way
	doors.derivePublic(cfg)
	metrics := newMetrics()
	if o.clock == nil {
		o.clock = time.Now
	}
	a, err := openAppAt(ctx, o.clock, o.dataDir, cfg, log, metrics)
	if err != nil {
		return err
	}
	elsewhere, err := a.keptElsewhere(ctx, log)
	if err == nil {
		err = a.holds(ctx, append(elsewhere, o.kept...))
	}
	var s *server
	if err == nil {
		s, err = newServer(ctx, a, doors, level, metrics.registry)
	}
	if err == nil {
		if failed := a.recordTaken(ctx, "start", digest, s.rules, len(s.warden.Rules().Rules())); failed != nil {
			log.Error("couldn't record the configuration that is taken over; stations are served all the same", "err", failed) // such as on a full disk
		}
		err = s.run(ctx, o.reload, o.ready)
	}
	if closed := a.Close(); err == nil {
		err = closed
	}
	return err
}

// run serves until ctx ends or one part fails; then all parts end. What serves
// sessions, operators and probes outlives the gateway, which lets its sessions
// end first.
func (s *server) run(ctx context.Context, reload <-chan os.Signal, ready func(addresses)) error {
	g, ctx := errgroup.WithContext(ctx)
	late, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	drain := s.cfg.Limits.Drain
	g.Go(func() error {
		defer end()
		return s.gateway.Serve(ctx)
	})
	g.Go(func() error { return s.fleet.Run(late) })
	g.Go(func() error { return s.fleet.HandOnLogs(ctx) })
	g.Go(func() error { return s.alerts.Run(late) })
	g.Go(func() error { return s.controller.Run(ctx) })
	g.Go(func() error { return s.warden.Run(late) })
	g.Go(func() error { return s.updates.Run(late) })
	g.Go(func() error { return s.rollouts.Run(ctx) })
	g.Go(func() error { return s.quotes.Run(ctx) })
	g.Go(func() error { return s.checkImages(ctx) })
	if s.origins != nil {
		g.Go(func() error { return s.origins.Run(ctx) })
	}
	g.Go(func() error { return s.witness.Run(late) })
	g.Go(func() error { return admin.ServeSocket(late, s.doors.socket, s.registry, drain, s.log) })
	if s.doors.admin != nil {
		g.Go(func() error { return admin.ServeHTTP(late, s.doors.admin, s.monitor(ctx), drain, s.log) })
	}
	if s.doors.pki != nil {
		g.Go(func() error { return s.servePKI(late) })
	}
	if s.doors.status != nil {
		g.Go(func() error { return admin.ServeHTTP(late, s.doors.status, s.statusHandler(), drain, s.log) })
	}
	if s.doors.status != nil {
		g.Go(func() error { return s.status.Run(ctx) })
	}
	if s.uploads != nil {
		g.Go(func() error { return s.serveFiles(late) })
	}
	if s.lockers != nil {
		g.Go(func() error { return s.lockers.server.Serve(ctx, s.doors.sftp) })
	}
	if s.outside != nil {
		g.Go(func() error { return s.outside.Run(ctx) })
		g.Go(func() error { return admin.ServeHTTP(late, s.doors.acme, s.outside, drain, s.log) })
	}
	for _, own := range s.maintained {
		g.Go(func() error { return own.Maintain(ctx) })
	}
	g.Go(func() error { return s.authority.MaintainCAs(ctx) })
	g.Go(func() error { return s.authority.MaintainMounts(ctx) })
	g.Go(func() error { return s.watchReload(ctx, reload) })
	g.Go(func() error { return s.maintainTickets(ctx) })
	g.Go(func() error { return s.keepRetention(ctx) })
	g.Go(func() error { return s.watchExpiry(ctx) })
	s.announce()
	if ready != nil {
		ready(s.doors.addresses())
	}
	err := g.Wait()
	if s.recorder != nil {
		s.recorder.Close()
	}
	s.log.Info("stopped")
	return err
}

func (s *server) announce() {
	at := s.doors.addresses()
	for i, l := range s.cfg.Listen.OCPP {
		s.log.Info("listening for stations", "address", at.OCPP[i], "profiles", fmt.Sprint(l.Profiles))
	}
	if at.PKI != "" {
		s.log.Info("listening for enrolment", "address", at.PKI)
	}
	if at.Status != "" {
		s.log.Info("listening for certificate status", "address", at.Status)
	}
	if at.Admin != "" {
		s.log.Info("listening for monitoring", "address", at.Admin)
	}
	if at.Firmware != "" {
		s.log.Info("listening for files", "address", at.Firmware)
	}
	if at.ACME != "" {
		s.log.Info("listening for the CA of the server certificate", "address", at.ACME)
	}
	s.log.Info("ready", "data", s.dir, "version", version())
}

func (s *server) watchReload(ctx context.Context, reload <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			s.log.Info("stopping: sessions end in order", "patience", s.cfg.Limits.Drain)
			return nil
		case <-reload:
			if err := s.reload(ctx); err != nil {
				s.log.Error("couldn't reload: everything stays as it was", "err", err)
			}
		}
	}
}

// reload takes over what can change while sessions live. Everything is read
// and judged before the first of it is used: all or nothing.
func (s *server) reload(ctx context.Context) error {
	cfg, digest, err := readConfig(s.dir)
	if err != nil {
		return err
	}
	backends, err := gatewayBackends(s.dir, cfg, s.store, s.seal)
	if err != nil {
		return err
	}
	files, err := s.frontFiles(cfg.Server)
	if err != nil {
		return err
	}
	rules, rulesDigest, err := readPolicy(s.dir)
	if err != nil {
		return err
	}
	people, err := s.approvalRules(cfg)
	if err != nil {
		return err
	}
	if err := s.recordTaken(ctx, "reload", digest, rulesDigest, len(rules.Rules())); err != nil {
		return err
	}
	if err := s.gateway.Reload(backends, gatewayLimits(cfg)); err != nil {
		return err
	}
	if err := s.docket.Use(people); err != nil {
		return err
	}
	s.warden.Use(rules)
	s.gateway.Reconsider()
	if s.outside == nil { // what a CA of others gave is in place, and may be newer than files
		s.certificates.files.Store(files)
	}
	s.level.Set(logLevel(cfg.Log.Level))
	s.backends.Store(&cfg.Backends)
	s.retention.Store(retentionOf(cfg))
	for _, key := range restartKeys(s.cfg, cfg) {
		s.log.Warn("this change takes effect at the next start only", "key", key)
	}
	s.log.Info("configuration reloaded", "backends", len(backends), "rules", len(rules.Rules()))
	return nil
}
