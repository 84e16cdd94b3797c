package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"bollard/ocpp"
)

// pncVendor marks the 1.6 DataTransfer form of the 2.0.1 certificate messages
// (OCA application note "Using ISO 15118 Plug & Charge with OCPP 1.6").
const pncVendor = "org.openchargealliance.iso15118pnc"

// writingActions are the messages with which a back end could lower a station's
// security, lead it elsewhere or lock it out.
var writingActions = []string{
	ocpp.ActionChangeConfiguration, ocpp.ActionSetVariables, ocpp.ActionSetNetworkProfile, ocpp.ActionCertificateSigned,
	ocpp.ActionInstallCertificate, ocpp.ActionDeleteCertificate, ocpp.ActionDataTransfer, ocpp.ActionReset,
}

// writing is the action of writingActions that a name spells, signed or not.
func writing(name string) string {
	name = bare(name)
	for _, a := range writingActions {
		if known := bare(a); name == known || name == known+"signed" {
			return a
		}
	}
	return ""
}

// Interest says whether Message wants to see this base action. Everything else
// goes on as it came. What a back end sends is looked at whatever the version
// and the spelling: there is no such action, but peers exist that would obey it.
func (s *Service) Interest(v ocpp.Version, d ocpp.Direction, action string) bool {
	if d == ocpp.FromCSMS {
		return writing(action) != "" || action == ocpp.ActionGetLog || action == ocpp.ActionGetDiagnostics
	}
	for _, known := range []string{ocpp.ActionBootNotification, ocpp.ActionSignCertificate, ocpp.ActionDataTransfer} {
		if strings.EqualFold(strings.TrimSpace(action), known) {
			action = known
		}
	}
	switch action {
	case ocpp.ActionBootNotification, ocpp.ActionSignCertificate, ocpp.ActionSecurityEvent, ocpp.ActionFirmwareStatus, ocpp.ActionLogStatus:
		return true
	case ocpp.ActionSignedFirmwareStatus:
		return v == ocpp.V16
	case ocpp.ActionGetCertificateStatus:
		return v != ocpp.V16
	case ocpp.ActionGetCertificateChainStatus:
		return v == ocpp.V21
	case ocpp.ActionDataTransfer:
		return v == ocpp.V16
	}
	return false
}

// Message judges one CALL of an action Interest named. What can't be read in
// exactly one way is refused, never passed.
func (s *Service) Message(ctx context.Context, sess Session, m Message) Verdict {
	v := s.judge(ctx, sess, m)
	s.watchVerdict(sess, m, v)
	return v
}

func (s *Service) judge(ctx context.Context, sess Session, m Message) Verdict {
	if m.Head.Type == ocpp.Send {
		// SEND has one defined action, none of ours (OCPP 2.1 part 4 §4.1.3).
		return Verdict{Act: Drop, Reason: "security action sent without wanting an answer"}
	}
	var v Verdict
	var err error
	switch {
	case m.Direction == ocpp.FromStation && m.Action == ocpp.ActionBootNotification:
		v, err = s.boot(ctx, sess, m)
	case m.Direction == ocpp.FromStation && m.Action == ocpp.ActionSignCertificate:
		v, err = s.signCertificate(ctx, sess, m)
	case m.Direction == ocpp.FromStation && m.Action == ocpp.ActionSecurityEvent:
		v, err = s.securityEvent(ctx, sess, m)
	case m.Direction == ocpp.FromStation && (m.Action == ocpp.ActionFirmwareStatus || m.Action == ocpp.ActionSignedFirmwareStatus):
		v, err = s.firmwareStatus(sess, m)
	case m.Direction == ocpp.FromStation && m.Action == ocpp.ActionLogStatus:
		v, err = s.logStatus(ctx, sess, m)
	case m.Direction == ocpp.FromCSMS && (m.Action == ocpp.ActionGetLog || m.Action == ocpp.ActionGetDiagnostics):
		v, err = s.backendLog(ctx, sess, m)
	case m.Direction == ocpp.FromStation && m.Action == ocpp.ActionGetCertificateStatus:
		v, err = s.certificateStatus(sess, m.Payload, plainStatus)
	case m.Direction == ocpp.FromStation && m.Action == ocpp.ActionGetCertificateChainStatus:
		v, err = s.certificateChainStatus(sess, m.Payload)
	case m.Action == ocpp.ActionDataTransfer:
		v, err = s.dataTransfer(ctx, sess, m)
	case m.Action == ocpp.ActionCertificateSigned:
		v, err = s.certificateSigned(ctx, sess, m.Payload, plainAnswer(sess))
	case m.Action == ocpp.ActionChangeConfiguration:
		v, err = s.changeConfiguration(ctx, sess, m.Payload)
	case m.Action == ocpp.ActionReset:
		v, err = s.reset(sess, m.Payload)
	case m.Action == ocpp.ActionSetVariables:
		v, err = s.setVariables(ctx, sess, m)
	case m.Action == ocpp.ActionSetNetworkProfile:
		v, err = s.setNetworkProfile(sess, m)
	case m.Action == ocpp.ActionInstallCertificate:
		v, err = s.installCertificate(ctx, sess, m.Payload, plainAnswer(sess))
	case m.Action == ocpp.ActionDeleteCertificate:
		v, err = s.deleteCertificate(ctx, m.Payload, plainAnswer(sess))
	default: // a guarded action, misspelt
		return Verdict{Act: Refuse, Code: ocpp.NotImplemented, Reason: "action differs from a guarded one only by case or white space"}
	}
	if err != nil {
		code := ocpp.FormatViolation
		var frame *ocpp.FrameError
		if errors.As(err, &frame) {
			code = frame.Code
		}
		return Verdict{Act: Refuse, Code: code, Reason: err.Error()}
	}
	if m.Direction == ocpp.FromCSMS && v.Reason != "" {
		s.recordVerdict(ctx, sess, m.Action, v.Reason)
	}
	return v
}

