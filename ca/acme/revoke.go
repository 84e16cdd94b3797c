package acme

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"

	"bollard/ca"
)

// revoke revokes a certificate of this door: for the account that ordered it, or
// for whoever has its key (RFC 8555 §7.6).
func (d *Door) revoke(w http.ResponseWriter, m *message) error {
	var in struct {
		Certificate string `json:"certificate"`
		Reason      *int   `json:"reason"`
	}
	if err := json.Unmarshal(m.payload, &in); err != nil {
		return problem(malformed, "the payload has no certificate")
	}
	der, err := base64.RawURLEncoding.DecodeString(in.Certificate)
	if err != nil {
		return problem(malformed, "certificate isn't base64url of DER without padding")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return problem(malformed, "certificate isn't readable")
	}
	code := 0
	if in.Reason != nil {
		code = *in.Reason
	}
	reason, ok := ca.HoldersReason(code)
	if !ok {
		return problem(badRevocationReason, "reasons are 0, 1, 3, 4, 5 and 9: revocation is for good")
	}
	issued, err := d.cfg.Certificates.Lookup(m.Context(), ca.SerialOf(cert))
	switch {
	case errors.Is(err, ca.ErrUnknownSerial):
		return &Problem{Type: malformed, Detail: "the certificate isn't from here", Status: http.StatusNotFound}
	case err != nil:
		return err
	case subtle.ConstantTimeCompare(issued.DER, der) != 1:
		return &Problem{Type: malformed, Detail: "the certificate isn't from here", Status: http.StatusNotFound}
	}
	actor, err := d.mayRevoke(m, issued)
	if err != nil {
		return err
	}
	if issued.State != ca.StateIssued {
		return problem(alreadyRevoked, "the certificate is revoked already")
	}
	// Who stops waiting doesn't stop it.
	if _, err := d.cfg.Certificates.Revoke(context.WithoutCancel(m.Context()), issued.Serial, reason, actor); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// mayRevoke says who asks, as the ledger names them.
func (d *Door) mayRevoke(m *message, issued *ca.Issued) (string, error) {
	const refused = "the certificate isn't this account's, nor is this its key"
	if m.account == nil {
		if issued.KeyHash != keyHashOf(m) {
			return "", Unauthorized(refused, "")
		}
		return "acme:key:" + issued.KeyHash[:16], nil
	}
	o, ok, err := d.cfg.Store.ACMEOrderBySerial(m.Context(), issued.Serial)
	if err != nil {
		return "", err
	}
	if !ok || o.Account != m.account.ID {
		return "", Unauthorized(refused, "account asks to revoke certificate "+issued.Serial+" of another")
	}
	return Requester(m.account.ID), nil
}
