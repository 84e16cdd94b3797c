package fleet

import (
	"context"
	"fmt"
	"log/slog"

	"bollard/ca"
	"bollard/ledger"
	"bollard/tpm/attest"
)

// What the peer may know of why its request isn't taken.
const publicEvidence = "the request doesn't show that the station's TPM made its key"

// Attestation judges where the key of a station's request is: by the evidence in it, and
// by what is wanted of the station. ca.ErrNotAttested is in the error where that isn't
// shown.
func (s *Service) Attestation(ctx context.Context, st *Station, csr *ca.CSR) (ca.Attested, error) {
	attested, err := s.evidence(ctx, st, csr)
	if err != nil {
		return attested, err
	}
	plan, err := s.store.Plan(ctx, keyOf(st))
	if err != nil {
		return attested, err
	}
	return attested, s.demandAttested(ctx, st, &plan, attested)
}

// demandAttested refuses a key that isn't attested where that is wanted of the station.
func (s *Service) demandAttested(ctx context.Context, st *Station, plan *Plan, attested ca.Attested) error {
	if attested != (ca.Attested{}) {
		return nil
	}
	groups, err := s.groups.get(ctx, s.store)
	if err != nil {
		return err
	}
	wanted := Wanted{Groups: groups}
	if plan.Own != nil {
		wanted.Own = map[string]Wants{keyOf(st): *plan.Own}
	}
	if wants, group, _ := wanted.of(st); wants.Attested == AttestedYes {
		return fmt.Errorf("%w: the request has no evidence, and attested keys alone are wanted (group %q; `bollard fleet want --station %s --attested no` makes an exception)", ca.ErrNotAttested, group, st.Identity)
	}
	return nil
}

// evidence judges the evidence in a station's request: whether its own TPM made the key.
// Without evidence nothing is attested, and that is no fault.
func (s *Service) evidence(ctx context.Context, st *Station, csr *ca.CSR) (ca.Attested, error) {
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
