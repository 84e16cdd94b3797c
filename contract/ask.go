package contract

import (
	"context"
	"encoding/base64"

	"bollard/iso15118/message"
	"bollard/ocpp"
)

// Ask answers a Get15118EVCertificate. longest bounds the answer in characters of
// base64; 0 is what the version carries. late tells that nobody waits any more, nil
// that somebody does. The reason is the operator's; "" tells that a certificate is in
// the answer.
func (s *Service) Ask(ctx context.Context, v ocpp.Version, in *ocpp.Get15118EVCertificateRequest, longest int, actor string, late func() bool) (ocpp.Get15118EVCertificateResponse, string) {
	protocol, err := message.ParseProtocol(in.SchemaVersion)
	if err != nil {
		return Failed(ocpp.ReasonUnsupportedRequest, "schema version"), err.Error()
	}
	if in.Action != ocpp.EVCertificateInstall && in.Action != ocpp.EVCertificateUpdate {
		return Failed(ocpp.ReasonUnsupportedRequest, "action"), "action is neither Install nor Update"
	}
	exi, err := base64.StdEncoding.DecodeString(in.EXIRequest)
	if err != nil {
		return Failed(ocpp.ReasonUnsupportedRequest, "exiRequest isn't base64"), "exiRequest isn't base64"
	}
	if longest == 0 {
		longest = ocpp.MaxEXIResponse
		if v == ocpp.V21 {
			longest = ocpp.MaxEXIResponse21
		}
	}
	request := Request{Protocol: protocol, Update: in.Action == ocpp.EVCertificateUpdate, EXI: exi, Prioritized: in.Prioritized, Actor: actor, Longest: longest, Late: late}
	if in.MaximumChains != nil {
		request.Most = *in.MaximumChains
	}
	a, err := s.Provision(ctx, request)
	if err != nil {
		return Failed(ocpp.ReasonInternalError, "try again later"), err.Error()
	}
	if a.Withheld != "" {
		return Failed(a.Withheld, "exiResponse"), a.Reason
	}
	out := ocpp.Get15118EVCertificateResponse{Status: ocpp.StatusAccepted, EXIResponse: base64.StdEncoding.EncodeToString(a.EXI)}
	if a.Reason != "" {
		out.Status = ocpp.StatusFailed
	}
	if len(out.EXIResponse) > longest { // a failure's: on record as one
		return Failed(ocpp.ReasonTooLargeElement, "exiResponse"), a.Reason
	}
	if v == ocpp.V21 && protocol == message.ISO20 && a.Reason == "" {
		out.Remaining = &a.Remaining
	}
	return out, a.Reason
}

// Failed is an answer without one for the car.
func Failed(reason, text string) ocpp.Get15118EVCertificateResponse {
	return ocpp.Get15118EVCertificateResponse{Status: ocpp.StatusFailed, StatusInfo: &ocpp.StatusInfo{ReasonCode: reason, AdditionalInfo: text}}
}
