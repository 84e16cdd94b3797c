package contract_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"bollard/iso15118/message"
	"bollard/ocpp"
)

// The form of each version: an answer on failure too, never a part of one.
func TestAsk(t *testing.T) {
	t.Parallel()
	r := newRig(t, append(kindsOf(message.ISO2), kindsOf(message.ISO20)...)...)
	r.add(t)
	request := func(p message.Protocol) *ocpp.Get15118EVCertificateRequest {
		c := r.car(t, p)
		return &ocpp.Get15118EVCertificateRequest{SchemaVersion: p.Namespace(), Action: ocpp.EVCertificateInstall, EXIRequest: base64.StdEncoding.EncodeToString(sign(t, c.request(), c.key))}
	}
	most := 1
	for name, tt := range map[string]struct {
		version   ocpp.Version
		protocol  message.Protocol
		change    func(in *ocpp.Get15118EVCertificateRequest)
		longest   int
		ok        bool
		answered  bool
		reason    string
		remaining bool
	}{
		"2.0.1":              {ocpp.V201, message.ISO2, nil, 0, true, true, "", false},
		"2.1":                {ocpp.V21, message.ISO2, nil, 0, true, true, "", false},
		"2.1 and -20":        {ocpp.V21, message.ISO20, func(in *ocpp.Get15118EVCertificateRequest) { in.MaximumChains = &most }, 0, true, true, "", true},
		"1.6":                {ocpp.V16, message.ISO2, nil, 0, true, true, "", false},
		"2.0.1 and -20":      {ocpp.V201, message.ISO20, nil, 0, false, false, "5600", false},
		"short of the model": {ocpp.V21, message.ISO2, nil, 4000, false, false, "4000", false},
		"model with room":    {ocpp.V201, message.ISO20, nil, 20000, true, true, "", false},
		"unknown schema":     {ocpp.V201, message.ISO2, func(in *ocpp.Get15118EVCertificateRequest) { in.SchemaVersion = "urn:x" }, 0, false, false, "schema", false},
		"unknown action":     {ocpp.V201, message.ISO2, func(in *ocpp.Get15118EVCertificateRequest) { in.Action = "Delete" }, 0, false, false, "Install", false},
		"no base64":          {ocpp.V201, message.ISO2, func(in *ocpp.Get15118EVCertificateRequest) { in.EXIRequest = "%" }, 0, false, false, "base64", false},
		"another action":     {ocpp.V201, message.ISO2, func(in *ocpp.Get15118EVCertificateRequest) { in.Action = ocpp.EVCertificateUpdate }, 0, false, true, "kind", false},
	} {
		in := request(tt.protocol)
		if tt.change != nil {
			tt.change(in)
		}
		out, reason := r.Ask(t.Context(), tt.version, in, tt.longest, "operator", nil)
		if (out.Status == ocpp.StatusAccepted) != tt.ok || (out.EXIResponse != "") != tt.answered || !strings.Contains(reason, tt.reason) || (reason == "") != tt.ok {
			t.Errorf("%s: %s, %d characters, %q", name, out.Status, len(out.EXIResponse), reason)
		}
		if (out.Remaining != nil) != tt.remaining {
			t.Errorf("%s: remaining contracts %v", name, out.Remaining)
		}
		if tt.longest == 0 && tt.version != ocpp.V21 && len(out.EXIResponse) > ocpp.MaxEXIResponse {
			t.Errorf("%s: %d characters", name, len(out.EXIResponse))
		}
	}
}

// What doesn't fit, or comes when nobody waits any more, isn't on record as delivered,
// and the next request gets it.
func TestWithheld(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	r.add(t)
	c := r.car(t, message.ISO2)
	in := &ocpp.Get15118EVCertificateRequest{SchemaVersion: message.ISO2.Namespace(), Action: ocpp.EVCertificateInstall, EXIRequest: base64.StdEncoding.EncodeToString(sign(t, c.request(), c.key))}
	for _, tt := range []struct {
		name       string
		longest    int
		left       func() time.Duration
		kind, code string
	}{
		{"too long", 4000, nil, "contract.refused", ocpp.ReasonTooLargeElement},
		{"too late", 0, func() time.Duration { return 0 }, "contract.refused", ocpp.ReasonInternalError},
		{"in time", 0, func() time.Duration { return time.Minute }, "contract.delivered", ""},
	} {
		out, reason := r.Ask(t.Context(), ocpp.V201, in, tt.longest, "operator", tt.left)
		log := entries(t, r)
		if last := log[len(log)-1]; last.Kind != tt.kind || last.Data["code"] != tt.code || (reason == "") != (tt.code == "") || (out.EXIResponse == "") != (tt.code != "") {
			t.Errorf("%s: %s %s on record, answered %s, %q", tt.name, last.Kind, last.Data["code"], out.Status, reason)
		}
	}
}
