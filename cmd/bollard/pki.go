package main

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/ca"
	"bollard/ca/attestation"
	"bollard/ca/est"
	"bollard/contract/pool"
)

// pki is what listen.pki serves: EST, ACME for stations, and for servers where names are
// listed for it, step where it has provisioners, and the pool of contracts for those who
// have a token of it.
func (s *server) pki() (http.Handler, *pool.Door, error) {
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bollard_pool_answers_total",
		Help: "Answers to clients of the pool of contracts, by operation (none: an unknown path) and HTTP status.",
	}, []string{"operation", "status"})
	s.metrics.MustRegister(answers)
	door, err := pool.NewDoor(pool.DoorConfig{
		Served: func(operation string, status int) {
			answers.WithLabelValues(cmp.Or(operation, "none"), strconv.Itoa(status)).Inc()
		},
		Tokens: s.poolTokens(), Contracts: s.contracts, Authority: s.authority, Clock: s.clock, Log: s.log,
	})
	if err != nil {
		return nil, nil, err
	}
	enrolment, err := s.enrolment(door)
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", enrolment)
	attestations, err := s.attestations()
	if err != nil {
		return nil, nil, err
	}
	mux.Handle(attestation.Prefix, attestations)
	if err := s.acmeDoors(mux); err != nil {
		return nil, nil, err
	}
	if err := s.stepDoor(mux); err != nil {
		return nil, nil, err
	}
	mux.Handle("/v1/", door)
	mux.Handle("/oauth/", door)
	return mux, door, nil
}

func (s *server) enrolment(door *pool.Door) (http.Handler, error) {
	// Operators enrol at the CPO sub-CA of each edition, under its name.
	var labels []est.Label
	for kind, profile := range map[ca.Kind]string{ca.KindV2G: ca.ProfileSECC, ca.KindV2G20: ca.ProfileSECC20} {
		labels = append(labels, est.Label{Kind: kind, Keys: s.authority.KeyClasses(profile),
			Registrar: &pool.Operators{Door: door, Issuer: s.authority, Kind: kind, Profile: profile, Taken: s.store.SECCTaken}})
	}
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bollard_est_answers_total",
		Help: "Answers to EST requests, by operation (none: an unknown path) and HTTP status.",
	}, []string{"operation", "status"})
	s.metrics.MustRegister(answers)
	return est.New(est.Config{
		Served: func(operation string, status int) {
			answers.WithLabelValues(cmp.Or(operation, "none"), strconv.Itoa(status)).Inc()
		},
		Authority: s.authority,
		Registrar: s.registrar,
		Keys:      ca.KeyClasses(ca.ProfileStation),
		Labels:    labels,
		Log:       s.log,
	})
}

func (s *server) attestations() (http.Handler, error) {
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bollard_attestation_answers_total",
		Help: "Answers to stations that have their TPM's attestation key certified, or show its quotes, by operation and HTTP status.",
	}, []string{"operation", "status"})
	s.metrics.MustRegister(answers)
	return attestation.New(attestation.Config{
		Registrar: s.registrar, Quotes: s.quotes, Clock: s.clock, Log: s.log,
		Served: func(operation string, status int) { answers.WithLabelValues(operation, strconv.Itoa(status)).Inc() },
	})
}

// servePKI serves until ctx ends.
func (s *server) servePKI(ctx context.Context) error {
	handler, door, err := s.pki()
	if err != nil {
		return err
	}
	counting, stop := context.WithCancel(context.WithoutCancel(ctx)) // until the last request is answered
	var counts sync.WaitGroup
	counts.Go(func() { door.Run(counting) })
	counts.Go(func() { s.contracts.Run(counting) })
	defer counts.Wait()
	defer stop()
	return est.Listener{
		Net: s.doors.pki, Handler: handler, Certificate: s.certificates.get, Subjects: s.fleet.Subjects,
		PerSource: s.cfg.Limits.PerSource, Drain: s.cfg.Limits.Drain, Log: s.log,
	}.Serve(ctx)
}

// poolTokens are those of the own pool.
func (a *app) poolTokens() *pool.Tokens { return &pool.Tokens{Store: a.store, Clock: a.clock} }
