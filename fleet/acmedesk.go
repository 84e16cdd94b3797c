package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bollard/ca"
	"bollard/ca/acme"
	"bollard/ca/est"
	"bollard/tpm/attest"
)

var _ acme.Registrar = (*Registrar)(nil)

// WireACME marks the order of a request that came over ACME; its certificate is fetched
// there.
const WireACME Wire = "acme"

// proofTPM is how ACME proves an applicant.
const proofTPM = "TPM"

// Attest says whether a statement is by the TPM of the station with this serial number.
func (r *Registrar) Attest(ctx context.Context, serial string, statement attest.Evidence, nonce []byte) error {
	_, _, err := r.attested(ctx, serial, statement, nonce)
	return err
}

// attested finds the station by its attestation key alone: what it is ordered for only
// has to agree.
func (r *Registrar) attested(ctx context.Context, serial string, statement attest.Evidence, nonce []byte) (Station, ca.Attested, error) {
	s := r.service
	refuse := func(format string, args ...any) (Station, ca.Attested, error) {
		return Station{}, ca.Attested{}, fmt.Errorf("%w: "+format, append([]any{ca.ErrNotAttested}, args...)...)
	}
	attested, err := s.cfg.Authority.Attest(ctx, statement, nonce)
	if err != nil {
		return Station{}, attested, err
	}
	st, err := s.store.Station(ctx, attested.Station())
	switch {
	case errors.Is(err, ErrUnknownStation):
		return refuse("station %.64q was removed", attested.Station())
	case err != nil:
		return Station{}, attested, err
	case !st.LostAt.IsZero():
		return refuse("%s", st.lost())
	case st.Serial != serial:
		return refuse("the attestation key is in the TPM of station %.64q, which has another serial number than was ordered for", st.Identity)
	}
	return st, attested, nil
}

// CertifyAttested issues the certificate of an order over ACME, as Certify does of a
// request over EST.
func (r *Registrar) CertifyAttested(ctx context.Context, o *acme.Order, serial string, statement attest.Evidence, nonce []byte, csr ca.CSR) (*ca.Issued, error) {
	s := r.service
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), certifyTimeout)
	defer cancel()
	ordered, err := r.service.store.StationBySerial(ctx, serial)
	if errors.Is(err, ErrUnknownStation) {
		return nil, fmt.Errorf("%w: station was removed meanwhile", ca.ErrNotAttested)
	}
	if err != nil {
		return nil, err
	}
	// Judged in the station's turn: what it is lost or gets another TPM by waits for that.
	key := keyOf(&ordered)
	release, err := s.takeTurn(ctx, key)
	if err != nil {
		return nil, err
	}
	defer release()
	st, attested, err := r.attested(ctx, serial, statement, nonce)
	if err != nil {
		return nil, err
	}
	if !attested.Of(csr.Key, key, st.Serial) {
		return nil, acme.BadRequest("the request's key isn't the one that was attested", "")
	}
	if !s.mayAsk(key) {
		return nil, acme.Busy("station asks for certificates too often", time.Minute)
	}
	named := csr
	named.CommonName = cmp.Or(csr.CommonName, st.Serial)
	if reason := s.estReason(&named, &st); reason != "" {
		if !slices.Contains(st.Warn, CheckCSRSubject) {
			return nil, acme.BadRequest(reason, "")
		}
		s.warned(ctx, key, CheckCSRSubject, reason)
	}
	if reason := s.curveFault(csr.Key, st.Vendor, st.Model, false); reason != "" {
		return nil, acme.BadRequest("a key on P-224 isn't taken: make one on P-256", reason)
	}
	a := &applicant{Registrar: r, station: key, proof: proofTPM, wire: WireACME, order: acme.Reference(o.ID)}
	issued, err := a.fulfil(ctx, &st, &csr, attested)
	if err == nil {
		return issued, nil
	}
	err = a.unissued(&st, err)
	var refused *est.Refusal
	if errors.As(err, &refused) {
		return nil, acme.BadRequest(refused.Public, refused.Reason)
	}
	return nil, err
}
