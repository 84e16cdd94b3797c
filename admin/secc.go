package admin

import (
	"context"

	"bollard/fleet"
)

// StationSECC changes what cars may know a station by, or only shows it. One of its
// fields beside the identity is set, at most.
type StationSECC struct {
	Identity string      `json:"identity"`
	Add      *fleet.SECC `json:"add,omitempty"`
	Remove   string      `json:"remove,omitempty"` // an identifier; its certificates are revoked
	Renew    bool        `json:"renew,omitempty"`  // have all its certificates toward cars renewed
}

func (o *operations) stationSECC(ctx context.Context, in StationSECC) (Station, error) {
	var s fleet.Station
	var err error
	switch {
	case in.Add != nil:
		s, err = o.cfg.Fleet.AddSECC(ctx, Actor(ctx), in.Identity, *in.Add)
	case in.Remove != "":
		s, err = o.cfg.Fleet.RemoveSECC(ctx, Actor(ctx), in.Identity, in.Remove)
	case in.Renew:
		s, err = o.cfg.Fleet.RenewSECC(ctx, Actor(ctx), in.Identity)
	default:
		s, err = o.cfg.Fleet.Station(ctx, in.Identity)
	}
	return o.station(s), err
}
