package station

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"bollard/ocpp"
)

// reply is what a handler decides: a CALLRESULT, or a CALLERROR if code is
// set, and what to do once it has been sent.
type reply struct {
	payload     any
	code        ocpp.ErrorCode
	description string
	after       func(ctx context.Context)
}

func status(s string) reply { return reply{payload: object{"status": s}} }

// refuse is the status Rejected, in 2.x with a statusInfo; 1.6 has no place for
// the reason.
func (l *link) refuse(reasonCode string) reply {
	if l.version == ocpp.V16 {
		return status(rejected)
	}
	return reply{payload: object{"status": rejected, "statusInfo": object{"reasonCode": reasonCode}}}
}

func failure(code ocpp.ErrorCode, description string) reply {
	return reply{code: code, description: description}
}

// then adds what to do after the answer.
func (r reply) then(f func(ctx context.Context)) reply {
	r.after = f
	return r
}

// handler answers one CALL. It runs in the reader and must not wait.
type handler func(l *link, payload []byte) reply

// handler16 and handler2 are what a station implements; anything else is
// NotImplemented.
func handler16(action string) handler {
	switch action {
	case "ChangeConfiguration":
		return (*link).changeConfiguration
	case "GetConfiguration":
		return (*link).getConfiguration
	case "ExtendedTriggerMessage", "TriggerMessage":
		return (*link).triggerMessage
	case "RemoteStartTransaction":
		return (*link).remoteStart
	case "RemoteStopTransaction":
		return (*link).remoteStop
	case "ChangeAvailability", "ClearCache":
		return func(*link, []byte) reply { return status(accepted) }
	case "UnlockConnector":
		return func(*link, []byte) reply { return status("NotSupported") }
	case "UpdateFirmware":
		return (*link).updatePlain
	case ocpp.ActionSignedUpdateFirmware:
		return (*link).updateFirmware
	}
	return handlerBoth(action)
}

func handler2(action string) handler {
	switch action {
	case ocpp.ActionUpdateFirmware:
		return (*link).updateFirmware
	case ocpp.ActionPublishFirmware:
		return (*link).publishFirmware
	case ocpp.ActionUnpublishFirmware:
		return (*link).unpublishFirmware
	case "SetVariables":
		return (*link).setVariables
	case "GetVariables":
		return (*link).getVariables
	case "GetBaseReport":
		return (*link).getBaseReport
	case "SetNetworkProfile":
		return (*link).setNetworkProfile
	case "TriggerMessage":
		return (*link).triggerMessage
	case "RequestStartTransaction":
		return (*link).remoteStart
	case "RequestStopTransaction":
		return (*link).remoteStop
	case "ChangeAvailability", "ClearCache":
		return func(*link, []byte) reply { return status(accepted) }
	}
	return handlerBoth(action)
}

func handlerBoth(action string) handler {
	switch action {
	case "CertificateSigned":
		return (*link).certificateSigned
	case "InstallCertificate":
		return (*link).installCertificate
	case "DeleteCertificate":
		return (*link).deleteCertificate
	case "GetInstalledCertificateIds":
		return (*link).getInstalledCertificateIDs
	case "DataTransfer":
		return (*link).dataTransfer
	case "Reset":
		return (*link).resetMessage
	case ocpp.ActionGetLog:
		return (*link).getLog
	}
	return nil
}

// handle judges one frame from the CSMS and answers a CALL.
func (l *link) handle(frame []byte) {
	s := l.s
	head, err := ocpp.ParseHead(frame)
	if err != nil {
		var bad *ocpp.FrameError
		if errors.As(err, &bad) && bad.Type == int(ocpp.Call) {
			raw := bad.RawID
			if raw == nil {
				raw = []byte(`"-1"`)
			}
			_ = l.send(ocpp.AppendError(nil, raw, l.version, bad.Code, bad.Reason))
		}
		return // anything else unreadable is dropped (part 4 §4.1.3)
	}
	switch head.Type {
	case ocpp.CallResult, ocpp.CallError:
		l.answered(string(head.ID), frame)
		return
	case ocpp.Call:
	default:
		return
	}
	dev := s.deviations()
	r := l.decide(head, dev)
	if dev.Silent[head.Action] {
		return
	}
	if wait := dev.Slow[head.Action]; wait > 0 {
		s.background(func(ctx context.Context) {
			if s.pause(ctx, wait) {
				l.finish(ctx, head, r, dev)
			}
		})
		return
	}
	l.answer(head, r, dev)
	if r.after != nil {
		s.background(r.after)
	}
}

func (l *link) decide(head ocpp.Head, dev Deviations) reply {
	if payload, ok := dev.Answers[head.Action]; ok {
		return reply{payload: payload}
	}
	if l.s.State().Registration == rejected {
		return failure(ocpp.SecurityError, "the station was not accepted") // B03.FR.08
	}
	find := handler2
	if l.version == ocpp.V16 {
		find = handler16
	}
	h := find(head.Action)
	if h == nil {
		return failure(ocpp.NotImplemented, "")
	}
	return h(l, head.Payload)
}

