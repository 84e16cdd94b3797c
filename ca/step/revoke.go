package step

import (
	"context"
	"errors"
	"math/big"
	"net/http"

	"bollard/ca"
)

// revokeRequest is the body of /revoke. What a person wrote as reason stays out of every
// record.
type revokeRequest struct {
	serial string // lower-case hex
	ott    string
	reason string
}

func parseRevoke(data []byte) (*revokeRequest, error) {
	var serial, written string
	var code int
	var passive bool
	in := &revokeRequest{}
	if err := members(data, map[string]any{"serial": &serial, "ott": &in.ott, "reasonCode": &code, "reason": &written, "passive": &passive}); err != nil {
		return nil, err
	}
	var ok bool
	if in.serial, ok = hexSerial(serial); !ok {
		return nil, badRequest("serial isn't a serial number: decimal, or hexadecimal after 0x")
	}
	if in.reason, ok = ca.HoldersReason(code); !ok {
		return nil, badRequest("reasons are 0, 1, 3, 4, 5 and 9: revocation is for good")
	}
	if !passive {
		return nil, &Refusal{Status: http.StatusNotImplemented, Message: "non-passive revocation isn't there; revocation reaches OCSP and CRL in any case"}
	}
	return in, nil
}

// hexSerial reads a serial number as step writes it.
func hexSerial(text string) (string, bool) {
	if len(text) > 64 {
		return "", false
	}
	n, ok := new(big.Int).SetString(text, 0)
	if !ok || n.Sign() <= 0 {
		return "", false
	}
	return n.Text(16), true
}

// revoke revokes a server's certificate: for the provisioner it was issued to, or for
// whoever has its key.
func (d *Door) revoke(w http.ResponseWriter, r *http.Request, _ string) error {
	data, err := body(w, r)
	if err != nil {
		return err
	}
	in, err := parseRevoke(data)
	if err != nil {
		return err
	}
	if in.ott == "" {
		err = d.revokeOwn(r, in)
	} else {
		err = d.revokeByToken(r, in)
	}
	if err == nil {
		send(w, http.StatusOK, map[string]string{"status": "ok"})
	}
	return err
}

// revokeOwn is for whoever has the certificate's key, however it was got.
func (d *Door) revokeOwn(r *http.Request, in *revokeRequest) error {
	held, err := d.holder(r)
	if err != nil {
		return err
	}
	if held.Serial != in.serial {
		if !d.holders.Allow(held.KeyHash) {
			return busy("the holder of certificate "+held.Serial+" asks too often", perHolder.Every)
		}
		err := forbidden("serial isn't that of the client certificate", "holder of certificate "+held.Serial+" asks to revoke another")
		return d.recorded(r.Context(), keyActor(held), "revoke", err)
	}
	return d.end(r.Context(), in, keyActor(held))
}

func (d *Door) revokeByToken(r *http.Request, in *revokeRequest) error {
	by, err := d.prove(r, in.ott, "revoke")
	if err != nil {
		return err
	}
	if err := d.revokeFor(r.Context(), by, in); err != nil {
		return d.recorded(r.Context(), by.provisioner.Requester(), "revoke", err)
	}
	return nil
}

// revokeFor uses a token up first: what a crash leaves is a certificate in force, whose
// client got no answer, and asks again with another token.
func (d *Door) revokeFor(ctx context.Context, by *proof, in *revokeRequest) error {
	p := by.provisioner
	if subject, ok := hexSerial(by.claims.Subject); !ok || subject != in.serial {
		return forbidden("the token is for another serial number (sub)", "token is for another certificate than "+in.serial)
	}
	const notTheirs = "the certificate isn't one of this provisioner's"
	issued, err := d.cfg.Authority.Lookup(ctx, in.serial)
	switch {
	case errors.Is(err, ca.ErrUnknownSerial):
		return forbidden(notTheirs, "certificate "+in.serial+" is unknown")
	case err != nil:
		return err
	case issued.External || issued.Profile != ca.ProfileServer || issued.Requester != p.Requester():
		return forbidden(notTheirs, "certificate "+in.serial+" is of "+issued.Requester)
	case issued.State != ca.StateIssued:
		return badRequest("the certificate is revoked already")
	}
	if err := d.cfg.Store.UseStepToken(ctx, d.use(by, map[string]string{"for": "revoke", "certificate": in.serial})); err != nil {
		return unissued(err)
	}
	return d.end(ctx, in, p.Requester())
}

// end revokes. Who stops waiting doesn't stop it.
func (d *Door) end(ctx context.Context, in *revokeRequest, actor string) error {
	_, err := d.cfg.Authority.Revoke(context.WithoutCancel(ctx), in.serial, in.reason, actor)
	return err
}
