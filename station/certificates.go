package station

import (
	"context"
	"encoding/json"
	"strings"

	"bollard/ocpp"
)

// use translates a certificateType to a use of the trust store, or "".
func use(name string) string {
	switch name {
	case "CentralSystemRootCertificate", csmsRoot:
		return csmsRoot
	case manufacturerRoot, v2gRoot:
		return name
	}
	return ""
}

func (l *link) typeName(use string) string {
	if l.version == ocpp.V16 && use == csmsRoot {
		return "CentralSystemRootCertificate"
	}
	return use
}

// installCertificate adds a root (M05).
func (l *link) installCertificate(payload []byte) reply {
	var req struct {
		Type        string `json:"certificateType"`
		Certificate string `json:"certificate"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	to := use(req.Type)
	if to == "" {
		return l.refuse("UnsupportedParam")
	}
	s := l.s
	if err := s.trust.install(to, req.Certificate, s.now(), s.cfg.AdditionalRootCheck); err != nil {
		s.cfg.Log.Info("refused a root certificate", "station", s.cfg.Identity, "reason", err)
		r := l.refuse("InvalidCertificate")
		if to == csmsRoot {
			event := "InvalidCsmsCertificate"
			if l.version == ocpp.V16 {
				event = "InvalidCentralSystemCertificate" // OCTT TC_078
			}
			r = r.then(func(context.Context) { s.queueEvent(event) })
		}
		return r
	}
	return status(accepted)
}

// deleteCertificate removes a root by its hash data (M04). The station's own
// certificate is not in the store and can't be deleted (M04.FR.06).
func (l *link) deleteCertificate(payload []byte) reply {
	var req struct {
		Hash hashData `json:"certificateHashData"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	for _, own := range l.s.keys.candidates() {
		if strings.EqualFold(strings.TrimLeft(req.Hash.SerialNumber, "0"), serialHex(own.Leaf)) {
			return status("Failed")
		}
	}
	return status(l.s.trust.remove(req.Hash))
}

// getInstalledCertificateIDs lists roots (M03): one type in 1.6, several or
// all in 2.x.
func (l *link) getInstalledCertificateIDs(payload []byte) reply {
	var req struct {
		Type json.RawMessage `json:"certificateType"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	wanted := []string{csmsRoot, manufacturerRoot, v2gRoot}
	if req.Type != nil {
		var one string
		var many []string
		if json.Unmarshal(req.Type, &one) == nil {
			many = []string{one}
		} else if err := json.Unmarshal(req.Type, &many); err != nil {
			return failure(ocpp.TypeConstraintViolation, "certificateType")
		}
		wanted = nil
		for _, name := range many {
			if to := use(name); to != "" {
				wanted = append(wanted, to)
			}
		}
	}
	var plain []hashData
	var chains []object
	for _, to := range wanted {
		for _, c := range l.s.trust.list(to) {
			h, err := hashesOf(c, c, "SHA256")
			if err != nil {
				return failure(ocpp.InternalError, "")
			}
			plain = append(plain, h)
			chains = append(chains, object{"certificateType": l.typeName(to), "certificateHashData": h})
		}
	}
	switch {
	case len(plain) == 0:
		return status("NotFound") // an empty list would break the schema
	case l.version == ocpp.V16:
		return reply{payload: object{"status": accepted, "certificateHashData": plain}}
	}
	return reply{payload: object{"status": accepted, "certificateHashDataChain": chains}}
}

// dataTransfer unwraps the 2.0.1 certificate messages that 1.6 stations with
// plug and charge take this way; any other vendor is unknown.
func (l *link) dataTransfer(payload []byte) reply {
	var req struct {
		Vendor  string `json:"vendorId"`
		Message string `json:"messageId"`
		Data    string `json:"data"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	if req.Vendor != iso15118pnc || l.version != ocpp.V16 || !l.s.deviations().DataTransferCSR {
		return status("UnknownVendorId")
	}
	var h handler
	switch req.Message {
	case "CertificateSigned":
		h = (*link).certificateSigned
	case "TriggerMessage":
		h = (*link).wrappedTrigger
	default:
		return status("UnknownMessageId")
	}
	r := h(l, []byte(req.Data))
	if r.code != "" {
		return status(rejected)
	}
	data, err := json.Marshal(r.payload)
	if err != nil {
		return failure(ocpp.InternalError, "")
	}
	return reply{payload: object{"status": accepted, "data": string(data)}, after: r.after}
}

func (l *link) wrappedTrigger(payload []byte) reply {
	var req struct {
		Requested string `json:"requestedMessage"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	if req.Requested != "SignChargingStationCertificate" && req.Requested != "SignV2GCertificate" {
		return status("NotImplemented")
	}
	return l.triggerSigning()
}
