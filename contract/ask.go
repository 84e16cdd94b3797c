package contract

import (
	"context"
	"encoding/base64"
	"errors"
	"time"

	"bollard/iso15118/message"
	"bollard/ocpp"
)

// Ask answers a Get15118EVCertificate. longest bounds the answer in characters of
// base64; 0 is what the version carries. left is how long somebody waits, nil as long
// as it takes. The reason is the operator's; "" tells that a certificate is in
// the answer.
func (s *Service) Ask(ctx context.Context, v ocpp.Version, in *ocpp.Get15118EVCertificateRequest, longest int, actor string, left func() time.Duration) (ocpp.Get15118EVCertificateResponse, string) {
	request, err := requestOf(in)
	if err != nil {
		return Failed(ocpp.ReasonUnsupportedRequest, err.Error()), err.Error()
	}
	if longest == 0 {
		longest = ocpp.MaxEXIResponse
		if v == ocpp.V21 {
			longest = ocpp.MaxEXIResponse21
		}
	}
	request.Actor, request.Longest, request.Left = actor, longest, left
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
	if v == ocpp.V21 && request.Protocol == message.ISO20 && a.Reason == "" {
		out.Remaining = &a.Remaining
	}
	return out, a.Reason
}

// requestOf reads what a station passes on, as far as the EXI.
func requestOf(in *ocpp.Get15118EVCertificateRequest) (out Request, err error) {
	out.Update, out.Prioritized = in.Action == ocpp.EVCertificateUpdate, in.Prioritized
	if out.Protocol, err = message.ParseProtocol(in.SchemaVersion); err != nil {
		return out, err
	}
	if in.Action != ocpp.EVCertificateInstall && !out.Update {
		return out, errors.New("action is neither Install nor Update")
	}
	if out.EXI, err = base64.StdEncoding.DecodeString(in.EXIRequest); err != nil {
		return out, errors.New("exiRequest isn't base64")
	}
	if in.MaximumChains != nil {
		out.Most = *in.MaximumChains
	}
	return out, nil
}

// Failed is an answer without one for the car.
func Failed(reason, text string) ocpp.Get15118EVCertificateResponse {
	return ocpp.Get15118EVCertificateResponse{Status: ocpp.StatusFailed, StatusInfo: &ocpp.StatusInfo{ReasonCode: reason, AdditionalInfo: text}}
}
