package admin

import (
	"context"

	"bollard/fleet"
)

// LostStation reports a station lost, or found again.
type LostStation struct {
	Identity string `json:"identity"`
	Reason   string `json:"reason,omitempty"`
	Found    bool   `json:"found,omitempty"`
	Profile  int    `json:"profile,omitempty"` // with Found: lowest to begin with; 0: as before
}

// ReplaceStation gives an identity to another board.
type ReplaceStation struct {
	Identity    string `json:"identity"`
	Serial      string `json:"serial"`
	FactoryHash string `json:"cert_sha256,omitempty"`
	FactoryKey  string `json:"key_sha256,omitempty"`
	Profile     int    `json:"profile,omitempty"`
	Reason      string `json:"reason"`
}

// Replaced tells the new board's password, once.
type Replaced struct {
	Station  Station `json:"station"`
	Password string  `json:"password,omitempty"`
}

// Decommission ends a station for good.
type Decommission struct {
	Identity string `json:"identity"`
	Reason   string `json:"reason"`
}

func (o *operations) stationLost(ctx context.Context, in LostStation) (Station, error) {
	if in.Found {
		s, err := o.cfg.Fleet.Find(ctx, Actor(ctx), in.Identity, in.Profile)
		return o.station(s), err
	}
	s, err := o.cfg.Fleet.Lose(ctx, Actor(ctx), in.Identity, in.Reason)
	return o.station(s), err
}

func (o *operations) stationReplace(ctx context.Context, in ReplaceStation) (Replaced, error) {
	s, password, err := o.cfg.Fleet.Replace(ctx, Actor(ctx), in.Identity, fleet.Replacement{
		Serial: in.Serial, FactoryHash: in.FactoryHash, FactoryKey: in.FactoryKey, Profile: in.Profile, Reason: in.Reason,
	})
	return Replaced{Station: o.station(s), Password: password}, err
}

func (o *operations) stationDecommission(ctx context.Context, in Decommission) (None, error) {
	s, err := o.cfg.Fleet.Station(ctx, in.Identity)
	if err != nil {
		return None{}, err
	}
	err = o.cfg.Fleet.Decommission(ctx, Actor(ctx), in.Identity, in.Reason, UpstreamSecret(stationKey(s.Identity)))
	return None{}, err
}
