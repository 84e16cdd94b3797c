package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bollard/ledger"
	"bollard/ocpp"
)

// Vetted is what is known of a contract that is another provider's.
type Vetted struct {
	// Answer is the station's where the certificate isn't good: whatever the account
	// is worth, the pair of statuses is fixed (C07.FR.15 to .17). nil: the back end
	// decides about the account.
	Answer *ocpp.AuthorizeResponse
	// Good: the chain was verified, and what the back end says is made to agree with
	// that, by Agree.
	Good   bool
	Reason string // for the operator
}

// Vets tells whether contracts of other providers are verified here: where the root
// of one is trusted for mo.
func (s *Service) Vets(ctx context.Context) (bool, error) {
	anchors, err := s.authority.Anchors(ctx, "mo")
	return len(anchors) > 0, err
}

// Vet verifies the certificate a station was shown for an account without a contract
// here, or the hashes of it (C07.FR.05), within two seconds whatever responders do.
// Without either there is nothing to verify.
func (s *Service) Vet(ctx context.Context, in *ocpp.AuthorizeRequest, actor string) (Vetted, error) {
	good, fault := false, (*Fault)(nil)
	switch {
	case in.Certificate != "":
		chain, p, unread := shownChain(in)
		if fault = unread; fault == nil {
			var err error
			if fault, err = s.verifyContract(ctx, p, chain, s.clock()); err != nil {
				return Vetted{}, err
			}
		}
		good = fault == nil
	case len(in.HashData) > maxChain:
		fault = badChain("more hashes than a chain has certificates")
	case len(in.HashData) > 0:
		good, fault = s.vetHashes(ctx, in.HashData, actor)
	default:
		return Vetted{Reason: "an account of others, without a certificate"}, nil
	}
	if fault == nil {
		return Vetted{Good: good, Reason: "a contract of another provider"}, nil
	}
	answer := fault.authorization()
	if s.within("vet "+actor, s.clock()) { // a station that goes on and on is in the ledger already
		err := s.store.Record(ctx, ledger.Event{Kind: "contract.untrusted", Subject: strings.TrimPrefix(actor, stationActor), Actor: actor, Data: map[string]string{
			"status": answer.CertificateStatus, "reason": fault.Reason,
		}})
		if err != nil {
			return Vetted{}, err
		}
	}
	return Vetted{Answer: &answer, Reason: fault.Reason}, nil
}

// vetHashes asks about each certificate of a chain of which the station, which
// verified it, gives hashes alone. They may be anything, and each costs the responder
// a question: one station's don't keep the others' from being asked.
func (s *Service) vetHashes(ctx context.Context, list []ocpp.OCSPRequestData, actor string) (good bool, fault *Fault) {
	if slices.ContainsFunc(list, func(d ocpp.OCSPRequestData) bool { return s.hashedByMO(&d) }) {
		return false, badChain("the certificate is an own contract's, of another account")
	}
	ask := func(ctx context.Context, d ocpp.OCSPRequestData) (bool, error) {
		return s.revocation.RevokedByHash(ctx, d)
	}
	if !s.within("hash "+actor, s.clock()) {
		ask = func(context.Context, ocpp.OCSPRequestData) (bool, error) { return false, errTooOften }
	}
	var questions []question
	for _, d := range list {
		questions = append(questions, question{shortSerial(d.SerialNumber), func(ctx context.Context) (bool, error) { return ask(ctx, d) }})
	}
	return s.inquire(ctx, questions)
}

// shortSerial is a station's text, of bounded length and nothing but what it should be.
func shortSerial(text string) string {
	if len(text) > ocpp.MaxHashSerial {
		text = text[:ocpp.MaxHashSerial]
	}
	return fmt.Sprintf("%q", text)
}

// Agree makes a back end's answer about an account agree with a certificate that is
// good (C07.FR.13, .14). What the back end has against the certificate itself stays:
// it may know more.
func Agree(answer json.RawMessage) (json.RawMessage, error) {
	var said ocpp.AuthorizeResponse
	if err := ocpp.DecodeStrict(answer, &said); err != nil {
		return nil, err
	}
	if said.IDTokenInfo.Status == "" {
		return nil, errors.New("the back end's answer has no idTokenInfo.status")
	}
	status := chainAccepted
	if slices.Contains([]string{tokenBlocked, tokenExpired, tokenInvalid, tokenUnknown}, said.IDTokenInfo.Status) {
		status = chainCancelled
	}
	if said.CertificateStatus == status || said.CertificateStatus != "" && said.CertificateStatus != chainAccepted {
		return answer, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(answer, &members); err != nil {
		return nil, fmt.Errorf("couldn't read the back end's answer: %w", err)
	}
	members["certificateStatus"] = json.RawMessage(`"` + status + `"`)
	return json.Marshal(members)
}
