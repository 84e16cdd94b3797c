package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"bollard/ca"
	"bollard/ledger"
	"bollard/tpm/attest"
)

// What the peer may know of why its evidence isn't taken.
const publicEvidence = "the evidence of where the key is isn't taken"

// Attestation judges the evidence in a station's request: whether its own TPM made the
// key. Without evidence nothing is attested, and that is no fault. ca.ErrNotAttested is
// in the error of evidence that isn't taken.
func (s *Service) Attestation(ctx context.Context, st *Station, csr *ca.CSR) (ca.Attested, error) {
	// Without a hierarchy nobody here says what could count.
	if csr.Evidence == nil || !s.cfg.Authority.Attests() {
		return ca.Attested{}, nil
	}
	evidence, err := attest.ParseEvidence(csr.Evidence)
	if err != nil {
		return ca.Attested{}, fmt.Errorf("%w: %w", ca.ErrNotAttested, err)
	}
	nonce, err := attest.RequestNonce(csr.Key.Public())
	if err != nil {
		return ca.Attested{}, fmt.Errorf("%w: %w", ca.ErrNotAttested, err)
	}
	attested, err := s.cfg.Authority.Attest(ctx, evidence, nonce)
	switch {
	case err != nil:
		return ca.Attested{}, err
	case !attested.Of(csr.Key, keyOf(st), st.Serial):
		return ca.Attested{}, fmt.Errorf("%w: the evidence is about another key, or one in the TPM of another station (it is of %.64q)", ca.ErrNotAttested, attested.Station())
	}
	return attested, nil
}

// unattested records a request that was refused for its evidence. Each costs the station
// one of its requests, so that there are so many and no more.
func (s *Service) unattested(ctx context.Context, key string, door Wire, csr *ca.CSR, reason error) {
	err := s.record(ctx, ledger.Event{Kind: "station.unattested", Subject: key, Actor: "station:" + key, Data: map[string]string{
		"door": string(door), "key": csr.Key.Hash(), "reason": fact(reason.Error()),
	}})
	if err != nil {
		s.log.Error("couldn't record a refused attestation", slog.String("station", key), slog.Any("err", err))
	}
}

// attestedKey is Attestation, with a refusal recorded.
func (s *Service) attestedKey(ctx context.Context, st *Station, door Wire, csr *ca.CSR) (ca.Attested, error) {
	attested, err := s.Attestation(ctx, st, csr)
	if errors.Is(err, ca.ErrNotAttested) {
		s.unattested(ctx, keyOf(st), door, csr, err)
	}
	return attested, err
}
