package csms

import (
	"context"

	"bollard/ocpp"
)

type object = map[string]any

// builtIn answers what a back end without certificates answers. It knows no
// PKI: SignCertificate is NotSupported, as are the vehicle's certificates.
func (s *Server) builtIn(_ context.Context, r Request) (any, error) {
	accepted := object{"status": "Accepted"}
	switch r.Action {
	case "BootNotification":
		return object{"status": "Accepted", "currentTime": s.now(), "interval": s.cfg.Interval}, nil
	case "Heartbeat":
		return object{"currentTime": s.now()}, nil
	case "Authorize":
		if r.Version == ocpp.V16 {
			return object{"idTagInfo": accepted}, nil
		}
		return object{"idTokenInfo": accepted}, nil
	case "DataTransfer":
		return object{"status": "UnknownVendorId"}, nil
	case "StatusNotification", "MeterValues", "FirmwareStatusNotification", "SecurityEventNotification":
		return object{}, nil
	case "SignCertificate", "Get15118EVCertificate", "GetCertificateStatus":
		return nil, &ocpp.CallFailure{Code: ocpp.NotSupported}
	}
	if r.Version == ocpp.V16 {
		switch r.Action {
		case "StartTransaction":
			return object{"idTagInfo": accepted, "transactionId": s.transaction()}, nil
		case "StopTransaction", "DiagnosticsStatusNotification":
			return object{}, nil
		case "LogStatusNotification", "SignedFirmwareStatusNotification":
			return object{}, nil
		}
	} else {
		switch r.Action {
		case "TransactionEvent", "NotifyReport", "NotifyEvent", "LogStatusNotification":
			return object{}, nil
		}
	}
	return nil, &ocpp.CallFailure{Code: ocpp.NotImplemented}
}

func (s *Server) now() string { return s.cfg.Clock().UTC().Format("2006-01-02T15:04:05.000Z") }

func (s *Server) transaction() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transactions++
	return s.transactions
}

// Boot answers BootNotification with a status and interval, for Handle.
func (s *Server) Boot(status string, interval int) Handler {
	return func(context.Context, Request) (any, error) {
		return object{"status": status, "currentTime": s.now(), "interval": interval}, nil
	}
}
