package admin

import (
	"context"
	"time"
)

// EnrolSecret asks for a station's one-time secret for EST.
type EnrolSecret struct {
	Identity string        `json:"identity"`
	Valid    time.Duration `json:"valid"`
}

// NewEnrolSecret tells it, once.
type NewEnrolSecret struct {
	Identity string    `json:"identity"`
	Secret   string    `json:"secret"`
	Until    time.Time `json:"valid_until"`
}

func (o *operations) registerRegistration(r *Registry) {
	Register(r, "station.enrol-secret", o.stationEnrolSecret)
}

func (o *operations) stationEnrolSecret(ctx context.Context, in EnrolSecret) (NewEnrolSecret, error) {
	s, err := o.cfg.Fleet.Station(ctx, in.Identity)
	if err != nil {
		return NewEnrolSecret{}, err
	}
	secret, until, err := o.cfg.Registrar.NewSecret(ctx, Actor(ctx), in.Identity, in.Valid)
	if err != nil {
		return NewEnrolSecret{}, err
	}
	return NewEnrolSecret{Identity: s.Identity, Secret: secret, Until: until}, nil
}
