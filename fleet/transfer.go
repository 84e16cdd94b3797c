package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"bollard/ocpp"
)

var errUnreadable = errors.New("payload can't be read")

// Names that stand for nothing but the settings Bollard guards: a transfer that
// speaks of one of them sets it, or is close to it.
var tellingNames = []string{
	"authorizationkey", "basicauthpassword", "securityprofile", "networkconfigurationpriority", "networkconnectionprofiles",
	"ocppcsmsurl", "centralsystemurl", "centralsystemuri", "allowsecurityprofiledowngrade", "allowcsmstlswildcards", "additionalrootcertificatecheck",
}

// dataTransfer looks into the plug & charge form of certificate messages, and
// into what a back end sends to its stations in any vendor's name.
func (s *Service) dataTransfer(ctx context.Context, sess Session, m Message) (Verdict, error) {
	var transfer ocpp.DataTransferRequest
	if err := ocpp.DecodeStrict(m.Payload, &transfer); err != nil {
		return Verdict{}, err
	}
	if name := wrappedAction(m.Direction, &transfer); name != "" && sess.Version() == ocpp.V16 {
		return s.plugAndCharge(ctx, sess, name, transfer.Data)
	}
	if m.Direction == ocpp.FromStation {
		return Verdict{Act: Pass}, nil
	}
	reason := s.transferFault(ctx, sess, &transfer, m.Payload)
	if reason == "" {
		return Verdict{Act: Pass}, nil
	}
	answer := ocpp.DataTransferResponse{Status: ocpp.StatusRejected}
	if sess.Version() != ocpp.V16 {
		answer.StatusInfo = &ocpp.StatusInfo{ReasonCode: ocpp.ReasonUnsupportedRequest, AdditionalInfo: "what it sets " + lockoutReason}
	}
	return Verdict{Act: Answer, Payload: answer, Reason: "DataTransfer: " + reason}, nil
}

func (s *Service) plugAndCharge(ctx context.Context, sess Session, name string, data json.RawMessage) (Verdict, error) {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return Verdict{}, &ocpp.FrameError{Code: ocpp.TypeConstraintViolation, Reason: "data of a plug & charge transfer is not a string"}
	}
	payload := json.RawMessage(text)
	switch name {
	case ocpp.ActionSignCertificate:
		return s.certificateRequest(ctx, sess, payload, WireDataTransfer, wrappedAnswer)
	case ocpp.ActionGetCertificateStatus:
		return s.certificateStatus(sess, payload, wrappedStatus)
	case ocpp.ActionInstallCertificate:
		return s.installCertificate(ctx, sess, payload, wrappedAnswer)
	case ocpp.ActionDeleteCertificate:
		return s.deleteCertificate(ctx, payload, wrappedAnswer)
	}
	return s.certificateSigned(ctx, sess, payload, wrappedAnswer)
}

// transferred is a 1.6 session whose CALLs go as 2.0.1 messages inside DataTransfer.
type transferred struct{ Session }

func (t transferred) Version() ocpp.Version { return ocpp.V201 }

// Call returns the 2.0.1 answer. A station that doesn't know the vendor or the
// message is one that lacks it: a *ocpp.CallFailure.
func (t transferred) Call(ctx context.Context, action string, payload any) (json.RawMessage, error) {
	answer, err := t.Session.Call(ctx, ocpp.ActionDataTransfer, ocpp.DataTransferRequest{VendorID: pncVendor, MessageID: action, Data: Wrap(payload)})
	if err != nil {
		return nil, err
	}
	var response ocpp.DataTransferResponse
	if ocpp.DecodeStrict(answer, &response) == nil && len(response.Data) == 0 {
		// Some accept whatever vendor's message comes.
		return nil, &ocpp.CallFailure{Code: ocpp.NotSupported, Description: "DataTransfer answered " + capped(response.Status) + " and nothing else"}
	}
	return unwrapAnswer(answer)
}

// wrappedAction is the plug & charge message in a transfer, "" if it has none.
func wrappedAction(d ocpp.Direction, transfer *ocpp.DataTransferRequest) string {
	if !strings.EqualFold(strings.TrimSpace(transfer.VendorID), pncVendor) {
		return ""
	}
	for _, action := range wrappedActions(d) {
		if strings.EqualFold(strings.TrimSpace(transfer.MessageID), action) {
			return action
		}
	}
	return ""
}

