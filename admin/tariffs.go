package admin

import (
	"context"
	"encoding/json"
	"errors"

	"bollard/ca"
	"bollard/contract"
)

// SignTariff has the tariffs of a charging profile signed.
type SignTariff struct {
	Profile json.RawMessage `json:"profile"` // ChargingProfileType of OCPP 2.x
	// Prefix comes before signatureId in Ids; "": "id".
	Prefix string `json:"prefix,omitempty"`
}

// SignedTariff is the profile with digests and signature.
type SignedTariff struct {
	Profile json.RawMessage `json:"profile"`
	Serial  string          `json:"serial"` // of MO sub-CA 2, which signed
}

func (o *operations) tariffSign(ctx context.Context, in SignTariff) (SignedTariff, error) {
	out, signer, err := o.cfg.Contracts.SignTariff(ctx, Actor(ctx), in.Profile, in.Prefix)
	if errors.Is(err, contract.ErrTariff) {
		return SignedTariff{}, Refusedf("`bollard tariff digest` tells what is signed of a profile", "%w", err)
	}
	if err != nil {
		return SignedTariff{}, err
	}
	return SignedTariff{Profile: out, Serial: ca.SerialOf(signer)}, nil
}
