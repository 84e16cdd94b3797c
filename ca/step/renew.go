package step

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"time"

	"bollard/ca"
)

// renew issues a certificate like the one the client shows, for the same key: that is
// step's way, which sends no request. Its provisioner still has to be there, its names to
// be the provisioner's, and a certificate that signed for it to be good.
func (d *Door) renew(w http.ResponseWriter, r *http.Request, _ string) error {
	held, err := d.holder(r)
	if err != nil {
		return err
	}
	if !d.holders.Allow(held.KeyHash) {
		return busy("the holder of certificate "+held.Serial+" asks too often", perHolder.Every)
	}
	p, err := d.provisionerOf(r.Context(), held.Requester)
	if err != nil {
		return d.recorded(r.Context(), keyActor(held), "renew "+held.Serial, err)
	}
	issued, err := d.again(r.Context(), p, held, r.TLS)
	if err != nil {
		return d.recorded(r.Context(), p.Requester(), "renew "+held.Serial, err)
	}
	sendChain(w, issued)
	return nil
}

func (d *Door) again(ctx context.Context, p *Provisioner, held *ca.Issued, state *tls.ConnectionState) (*ca.Issued, error) {
	now := d.cfg.Clock().Truncate(time.Second) // the last second is included (RFC 5280 §4.1.2.5)
	if now.Before(held.NotBefore) || now.After(held.NotAfter) {
		return nil, forbidden("the certificate isn't in force: get a new one with a token", "certificate "+held.Serial+" ended on "+held.NotAfter.Format(time.RFC3339))
	}
	hosts := held.Certificate.DNSNames
	if err := d.admissible(ctx, p, hosts); err != nil {
		return nil, err
	}
	key, err := ca.PresentedKey(state)
	if err != nil {
		return nil, err
	}
	signer, err := d.signerOf(ctx, p, held)
	if err != nil {
		return nil, err
	}
	return d.issue(ctx, p, signer, ca.Order{
		Profile: ca.ProfileServer, Key: key, Subject: ca.Subject{CommonName: held.Certificate.Subject.CommonName, DNSNames: hosts},
		// As long as the one before, which CreatedAt began (its notBefore lies further back).
		Life:      held.NotAfter.Sub(held.CreatedAt.Truncate(time.Second)),
		Requester: p.Requester(), Reference: requesterPrefix + "renewal:" + held.Serial,
	})
}

// holder is the certificate whose key the client has shown to have: a server's, issued
// here and in force as far as the record says.
func (d *Door) holder(r *http.Request) (*ca.Issued, error) {
	if len(r.TLS.PeerCertificates) == 0 {
		return nil, unauthorized("missing client certificate", "")
	}
	const refused = "the client certificate isn't one that this is for"
	shown := r.TLS.PeerCertificates[0]
	record, known, err := d.cfg.Authority.Status(r.Context(), shown)
	switch {
	case err != nil:
		return nil, err
	case !known || record.External || record.Profile != ca.ProfileServer:
		return nil, unauthorized(refused, "certificate "+ca.SerialOf(shown)+" isn't a server's from here")
	case record.State != ca.StateIssued:
		return nil, unauthorized(refused, "certificate "+record.Serial+" is "+string(record.State))
	}
	return d.cfg.Authority.Lookup(r.Context(), record.Serial)
}

// signerMark is, in the reference of a certificate, before the serial number of the record
// of the one that signed for it.
const signerMark = "/signer:"

// signerOf is the record of the certificate that signed for one of an X5C provisioner's,
// which has to be in force as far as it says; nil for one with a key.
func (d *Door) signerOf(ctx context.Context, p *Provisioner, held *ca.Issued) (*ca.Record, error) {
	if p.Type != TypeX5C {
		return nil, nil
	}
	const refused = "the certificate that signed for this one counts no more: get a new one with a token"
	_, serial, _ := strings.Cut(held.Reference, signerMark)
	signer, err := d.cfg.Authority.Lookup(ctx, serial)
	switch {
	case errors.Is(err, ca.ErrUnknownSerial):
		return nil, forbidden(refused, "nothing is known of what signed for certificate "+held.Serial)
	case err != nil:
		return nil, err
	case signer.State != ca.StateIssued:
		return nil, forbidden(refused, "certificate "+serial+", which signed for "+held.Serial+", is "+string(signer.State))
	}
	return &signer.Record, nil
}

// keyActor is whoever has a certificate's key, as the ledger names them.
func keyActor(held *ca.Issued) string { return "step:key:" + held.KeyHash[:16] }

// provisionerOf finds who asked for a certificate, if that was a provisioner who still may.
func (d *Door) provisionerOf(ctx context.Context, requester string) (*Provisioner, error) {
	name, ok := strings.CutPrefix(requester, requesterPrefix)
	if !ok {
		return nil, forbidden("the certificate is none of step's: renew it where it is from", "certificate of "+requester)
	}
	name, _, _ = strings.Cut(name, "/")
	p, ok, err := d.cfg.Store.StepProvisioner(ctx, name)
	if err != nil {
		return nil, err
	}
	if !ok || p.Requester() != requester {
		return nil, forbidden("the provisioner of the certificate is no more: get a new one with a token", "certificate of "+requester)
	}
	return &p, nil
}