// transferFault says why a transfer may not reach the station: a model's rule
// names it, it wraps a message that is refused by itself, or it speaks of what
// Bollard guards.
func (s *Service) transferFault(ctx context.Context, sess Session, transfer *ocpp.DataTransferRequest, whole json.RawMessage) string {
	adm := sess.Admission()
	rules := s.guardRules(adm.Station.Vendor, adm.Station.Model)
	is := func(pattern string) bool {
		vendor, message, both := strings.Cut(pattern, "/")
		return fits(dotted(vendor), dotted(transfer.VendorID)) && (!both || fits(dotted(message), dotted(transfer.MessageID)))
	}
	if slices.ContainsFunc(rules, func(r GuardRule) bool { return slices.ContainsFunc(r.Transfers, is) }) {
		return "guard in bollard.yaml refuses it for this model"
	}
	if why := s.wrappedFault(ctx, sess, transfer); why != "" {
		return why
	}
	allowed := slices.ContainsFunc(rules, func(r GuardRule) bool { return slices.ContainsFunc(r.Allow, is) })
	if wrapsUpdate(transfer.MessageID) && !allowed {
		return "a firmware update comes as itself, or not at all: guard in bollard.yaml can allow it for a model"
	}
	why := ""
	eachText(string(whole), func(text string) {
		plain := bare(text)
		for _, name := range tellingNames {
			if strings.Contains(plain, name) && text != string(whole) {
				why = "it speaks of " + name
			}
		}
	})
	if why == "" && !allowed && s.leadsElsewhere(string(whole)) {
		why = "it holds the URL of another back end: guard in bollard.yaml can allow it for a model"
	}
	return why
}

// wrapsUpdate says whether a transfer has the name of a message with which a back
// end has firmware installed, whoever its vendor is (promise 10).
func wrapsUpdate(message string) bool {
	name := strings.TrimSuffix(bare(message), "signed") // UpdateFirmware-Signed of 2.x
	return slices.ContainsFunc([]string{ocpp.ActionUpdateFirmware, ocpp.ActionSignedUpdateFirmware, ocpp.ActionPublishFirmware}, func(action string) bool {
		return name == bare(action)
	})
}

// wrappedFault judges a transfer whose message has the name of one that is
// guarded, whoever its vendor is, as that message.
func (s *Service) wrappedFault(ctx context.Context, sess Session, transfer *ocpp.DataTransferRequest) string {
	action := writing(transfer.MessageID)
	if action == "" {
		return ""
	}
	payload := transfer.Data
	var text string
	if json.Unmarshal(payload, &text) == nil {
		payload = json.RawMessage(text)
	}
	fault := func(v Verdict, err error) string {
		switch {
		case err != nil:
			return action + " in it can't be read in one way"
		case v.Act != Pass:
			return v.Reason
		}
		return ""
	}
	switch action {
	case ocpp.ActionChangeConfiguration:
		var change ocpp.ChangeConfigurationRequest16
		if ocpp.DecodeStrict(payload, &change) != nil {
			return fault(Verdict{}, errUnreadable)
		}
		return s.guarded(sess, place{name: change.Key, value: change.Value})
	case ocpp.ActionSetVariables:
		var set ocpp.SetVariablesRequest
		if ocpp.DecodeStrict(payload, &set) != nil {
			return fault(Verdict{}, errUnreadable)
		}
		for _, v := range set.SetVariableData {
			if why := s.guarded(sess, place{component: v.Component.Name, name: v.Variable.Name, value: v.AttributeValue}); why != "" {
				return why
			}
		}
		return ""
	case ocpp.ActionSetNetworkProfile:
		return fault(s.setNetworkProfile(sess, Message{Payload: payload}))
	case ocpp.ActionInstallCertificate:
		return fault(s.installCertificate(ctx, sess, payload, wrappedAnswer))
	case ocpp.ActionDeleteCertificate:
		return fault(s.deleteCertificate(ctx, payload, wrappedAnswer))
	case ocpp.ActionReset:
		return fault(s.reset(sess, payload))
	default:
		return action + " comes as itself, or not at all"
	}
}
