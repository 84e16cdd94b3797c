package main

import (
	"cmp"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/ca/step"
)

// stepDoor is that for the one-time tokens of step, where step looks for it: its client
// asks at the root of the listener.
func (s *server) stepDoor(mux *http.ServeMux) error {
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bollard_step_answers_total",
		Help: "Answers to requests of the step CLI, by operation (none: not served) and HTTP status.",
	}, []string{"operation", "status"})
	s.metrics.MustRegister(answers)
	cfg := s.stepConfig()
	cfg.Served = func(operation string, status int) {
		answers.WithLabelValues(cmp.Or(operation, "none"), strconv.Itoa(status)).Inc()
	}
	door, err := step.New(cfg)
	if err != nil {
		return err
	}
	for _, path := range step.Paths() {
		mux.Handle(path, door)
	}
	return nil
}

func (s *server) stepConfig() step.Config {
	front := s.cfg.Server
	cfg := step.Config{
		Host: s.cfg.Host, Own: s.cfg.OwnNames(), Taken: s.store.StationKnownBy, OtherRoot: front.ECDSA.Certificate != "" || front.RSA.Certificate != "" || front.ACME.Directory != "",
		Store: s.store, Authority: s.authority, Blocked: s.blocked, Version: version(), Clock: s.clock, Log: s.log,
	}
	if len(s.cfg.ACME.Names) > 0 {
		cfg.ACME = []string{acmeNamesDoor}
	}
	return cfg
}
