package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/admin"
	"bollard/internal/config"
	"bollard/internal/syslog"
	"bollard/ledger"
	"bollard/ledger/witness"
	"bollard/store"
)

// ledgerPlaces makes the places checkpoints go to; nothing is dialled yet.
func ledgerPlaces(dir string, cfg *config.File, db *store.Store) ([]witness.Place, error) {
	var list []witness.Place
	if file := cfg.Ledger.File; file != "" {
		if err := refuseWithin(dir, file); err != nil {
			return nil, err
		}
		list = append(list, witness.NewFile(within(dir, file)))
	}
	for i, s := range cfg.Ledger.Syslog {
		sender, err := syslogSender(dir, s, syslog.Audit)
		if err != nil {
			return nil, configFault(dir, fmt.Sprintf("ledger.syslog[%d]", i), err)
		}
		list = append(list, witness.NewSyslog(s.Name, sender))
	}
	for i, p := range cfg.Ledger.Webhooks {
		hook, err := checkpointHook(dir, p)
		if err != nil {
			return nil, configFault(dir, fmt.Sprintf("ledger.webhooks[%d]", i), err)
		}
		list = append(list, hook)
	}
	for i, w := range cfg.Ledger.Witnesses {
		cosigner, err := cosigner(dir, w, db)
		if err != nil {
			return nil, configFault(dir, fmt.Sprintf("ledger.witnesses[%d]", i), err)
		}
		list = append(list, cosigner)
	}
	return list, nil
}

func checkpointHook(dir string, p config.Place) (*witness.Webhook, error) {
	at, err := httpPlace(dir, p)
	if err != nil {
		return nil, err
	}
	hook, err := witness.NewWebhook(at)
	if err != nil {
		return nil, &keyedError{"url", err}
	}
	return hook, nil
}

func cosigner(dir string, w config.Witness, db *store.Store) (*witness.Cosigner, error) {
	if _, err := ledger.NewVerifier(w.Key); err != nil {
		return nil, &keyedError{"key", err}
	}
	at, err := httpPlace(dir, config.Place{Name: w.Name, URL: w.URL, Trust: w.Trust, Networks: w.Networks})
	if err != nil {
		return nil, err
	}
	c, err := witness.NewCosigner(at, w.Key, db.TreeHashes)
	if err != nil {
		return nil, &keyedError{"url", err}
	}
	return c, nil
}

func httpPlace(dir string, p config.Place) (witness.HTTPConfig, error) {
	roots, err := trusted(dir, p.Trust)
	if err != nil {
		return witness.HTTPConfig{}, err
	}
	out := witness.HTTPConfig{Name: p.Name, URL: p.URL, RootCAs: roots, Clock: time.Now}
	for _, n := range p.Networks {
		network, err := netip.ParsePrefix(n)
		if err != nil {
			return out, &keyedError{"networks", err}
		}
		out.Networks = append(out.Networks, network.Masked())
	}
	return out, nil
}

// refuseWithin: a file in the data directory goes wherever that goes.
func refuseWithin(dir, file string) error {
	full, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(full, within(full, file)); err == nil && filepath.IsLocal(rel) {
		return admin.Usagef("name a file on another machine's disk", "ledger.file: %s is inside the data directory: who changes the ledger changes it too", file)
	}
	return nil
}

// keptElsewhere is the checkpoint in the file of the configuration. One that a
// restored backup had to give up is no reason not to start: it stays beside.
func (a *app) keptElsewhere(ctx context.Context, log *slog.Logger) ([]ledger.Note, error) {
	if a.cfg.Ledger.File == "" {
		return nil, nil
	}
	n, found, err := witness.NewFile(within(a.dir, a.cfg.Ledger.File)).Newest()
	if err != nil || !found {
		return nil, err
	}
	err = a.holds(ctx, []ledger.Note{n})
	var lost *ledger.CheckpointError
	if errors.As(err, &lost) && lost.Problem == ledger.Lost {
		log.Warn("the checkpoint kept elsewhere is from before a backup was restored", "err", lost)
		return nil, nil
	}
	return []ledger.Note{n}, nil
}

// keptGauge shows how much of the ledger each place has a checkpoint of.
type keptGauge struct {
	service *witness.Service
	places  []witness.Place
	entries *prometheus.Desc
}

func newKeptGauge(s *witness.Service, places []witness.Place) *keptGauge {
	return &keptGauge{s, places, prometheus.NewDesc("bollard_ledger_kept_entries",
		"Entries covered by the newest checkpoint of the ledger that a place took since the start.", []string{"place"}, nil)}
}

// Describe and Collect make it a prometheus.Collector.
func (g *keptGauge) Describe(to chan<- *prometheus.Desc) { to <- g.entries }

// Collect asks the service.
func (g *keptGauge) Collect(to chan<- prometheus.Metric) {
	for _, p := range g.places {
		to <- prometheus.MustNewConstMetric(g.entries, prometheus.GaugeValue, float64(g.service.State(p.Name()).Entries), p.Name())
	}
}
