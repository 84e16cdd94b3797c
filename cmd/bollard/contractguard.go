package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/contract"
	"bollard/fleet"
	"bollard/internal/config"
	"bollard/ocpp"
)

// contractPatience bounds the answer to a car, which gives up after 5 s
// (ISO 15118-2) and its station after 4.5 s.
const contractPatience = 4 * time.Second

// pncVendor marks the 1.6 DataTransfer form of Get15118EVCertificate (OCA
// application note "Using ISO 15118 Plug & Charge with OCPP 1.6").
const pncVendor = "org.openchargealliance.iso15118pnc"

// contractGuard answers cars from the own contracts, before anybody else sees
// their requests.
type contractGuard struct {
	*updateGuard
}

// Interest is the cars' and everybody's.
func (g *contractGuard) Interest(v ocpp.Version, d ocpp.Direction, action string) bool {
	mine := action == ocpp.ActionGet15118EVCertificate || action == ocpp.ActionAuthorize
	return d == ocpp.FromStation && v != ocpp.V16 && mine || g.updateGuard.Interest(v, d, action)
}

// Message answers a car's request, where contracts are answered here, and verifies
// other providers' where their roots are trusted.
func (g *contractGuard) Message(ctx context.Context, s fleet.Session, m fleet.Message) fleet.Verdict {
	action, payload, wrapped, err := carRequest(s, m)
	switch {
	case action == "":
		return g.updateGuard.Message(ctx, s, m)
	case m.Head.Type == ocpp.Send:
		return fleet.Verdict{Act: fleet.Drop, Reason: "a request for a certificate sent without wanting an answer"}
	case s.Security() != fleet.SecurityBollard || g.app.cfg.Contracts.Answer == config.AnswerBackend:
		return fleet.Verdict{Act: fleet.Pass}
	case action == ocpp.ActionAuthorize:
		return g.authorize(ctx, s, payload, wrapped, err)
	case !g.answers():
		return fleet.Verdict{Act: fleet.Pass}
	}
	var request ocpp.Get15118EVCertificateRequest
	if err == nil {
		err = ocpp.DecodeStrict(payload, &request)
	}
	if err != nil {
		return misread(err)
	}
	if pass, err := g.otherwise(ctx, &request); err != nil {
		return fleet.Verdict{Act: fleet.Refuse, Code: ocpp.InternalError, Reason: err.Error()}
	} else if pass {
		return fleet.Verdict{Act: fleet.Pass}
	}
	// Signing and writing take their time, and other frames go on meanwhile.
	return fleet.Verdict{Later: func(ctx context.Context) fleet.Verdict {
		answer, reason := g.ask(ctx, s, &request)
		return answered(answer, wrapped, reason)
	}}
}

// misread refuses what can't be read in one way: the back end might read another
// account in it.
func misread(err error) fleet.Verdict {
	code := ocpp.FormatViolation
	if frame, ok := errors.AsType[*ocpp.FrameError](err); ok {
		code = frame.Code
	}
	return fleet.Verdict{Act: fleet.Refuse, Code: code, Reason: err.Error()}
}

// authorize answers for the own contracts, and for those of other providers whose
// certificate isn't good. Whose is, and whoever else wants to charge, is the back
// end's matter.
func (g *contractGuard) authorize(ctx context.Context, s fleet.Session, payload json.RawMessage, wrapped bool, unread error) fleet.Verdict {
	vets, err := g.app.contracts.Vets(ctx)
	switch {
	case err != nil:
		return fleet.Verdict{Act: fleet.Refuse, Code: ocpp.InternalError, Reason: err.Error()}
	case !vets && !g.answers():
		return fleet.Verdict{Act: fleet.Pass}
	}
	request, verdict := readAuthorize(payload, unread)
	if request == nil {
		return verdict
	}
	answer, ours, err := g.app.contracts.Authorize(ctx, request)
	switch {
	case err != nil:
		return fleet.Verdict{Act: fleet.Refuse, Code: ocpp.InternalError, Reason: err.Error()}
	case ours:
		return answered(answer, wrapped, "a contract of ours")
	case !vets:
		return fleet.Verdict{Act: fleet.Pass}
	}
	adm := s.Admission()
	vetted, err := g.app.contracts.Vet(ctx, request, "station:"+adm.Station.Key())
	switch {
	case err != nil:
		return fleet.Verdict{Act: fleet.Refuse, Code: ocpp.InternalError, Reason: err.Error()}
	case vetted.Answer != nil:
		g.app.log.Warn("a contract of another provider is refused", slog.String("station", adm.Station.Key()), slog.String("session", s.ID()), slog.String("reason", vetted.Reason))
		return answered(*vetted.Answer, wrapped, vetted.Reason)
	case !vetted.Good:
		return fleet.Verdict{Act: fleet.Pass, Reason: vetted.Reason}
	}
	return fleet.Verdict{Act: fleet.Pass, Reason: vetted.Reason, Merge: agreed(wrapped)}
}

// readAuthorize refuses what two readers may read differently.
func readAuthorize(payload json.RawMessage, unread error) (*ocpp.AuthorizeRequest, fleet.Verdict) {
	var request ocpp.AuthorizeRequest
	if unread == nil {
		unread = ocpp.DecodeStrict(payload, &request)
	}
	if unread != nil {
		return nil, misread(unread)
	}
	return &request, fleet.Verdict{}
}

