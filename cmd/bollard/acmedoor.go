package main

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/ca/acme"
)

// acmePrefix of the door for server certificates.
const acmePrefix = "/acme/names"

// acmeDoor is the door for server certificates; nil without acme.names.
func (s *server) acmeDoor() (http.Handler, error) {
	cfg := s.cfg.ACME
	if len(cfg.Names) == 0 {
		return nil, nil
	}
	names := &acme.Names{Issuer: s.authority, Own: []string{strings.ToLower(s.cfg.Host)}}
	for i, entry := range cfg.Names {
		name, err := acme.AllowName(entry)
		if err != nil {
			return nil, configFault(s.dir, fmt.Sprintf("acme.names[%d]", i), err)
		}
		names.Allow = append(names.Allow, name)
	}
	probing := acme.ProberConfig{Hosts: names.Allow, Resolver: cfg.Resolver, HTTPPort: cfg.HTTPPort, TLSPort: cfg.TLSPort}
	for _, text := range cfg.Networks {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		probing.Networks = append(probing.Networks, network)
	}
	var err error
	if names.Prober, err = acme.NewProber(probing); err != nil {
		return nil, err
	}
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bollard_acme_answers_total",
		Help: "Answers to ACME requests, by message type (none: an unknown path) and HTTP status.",
	}, []string{"operation", "status"})
	s.metrics.MustRegister(answers)
	door := acme.Config{
		Prefix: acmePrefix, Host: s.cfg.Host, Desk: names, Store: s.store, Certificates: s.authority, Blocked: s.blocked, Clock: s.clock, Log: s.log,
		Served: func(operation string, status int) {
			answers.WithLabelValues(cmp.Or(operation, "none"), strconv.Itoa(status)).Inc()
		},
	}
	if !cfg.Open {
		door.Open = s.seal.Open
	}
	return acme.New(door)
}
