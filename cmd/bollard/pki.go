package main

import (
	"cmp"
	"context"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/ca"
	"bollard/ca/est"
)

// pki is what listen.pki serves: EST.
func (s *server) pki() (http.Handler, error) {
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
		Log:       s.log,
	})
}

// servePKI serves until ctx ends.
func (s *server) servePKI(ctx context.Context) error {
	handler, err := s.pki()
	if err != nil {
		return err
	}
	return est.Listener{
		Net: s.doors.pki, Handler: handler, Certificate: s.certificates.get, Subjects: s.fleet.Subjects,
		PerSource: s.cfg.Limits.PerSource, Drain: s.cfg.Limits.Drain, Log: s.log,
	}.Serve(ctx)
}
