package main

import (
	"context"
	"net/http"

	"bollard/ca"
	"bollard/ca/est"
)

// pki is what listen.pki serves: EST.
func (s *server) pki() (http.Handler, error) {
	return est.New(est.Config{
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