// agreed makes the back end's answer agree with a verified chain, in the form it
// comes in.
func agreed(wrapped bool) func(json.RawMessage) (any, error) {
	return func(result json.RawMessage) (any, error) {
		if !wrapped {
			return contract.Agree(result)
		}
		var transfer ocpp.DataTransferResponse
		if err := ocpp.DecodeStrict(result, &transfer); err != nil {
			return nil, err
		}
		var text string
		if transfer.Status != ocpp.StatusAccepted || json.Unmarshal(transfer.Data, &text) != nil {
			return result, nil //nolint:nilerr // a back end without plug & charge
		}
		inner, err := contract.Agree(json.RawMessage(text))
		if err != nil {
			return nil, err
		}
		transfer.Data = fleet.Wrap(inner)
		return transfer, nil
	}
}

// answered is an answer in the form its question came in.
func answered(answer any, wrapped bool, reason string) fleet.Verdict {
	if wrapped {
		answer = ocpp.DataTransferResponse{Status: ocpp.StatusAccepted, Data: fleet.Wrap(answer)}
	}
	return fleet.Verdict{Act: fleet.Answer, Payload: answer, Reason: reason}
}

// carRequest is the action and the payload of a message for a car in either form;
// "" for others.
func carRequest(s fleet.Session, m fleet.Message) (action string, payload json.RawMessage, wrapped bool, err error) {
	mine := []string{ocpp.ActionGet15118EVCertificate, ocpp.ActionAuthorize}
	switch {
	case m.Direction != ocpp.FromStation:
		return "", nil, false, nil
	case s.Version() != ocpp.V16 && slices.Contains(mine, m.Action):
		return m.Action, m.Payload, false, nil
	case m.Action != ocpp.ActionDataTransfer || s.Version() != ocpp.V16:
		return "", nil, false, nil
	}
	var transfer ocpp.DataTransferRequest
	if ocpp.DecodeStrict(m.Payload, &transfer) != nil {
		return "", nil, false, nil //nolint:nilerr // for the fleet to refuse
	}
	i := slices.IndexFunc(mine, func(a string) bool { return strings.EqualFold(strings.TrimSpace(transfer.MessageID), a) })
	if i < 0 || !strings.EqualFold(strings.TrimSpace(transfer.VendorID), pncVendor) {
		return "", nil, false, nil
	}
	var text string
	if json.Unmarshal(transfer.Data, &text) != nil {
		return mine[i], nil, true, &ocpp.FrameError{Code: ocpp.TypeConstraintViolation, Reason: "data of a plug & charge transfer is not a string"}
	}
	return mine[i], json.RawMessage(text), true, nil
}

// answers says whether contracts are answered here: as bollard.yaml has it, or
// where there is a hierarchy of contracts, or a pool.
func (g *contractGuard) answers() bool { return g.app.answersCars() }

func (a *app) answersCars() bool {
	if a.authority == nil || a.cfg.Contracts.Answer == config.AnswerBackend {
		return false
	}
	return a.cfg.Contracts.Answer == config.AnswerOwn || len(a.cfg.Contracts.Pools) > 0 ||
		len(a.authority.Paths(ca.KindMO)) > 0 || len(a.authority.Paths(ca.KindMO20)) > 0 || len(a.authority.Paths(ca.KindMO448)) > 0
}

// otherwise says whether a car's request goes on to the back end: bollard.yaml lets
// those that nobody here or in a pool could answer.
func (g *contractGuard) otherwise(ctx context.Context, request *ocpp.Get15118EVCertificateRequest) (bool, error) {
	if g.app.cfg.Contracts.Otherwise != config.AnswerBackend {
		return false, nil
	}
	return g.app.contracts.Elsewhere(ctx, request)
}

func (g *contractGuard) ask(ctx context.Context, s fleet.Session, request *ocpp.Get15118EVCertificateRequest) (ocpp.Get15118EVCertificateResponse, string) {
	patience, cancel := context.WithTimeout(ctx, contractPatience)
	defer cancel()
	st := g.station(ctx, s)
	type result struct {
		answer ocpp.Get15118EVCertificateResponse
		reason string
	}
	done := make(chan result, 1)
	until, _ := patience.Deadline()
	left := func() time.Duration { return time.Until(until) }
	// What was begun goes on though the car has given up, as long as the station's
	// session lasts; a certificate that is begun by then is finished in any case.
	s.Go(func(ctx context.Context) {
		answer, reason := g.app.contracts.Ask(ctx, s.Version(), request, g.longest(ctx, s.Version(), st.Key, st.Vendor, st.Model), "station:"+st.Key, left)
		done <- result{answer, reason}
	})
	select {
	case r := <-done:
		if r.reason != "" {
			g.app.log.Warn("a car got no contract certificate", slog.String("station", st.Key), slog.String("session", s.ID()), slog.String("reason", r.reason))
		}
		return r.answer, r.reason
	case <-patience.Done():
		return contract.Failed(ocpp.ReasonInternalError, "try again later"), "no answer in time; the car's next try finds it"
	}
}

// longest answer a station takes: by its own word, else as bollard.yaml has it of its
// model; 0: what its version carries.
func (g *contractGuard) longest(ctx context.Context, v ocpp.Version, key, vendor, model string) int {
	said, err := g.app.fleet.CarAnswer(ctx, key, v)
	if err != nil {
		g.app.log.Warn("couldn't look up how long an answer a station takes", slog.String("station", key), slog.Any("err", err))
	}
	if said > 0 {
		return said
	}
	for _, m := range g.app.cfg.Contracts.Models {
		if (fleet.Model{Vendor: m.Vendor, Model: m.Model}).Fits(vendor, model) {
			return m.MaxResponse
		}
	}
	return 0
}