// Answered sees the answer of a watched CALL.
func (s *Service) Answered(ctx context.Context, sess Session, call Message, answer ocpp.Head) (then func()) {
	l := s.liveOf(sess)
	if l == nil {
		return nil
	}
	switch call.Action {
	case ocpp.ActionBootNotification:
		var response ocpp.BootNotificationResponse
		if answer.Type != ocpp.CallResult || ocpp.DecodeStrict(answer.Payload, &response) != nil {
			return nil // not accepted; the station will ask again
		}
		return l.bootAnswered(s, response.Status)
	case ocpp.ActionCertificateSigned, ocpp.ActionDataTransfer:
		s.externalAnswered(ctx, sess, call, answer)
	case ocpp.ActionSetNetworkProfile:
		s.slotFilled(ctx, sess, call, answer)
	}
	return nil
}

// answerShape wraps a status the way the message came.
type answerShape func(status, reasonCode, reason string) any

// plainAnswer answers with a status, which 2.x may explain.
func plainAnswer(sess Session) answerShape {
	return func(status, reasonCode, reason string) any {
		if sess.Version() == ocpp.V16 || reasonCode == "" {
			return ocpp.GenericStatus{Status: status}
		}
		return ocpp.GenericStatus{Status: status, StatusInfo: &ocpp.StatusInfo{ReasonCode: reasonCode, AdditionalInfo: reason}}
	}
}

// wrappedAnswer is the 1.6 DataTransfer form: the 2.0.1 answer as a JSON string.
func wrappedAnswer(status, reasonCode, reason string) any {
	inner := ocpp.GenericStatus{Status: status}
	if reasonCode != "" {
		inner.StatusInfo = &ocpp.StatusInfo{ReasonCode: reasonCode, AdditionalInfo: reason}
	}
	return ocpp.DataTransferResponse{Status: ocpp.StatusAccepted, Data: Wrap(inner)}
}

// Wrap encodes a payload as JSON within a JSON string: the 1.6 DataTransfer form.
func Wrap(payload any) json.RawMessage {
	inner, err := json.Marshal(payload)
	if err != nil {
		panic("internal error: couldn't encode an own payload: " + err.Error())
	}
	outer, err := json.Marshal(string(inner))
	if err != nil {
		panic("internal error: couldn't encode an own payload: " + err.Error())
	}
	return outer
}

// wrappedActions are the plug & charge messages Bollard looks into.
func wrappedActions(d ocpp.Direction) []string {
	if d == ocpp.FromStation {
		return []string{ocpp.ActionSignCertificate, ocpp.ActionGetCertificateStatus}
	}
	return []string{ocpp.ActionCertificateSigned, ocpp.ActionInstallCertificate, ocpp.ActionDeleteCertificate}
}
