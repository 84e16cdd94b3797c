package fleet_test

import (
	"testing"

	"bollard/fleet"
	"bollard/ocpp"
)

// An operator's rules keep more back for a model, or let something through that
// the defaults keep; what the standard names stays guarded all the same.
func TestGuardRules(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.guard = []fleet.GuardRule{
		{Vendor: "Acme*", Model: "M?", Keys: []string{"Modem*", "RadioCtrlr.*"}, Transfers: []string{"com.acme/Provision*", "com.worse"}},
		{Vendor: "Acme*", Model: "M?", Allow: []string{"Cst_BackendUrl", "com.acme/Telemetry", "AuthorizationKey", "SecurityProfile"}},
	}
	r.start()
	adm := func(id, vendor string) fleet.Admission {
		return r.admit(withPassword(claim(t, id), r.add(fleet.Enrolment{Identity: id, Vendor: vendor, Model: "M1"})))
	}
	acme, other := adm("CS-1", "ACME Ltd"), adm("CS-2", "Other")
	key := func(name, value string) string { return marshal(t, map[string]string{"key": name, "value": value}) }
	transfer := func(vendor, message, data string) string {
		return marshal(t, map[string]string{"vendorId": vendor, "messageId": message, "data": data})
	}
	for name, tt := range map[string]struct {
		action, payload string
		acme, other     bool // passes
	}{
		"key of the model":        {"ChangeConfiguration", key("Modem.APN", "x"), false, true},
		"variable of the model":   {"SetVariables", `{"setVariableData":[{"attributeValue":"x","component":{"name":"radioctrlr"},"variable":{"name":"Any"}}]}`, false, true},
		"allowed key":             {"ChangeConfiguration", key("Cst_BackendUrl", "wss://elsewhere"), true, false},
		"allowed, but standard":   {"ChangeConfiguration", key("AuthorizationKey", "1"), false, false},
		"allowed, but lower":      {"ChangeConfiguration", key("SecurityProfile", "1"), false, false},
		"transfer of the model":   {"DataTransfer", transfer("com.acme", "provisionStation", "1"), false, true},
		"transfer of the vendor":  {"DataTransfer", transfer("COM.Worse", "anything", "1"), false, true},
		"other message":           {"DataTransfer", transfer("com.acme", "Other", "1"), true, true},
		"URL in a transfer":       {"DataTransfer", transfer("com.acme", "Other", `{"to":"wss:\/\/elsewhere"}`), false, false},
		"allowed URL":             {"DataTransfer", transfer("com.acme", "Telemetry", `{"to":"wss://elsewhere"}`), true, false},
		"allowed, but a password": {"DataTransfer", transfer("com.acme", "Telemetry", `{"Authorization_Key":"1"}`), false, false},
		"harmless":                {"DataTransfer", transfer("com.any", "Display", `{"text":"Welcome, see https://example.com"}`), true, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, side := range []struct {
				adm    fleet.Admission
				passes bool
			}{{acme, tt.acme}, {other, tt.other}} {
				for _, v := range []ocpp.Version{ocpp.V16, ocpp.V21} {
					s := r.open(side.adm, v)
					if got := s.judge(ocpp.FromCSMS, tt.action, tt.payload); (got.Act == fleet.Pass) != side.passes {
						t.Errorf("%s %s: %+v", side.adm.Station.Vendor, v, got)
					}
					s.close()
				}
			}
		})
	}
}
