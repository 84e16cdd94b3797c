package admin

import (
	"context"

	"bollard/fleet"
)

// StationTPM says by which TPM a station is known, or only shows it.
type StationTPM struct {
	Identity string  `json:"identity"`
	EK       *string `json:"ek_sha256,omitempty"` // SHA-256 of the endorsement key's SubjectPublicKeyInfo; "": none
}

func (o *operations) stationTPM(ctx context.Context, in StationTPM) (Station, error) {
	var s fleet.Station
	var err error
	if in.EK != nil {
		s, err = o.cfg.Fleet.SetEK(ctx, Actor(ctx), in.Identity, *in.EK)
	} else {
		s, err = o.cfg.Fleet.Station(ctx, in.Identity)
	}
	return o.station(s), err
}
