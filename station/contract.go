package station

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"bollard/ocpp"
)

// EVCertificate hands a car's request for a contract certificate on (M01, M02; in
// 1.6 inside DataTransfer) and returns the answer for the car, empty if there is
// none. namespace is the schema's of the request, action Install or Update.
func (s *Station) EVCertificate(ctx context.Context, namespace, action string, exi []byte) (answer []byte, err error) {
	request := ocpp.Get15118EVCertificateRequest{SchemaVersion: namespace, Action: action, EXIRequest: base64.StdEncoding.EncodeToString(exi)}
	var response ocpp.Get15118EVCertificateResponse
	if s.State().Version == ocpp.V16 {
		err = s.transferred(ctx, ocpp.ActionGet15118EVCertificate, request, &response)
	} else {
		err = s.ask(ctx, ocpp.ActionGet15118EVCertificate, request, &response)
	}
	if err != nil {
		return nil, err
	}
	answer, err = base64.StdEncoding.DecodeString(response.EXIResponse)
	if err != nil {
		return nil, fmt.Errorf("exiResponse isn't base64: %w", err)
	}
	if len(answer) == 0 {
		reason := ""
		if response.StatusInfo != nil {
			reason = response.StatusInfo.ReasonCode + " " + response.StatusInfo.AdditionalInfo
		}
		return nil, fmt.Errorf("no answer for the car: %s %s", response.Status, reason)
	}
	return answer, nil
}

// transferred asks as 1.6 stations with plug & charge do.
func (s *Station) transferred(ctx context.Context, action string, request, answer any) error {
	inner, err := json.Marshal(request)
	if err != nil {
		return err
	}
	var outer struct {
		Status string `json:"status"`
		Data   string `json:"data"`
	}
	if err := s.ask(ctx, "DataTransfer", object{"vendorId": iso15118pnc, "messageId": action, "data": string(inner)}, &outer); err != nil {
		return err
	}
	if outer.Status != accepted {
		return fmt.Errorf("DataTransfer with %s: %s", action, outer.Status)
	}
	return decodeAnswer(action, json.RawMessage(outer.Data), answer)
}