func (l *link) finish(ctx context.Context, head ocpp.Head, r reply, dev Deviations) {
	l.answer(head, r, dev)
	if r.after != nil {
		r.after(ctx)
	}
}

func (l *link) answer(head ocpp.Head, r reply, dev Deviations) {
	var frame []byte
	if r.code != "" {
		frame = ocpp.AppendError(nil, head.RawID, l.version, r.code, r.description)
	} else {
		var err error
		if frame, err = ocpp.AppendResult(nil, head.RawID, r.payload); err != nil {
			frame = ocpp.AppendError(nil, head.RawID, l.version, ocpp.InternalError, "")
		}
	}
	times := 1
	if dev.Twice[head.Action] {
		times = 2
	}
	for range times {
		if err := l.send(frame); err != nil {
			return // the reader notices
		}
	}
}

// background runs f beside the connection; Close waits for it.
func (s *Station) background(f func(ctx context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	s.wg.Go(func() { f(s.ctx) })
}

// decode reads a request; what it lacks is answered as its version spells it.
func decode(payload []byte, into any) (reply, bool) {
	if err := json.Unmarshal(payload, into); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return failure(ocpp.TypeConstraintViolation, wrong.Field), false
		}
		return failure(ocpp.FormatViolation, ""), false
	}
	return reply{}, true
}

// decodeAnswer reads the payload of a CALLRESULT.
func decodeAnswer(action string, raw json.RawMessage, into any) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("couldn't read the answer to %s: %w", action, err)
	}
	return nil
}

// resetMessage reboots: the connection is closed, the first slot is next, and
// a boot follows (A05.FR.05, B10.FR.04). A running transaction is finished first
// unless the CSMS won't wait.
func (l *link) resetMessage(payload []byte) reply {
	var req struct {
		Type string `json:"type"`
		EVSE *int   `json:"evseId"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	if req.EVSE != nil {
		return l.refuse("UnsupportedRequest") // one EVSE can't be reset alone here
	}
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy != nil && (req.Type == "OnIdle" || req.Type == "Soft") {
		s.reset = true
		if l.version == ocpp.V16 {
			return status(accepted)
		}
		return status("Scheduled")
	}
	return status(accepted).then(func(context.Context) { s.restart() })
}

// restart closes the connection as a reboot does.
func (s *Station) restart() {
	s.rebootFor("RemoteReset")
}

func (s *Station) rebootFor(reason string) {
	s.update(func() {
		s.reset, s.reboot, s.boot = false, true, reason
		s.state.Registration = ""
	})
	if err := s.measure(); err != nil {
		s.cfg.Log.Warn("couldn't measure what boots", "station", s.cfg.Identity, "err", err)
	}
	s.drop("reboot")
}

// triggerMessage sends what the CSMS asks for after the answer. 1.6 asks for
// certificates by ExtendedTriggerMessage.
func (l *link) triggerMessage(payload []byte) reply {
	var req struct {
		Requested string `json:"requestedMessage"`
		EVSE      struct {
			ID int `json:"id"`
		} `json:"evse"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	s := l.s
	send := func(action string, payload func() any) reply {
		return status(accepted).then(func(ctx context.Context) {
			_, _ = s.Call(ctx, action, payload()) // nothing follows from a triggered message
		})
	}
	switch req.Requested {
	case "SignChargePointCertificate", "SignChargingStationCertificate":
		if (req.Requested == "SignChargePointCertificate") != (l.version == ocpp.V16) {
			return status("NotImplemented")
		}
		return l.triggerSigning()
	case ocpp.TriggerSignV2G, ocpp.TriggerSignV2G20:
		return l.triggerSECC(req.Requested, req.EVSE.ID)
	case "Heartbeat":
		return send(req.Requested, func() any { return object{} })
	case "BootNotification":
		return status(accepted).then(func(ctx context.Context) { _, _ = s.Boot(ctx) })
	case "StatusNotification":
		return send(req.Requested, func() any { return s.statusNotification(s.connectorStatus()) })
	case ocpp.TriggerFirmwareStatus:
		return status(accepted).then(func(context.Context) { s.repeatFirmware() })
	case ocpp.ActionPublishStatus:
		if s.cfg.Controller == nil {
			return status("NotImplemented")
		}
		return status(accepted).then(s.repeatPublish)
	case "MeterValues":
		return send(req.Requested, func() any { return s.meterValues("Trigger", s.meter(), "") })
	}
	return status("NotImplemented")
}

func (l *link) triggerSigning() reply {
	s := l.s
	s.mu.Lock()
	organisation := s.set.organisation
	s.mu.Unlock()
	if organisation == "" {
		return status(rejected) // CpoName must be set before A02
	}
	return status(accepted).then(func(ctx context.Context) {
		if err := s.RequestCertificate(ctx); err != nil {
			s.cfg.Log.Warn("couldn't request a certificate", "station", s.cfg.Identity, "err", err)
		}
	})
}
