package main

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/ca"
	"bollard/ca/acme"
)

// acmePrefix is where the doors of ACME are: below names for server certificates, below
// stations for those of stations.
const acmePrefix = "/acme/"

// acmeNamesDoor is the name of that for servers.
const acmeNamesDoor = "names"

// acmeDoors are that for stations, and that for servers where acme.names lists any.
func (s *server) acmeDoors(mux *http.ServeMux) error {
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bollard_acme_answers_total",
		Help: "Answers to ACME requests, by message type (none: an unknown path) and HTTP status.",
	}, []string{"operation", "status"})
	s.metrics.MustRegister(answers)
	door := acme.Config{
		Host: s.cfg.Host, Store: s.store, Certificates: s.authority, Blocked: s.blocked, Clock: s.clock, Log: s.log,
		Served: func(operation string, status int) {
			answers.WithLabelValues(cmp.Or(operation, "none"), strconv.Itoa(status)).Inc()
		},
	}
	stations := door
	stations.Prefix, stations.Desk = acmePrefix+"stations", &acme.Stations{Registrar: s.registrar, Certificates: s.authority}
	handler, err := acme.New(stations)
	if err != nil {
		return err
	}
	mux.HandleFunc(stations.Prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		if !s.authority.Attests() { // no TPM could be judged
			http.NotFound(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	})
	if len(s.cfg.ACME.Names) == 0 {
		return nil
	}
	names, err := s.acmeNames()
	if err != nil {
		return err
	}
	door.Prefix, door.Desk = acmePrefix+acmeNamesDoor, names
	if !s.cfg.ACME.Open {
		door.Open = s.seal.Open
	}
	if handler, err = acme.New(door); err != nil {
		return err
	}
	mux.Handle(door.Prefix+"/", handler)
	return nil
}

// acmeNames is the desk for server certificates.
func (s *server) acmeNames() (*acme.Names, error) {
	cfg := s.cfg.ACME
	names := &acme.Names{Issuer: s.authority, Own: s.cfg.OwnNames()}
	for i, entry := range cfg.Names {
		name, err := ca.AllowHost(entry)
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
	names.Prober, err = acme.NewProber(probing)
	return names, err
}
