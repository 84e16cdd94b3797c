package policy_test

import (
	"crypto/x509"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ocpp"
	"bollard/policy"
)

// promotedAll has every built-in rule in force, with lists as an operator fills them.
func promotedAll(t *testing.T) *policy.Set {
	t.Helper()
	text := `
lists:
  station_hosts: [files.example.com, "*.depot.example.com", 10.1.2.3, "depot.example.com:8445"]
  secondary_backends: [roaming]
  data_transfer_vendors: [org.openchargealliance.iso15118pnc, com.acme]
numbers: {commands_per_minute: 3, backend_commands_per_minute: 5, authorizations_per_minute: 3, boots_per_hour: 2, storm_per_minute: 4, meter_values_ownership: 1, transaction_event_ownership: 1}
promote:
`
	plain, err := policy.New(policy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range plain.Rules() {
		text += "  - " + r.Name + "\n"
	}
	set, err := policy.New(policy.Config{Files: []policy.Source{{Name: "all.yaml", Data: []byte(text)}}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// Every built-in rule refuses what it is for and lets its like pass.
func TestBuiltInRules(t *testing.T) {
	t.Parallel()
	set := promotedAll(t)
	good := root(t, nil)
	hashes := map[string][]string{"V2GRootCertificate": {policy.Anchor(good, noon)}, "ManufacturerRootCertificate": {policy.Anchor(good, noon)}}
	install := func(use, certificate string) string {
		raw, err := json.Marshal(map[string]string{"certificateType": use, "certificate": certificate})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	up := func(in *policy.Input) { in.Direction = ocpp.FromStation }
	backend := func(in *policy.Input) { in.BackendSecurity = "backend" }
	observe := func(in *policy.Input) { in.BackendSecurity = "observe" }
	boot := func(b policy.Boot) func(*policy.Input) { return func(in *policy.Input) { in.Boot = b } }
	owner := func(o policy.Owner) func(*policy.Input) {
		return func(in *policy.Input) { in.Owner = func(string) policy.Owner { return o } }
	}
	type change = func(*policy.Input)
	covered := map[string]bool{}
	for _, tt := range []struct {
		name, action, payload, rule string // rule "": passes
		versions                    []ocpp.Version
		change                      []change
		repeat                      int
		answer                      string // "": not looked at
	}{
		{"log to a listed host", "GetLog", `{"log":{"remoteLocation":"sftp://u:p@files.example.com/x"}}`, "", nil, nil, 0, ""},
		{"log below a listed name", "GetLog", `{"log":{"remoteLocation":"https://a.depot.example.com/x"}}`, "", nil, nil, 0, ""},
		{"log to a listed port", "GetLog", `{"log":{"remoteLocation":"https://depot.example.com:8445/x"}}`, "", nil, nil, 0, ""},
		{"log to another port", "GetLog", `{"log":{"remoteLocation":"https://depot.example.com/x"}}`, "log-urls", nil, nil, 0, `"Rejected"`},
		{"log elsewhere", "GetLog", `{"log":{"remoteLocation":"https://evil.example/x"}}`, "log-urls", nil, nil, 0, `"Rejected"`},
		{"log to user info of a listed host", "GetLog", `{"log":{"remoteLocation":"https://files.example.com@evil.example/x"}}`, "log-urls", nil, nil, 0, ""},
		{"log to a number", "GetLog", `{"log":{"remoteLocation":"ftp://167838211/x"}}`, "log-urls", nil, nil, 0, ""},
		{"log with an option for curl", "GetLog", `{"log":{"remoteLocation":"-oProxyCommand=x"}}`, "log-urls", nil, nil, 0, ""},
		{"log nowhere", "GetLog", `{"log":{}}`, "log-urls", nil, nil, 0, ""},
		{"log location of another type", "GetLog", `{"log":{"remoteLocation":["https://files.example.com/"]}}`, "log-urls", nil, nil, 0, ""},
		{"log elsewhere, observed only", "GetLog", `{"log":{"remoteLocation":"https://evil.example/x"}}`, "", nil, []change{observe}, 0, ""},
		{"diagnostics", "GetDiagnostics", `{"location":"ftp://10.1.2.3/x"}`, "", []ocpp.Version{ocpp.V16}, nil, 0, ""},
		{"diagnostics elsewhere", "GetDiagnostics", `{"location":"ftp://10.1.2.4/x"}`, "diagnostics-urls", []ocpp.Version{ocpp.V16}, nil, 0, "SecurityError"},
		{"firmware", "UpdateFirmware", `{"location":"https://files.example.com/x"}`, "", []ocpp.Version{ocpp.V16}, nil, 0, ""},
		{"firmware elsewhere", "UpdateFirmware", `{"location":"file:///x"}`, "firmware-urls", []ocpp.Version{ocpp.V16}, nil, 0, "SecurityError"},
		{"signed firmware elsewhere", "SignedUpdateFirmware", `{"firmware":{"location":"https://evil.example/x"}}`, "firmware-urls", []ocpp.Version{ocpp.V16}, nil, 0, `"Rejected"`},
		{"firmware of 2.x", "UpdateFirmware", `{"firmware":{"location":"https://files.example.com/x"}}`, "", []ocpp.Version{ocpp.V201, ocpp.V21}, nil, 0, ""},
		{"firmware of 2.x elsewhere", "UpdateFirmware", `{"firmware":{"location":"https://evil.example/x"},"location":"https://files.example.com/x"}`, "firmware-urls", []ocpp.Version{ocpp.V201, ocpp.V21}, nil, 0, `"Rejected"`},
		{"published firmware elsewhere", "PublishFirmware", `{"location":"http://files.example.com.evil.example/"}`, "firmware-urls", []ocpp.Version{ocpp.V201, ocpp.V21}, nil, 0, `"Rejected"`},

		{"trusted root", "InstallCertificate", install("V2GRootCertificate", good), "", []ocpp.Version{ocpp.V201, ocpp.V21}, nil, 0, ""},
		{"trusted for another use", "InstallCertificate", install("MORootCertificate", good), "anchors", nil, nil, 0, `"Rejected"`},
		{"use in another case", "InstallCertificate", install("v2grootcertificate", good), "anchors", nil, nil, 0, ""},
		{"unknown root", "InstallCertificate", install("ManufacturerRootCertificate", root(t, nil)), "anchors", nil, nil, 0, ""},
		{"two roots", "InstallCertificate", install("V2GRootCertificate", good+root(t, nil)), "anchors", nil, nil, 0, ""},
		{"text before the root", "InstallCertificate", install("V2GRootCertificate", "x\n"+good), "anchors", nil, nil, 0, ""},
		{"no root", "InstallCertificate", `{"certificateType":"V2GRootCertificate"}`, "anchors", nil, nil, 0, ""},
		{"the root stations know Bollard by is the guard's", "InstallCertificate", install("CSMSRootCertificate", root(t, nil)), "", nil, nil, 0, ""},
		{"root of a back end that is its own authority", "InstallCertificate", install("V2GRootCertificate", root(t, nil)), "foreign-anchors", nil, []change{backend}, 0, ""},
		{"its trusted root", "InstallCertificate", install("V2GRootCertificate", good), "", nil, []change{backend}, 0, ""},

		{"profile of another authority", "ChangeConfiguration", `{"key":" securityprofile","value":"3"}`, "profile-change", []ocpp.Version{ocpp.V16}, []change{backend}, 0, `"Rejected"`},
		{"profile, 2.x", "SetVariables", `{"setVariableData":[{"attributeValue":"1","component":{"name":"x"},"variable":{"name":"y"}},{"attributeValue":"1","component":{"name":"OCPPCommCtrlr"},"variable":{"name":"NetworkConfigurationPriority"}}]}`, "profile-change", []ocpp.Version{ocpp.V201, ocpp.V21}, []change{backend}, 0, `"Rejected"`},
		{"network profile", "SetNetworkProfile", `{}`, "profile-change", []ocpp.Version{ocpp.V201, ocpp.V21}, []change{backend}, 0, ""},
		{"where Bollard is the authority the guard judges", "SetNetworkProfile", `{}`, "", []ocpp.Version{ocpp.V201, ocpp.V21}, nil, 0, ""},
		{"another variable", "SetVariables", `{"setVariableData":[{"attributeValue":"1","component":{"name":"x"},"variable":{"name":"y"}}]}`, "", []ocpp.Version{ocpp.V201}, []change{backend}, 0, ""},
		{"organisation", "ChangeConfiguration", `{"key":"CPONAME","value":"x"}`, "credential-change", []ocpp.Version{ocpp.V16}, []change{backend}, 0, `"Rejected"`},
		{"another key", "ChangeConfiguration", `{"key":"HeartbeatInterval","value":"1"}`, "", []ocpp.Version{ocpp.V16}, []change{backend}, 0, ""},

		{"command of a station", "Reset", `{"type":"Hard"}`, "station-commands", nil, []change{up}, 0, "NotSupported"},
		{"report of a back end", "BootNotification", `{}`, "backend-reports", nil, nil, 0, "NotSupported"},
		{"authorize before acceptance", "Authorize", `{}`, "before-accepted", nil, []change{up, boot(policy.BootPending)}, 0, "SecurityError"},
		{"authorize after a reconnect", "Authorize", `{}`, "", nil, []change{up, boot(policy.BootNone)}, 0, ""},
		{"start while pending", "RequestStartTransaction", `{}`, "pending-transactions", []ocpp.Version{ocpp.V201, ocpp.V21}, []change{boot(policy.BootPending)}, 0, `"Rejected"`},
		{"start when accepted", "RequestStartTransaction", `{}`, "", []ocpp.Version{ocpp.V201, ocpp.V21}, nil, 0, ""},
		{"reset of a rejected station", "Reset", `{}`, "rejected-silence", nil, []change{boot(policy.BootRejected)}, 0, "SecurityError"},
		{"reset of a pending one", "Reset", `{}`, "", nil, []change{boot(policy.BootPending)}, 0, ""},
		{"call of a secondary back end", "ClearCache", `{}`, "secondary-calls", nil, []change{func(in *policy.Input) { in.Backend = "roaming" }}, 0, "SecurityError"},
		{"made-up call of a secondary back end", "MakeCoffee", `{}`, "secondary-calls", nil, []change{func(in *policy.Input) { in.Backend = "roaming" }}, 0, ""},
		{"listed call of one", "GetConfiguration", `{}`, "", []ocpp.Version{ocpp.V16}, []change{func(in *policy.Input) { in.Backend = "roaming" }}, 0, ""},
		{"call of the main one", "ClearCache", `{}`, "", nil, nil, 0, ""},
		{"another station's transaction", "StopTransaction", `{"transactionId":7}`, "other-transaction", []ocpp.Version{ocpp.V16}, []change{up, owner(policy.OwnerOther)}, 0, "SecurityError"},
		{"the own transaction", "StopTransaction", `{"transactionId":7}`, "", []ocpp.Version{ocpp.V16}, []change{up, owner(policy.OwnerThis)}, 0, ""},
		{"an unknown transaction", "StopTransaction", `{"transactionId":7}`, "", []ocpp.Version{ocpp.V16}, []change{up, owner(policy.OwnerUnknown)}, 0, ""},
		{"meter values of another's transaction", "MeterValues", `{"connectorId":1,"transactionId":7,"meterValue":[]}`, "other-meter-values", []ocpp.Version{ocpp.V16}, []change{up, owner(policy.OwnerOther)}, 0, "SecurityError"},
		{"meter values of the own", "MeterValues", `{"connectorId":1,"transactionId":7,"meterValue":[]}`, "", []ocpp.Version{ocpp.V16}, []change{up, owner(policy.OwnerThis)}, 0, ""},
		{"an event of another's transaction", "TransactionEvent", `{"eventType":"Ended","transactionInfo":{"transactionId":"x"}}`, "other-transaction-event", []ocpp.Version{ocpp.V201, ocpp.V21}, []change{up, owner(policy.OwnerOther)}, 0, "SecurityError"},
		{"an event of the own", "TransactionEvent", `{"eventType":"Ended","transactionInfo":{"transactionId":"x"}}`, "", []ocpp.Version{ocpp.V201, ocpp.V21}, []change{up, owner(policy.OwnerThis)}, 0, ""},
		{"a beginning with another's id", "TransactionEvent", `{"eventType":"Started","transactionInfo":{"transactionId":"x"}}`, "", []ocpp.Version{ocpp.V201, ocpp.V21}, []change{up, owner(policy.OwnerOther)}, 0, ""},
		{"stopping another's from afar", "RequestStopTransaction", `{"transactionId":"x"}`, "other-transaction-command", []ocpp.Version{ocpp.V201, ocpp.V21}, []change{owner(policy.OwnerOther)}, 0, "Rejected"},
		{"stopping another's from afar", "RemoteStopTransaction", `{"transactionId":7}`, "other-transaction-command", []ocpp.Version{ocpp.V16}, []change{owner(policy.OwnerOther)}, 0, "Rejected"},
		{"asking for another's", "GetTransactionStatus", `{"transactionId":"x"}`, "other-transaction-command", []ocpp.Version{ocpp.V201, ocpp.V21}, []change{owner(policy.OwnerOther)}, 0, "SecurityError"},
		{"asking for none's", "GetTransactionStatus", `{}`, "", []ocpp.Version{ocpp.V201, ocpp.V21}, []change{owner(policy.OwnerOther)}, 0, ""},
		{"charging of another's", "SetChargingProfile", `{"csChargingProfiles":{"transactionId":7}}`, "other-transaction-command", []ocpp.Version{ocpp.V16}, []change{owner(policy.OwnerOther)}, 0, "Rejected"},
		{"charging of another's", "SetChargingProfile", `{"chargingProfile":{"transactionId":"x"}}`, "other-transaction-command", []ocpp.Version{ocpp.V201, ocpp.V21}, []change{owner(policy.OwnerOther)}, 0, "Rejected"},
		{"meter values of none", "MeterValues", `{"connectorId":1,"meterValue":[]}`, "", []ocpp.Version{ocpp.V16}, []change{up, owner(policy.OwnerOther)}, 0, ""},
		{"vendor down", "DataTransfer", `{"vendorId":"com.evil"}`, "data-transfer-down", []ocpp.Version{ocpp.V16}, nil, 0, `"Rejected"`},
		{"listed vendor down", "DataTransfer", `{"vendorId":"COM.acme"}`, "", []ocpp.Version{ocpp.V16}, nil, 0, ""},
		{"vendor up", "DataTransfer", `{"vendorId":"com.evil"}`, "data-transfer-up", []ocpp.Version{ocpp.V16}, []change{up}, 0, ""},

		{"three commands", "UnlockConnector", `{}`, "", nil, nil, 3, ""},
		{"four commands", "UnlockConnector", `{}`, "station-rate", nil, nil, 4, `"UnlockFailed"`},
		{"three tokens", "Authorize", `{}`, "", nil, []change{up}, 3, ""},
		{"four tokens", "Authorize", `{}`, "authorize-rate", nil, []change{up}, 4, ""},
		{"two boots", "BootNotification", `{}`, "", nil, []change{up}, 2, ""},
		{"three boots", "BootNotification", `{}`, "boot-rate", nil, []change{up}, 3, "SecurityError"},
	} {
		covered[tt.rule] = true
		if tt.versions == nil {
			tt.versions = []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21}
		}
		for _, v := range tt.versions {
			in := input(v, tt.action, tt.payload)
			in.Anchors = func() map[string][]string { return hashes }
			for _, c := range tt.change {
				c(&in)
			}
			if tt.rule != "" && !set.Interest(v, in.Direction, in.Action) {
				t.Errorf("%s %s: nobody would ask", tt.name, v)
			}
			var d policy.Decision
			for range max(tt.repeat, 1) {
				d = set.Decide(in)
			}
			if d.Rule != tt.rule || (d.Act == policy.Pass) != (tt.rule == "") {
				t.Errorf("%s, %s: %s by %q (%s), want %q", tt.name, v, d.Act, d.Rule, d.Reason, tt.rule)
			}
			answer, err := json.Marshal(d.Answer)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(answer)+string(d.Code), tt.answer) {
				t.Errorf("%s, %s: answered %s%s, want %s", tt.name, v, answer, d.Code, tt.answer)
			}
		}
	}

	// Storms are over many stations, and the rate of a back end over its own.
	for action, rule := range map[string]string{"Reset": "reset-storm", "UpdateFirmware": "update-storm", "ClearCache": "cache-storm", "ChangeAvailability": "backend-rate"} {
		covered[rule] = true
		counters := policy.NewCounters()
		last := ""
		for n := range 6 {
			in := input(ocpp.V201, action, `{"firmware":{"location":"https://files.example.com/x"}}`)
			in.Counters, in.Station.Identity = counters, string(rune('A'+n))
			last = set.Decide(in).Rule
			if n < 4 && last != "" {
				t.Errorf("%s of station %d is refused by %s", action, n, last)
			}
		}
		if last != rule {
			t.Errorf("a storm of %s is met by %q, want %s", action, last, rule)
		}
		other := input(ocpp.V201, action, `{"firmware":{"location":"https://files.example.com/x"}}`)
		other.Counters, other.Now = counters, noon.Add(3*time.Minute)
		if got := set.Decide(other).Rule; got != "" {
			t.Errorf("%s after the storm is refused by %s", action, got)
		}
	}
	for _, r := range set.Rules() {
		if !covered[r.Name] {
			t.Errorf("rule %s isn't tried", r.Name)
		}
	}
}

// As shipped, rules that keep a promise are in force and the others in shadow;
// with empty lists nothing leads off the list, for there is none.
func TestBuiltInRulesAsShipped(t *testing.T) {
	t.Parallel()
	set, err := policy.New(policy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range set.Rules() {
		if (r.Promise > 0) != (r.Mode == "enforce") {
			t.Errorf("%s has promise %d and mode %s", r.Name, r.Promise, r.Mode)
		}
	}
	if d := set.Decide(input(ocpp.V201, "GetLog", `{"log":{"remoteLocation":"https://files.example.com/x"}}`)); d.Rule != "log-urls" {
		t.Errorf("without a list: %+v", d)
	}
	d := set.Decide(func() policy.Input {
		in := input(ocpp.V16, "Reset", `{}`)
		in.Direction = ocpp.FromStation
		return in
	}())
	if d.Act != policy.Pass || len(d.Shadow) != 1 || d.Shadow[0].Rule != "station-commands" {
		t.Errorf("a rule in shadow: %+v", d)
	}
	for _, busy := range []string{"Heartbeat", "StatusNotification", "MeterValues", "TransactionEvent"} {
		for _, v := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
			if set.Interest(v, ocpp.FromStation, busy) {
				t.Errorf("every %s of %s would be judged", busy, v)
			}
		}
	}
	for _, a := range ocpp.Actions() {
		for rule, sender := range map[string]ocpp.Direction{"station-commands": ocpp.FromCSMS, "backend-reports": ocpp.FromStation} {
			r, _ := set.Rule(rule)
			if got := slices.Contains(r.Actions, a.Name); got != (a.Sender == sender) {
				t.Errorf("%s names %s: %t", rule, a.Name, got)
			}
		}
	}
}

// What may be a trust anchor (threat C6).
func TestAnchor(t *testing.T) {
	t.Parallel()
	for name, pem := range map[string]string{
		"no CA":       root(t, func(c *x509.Certificate) { c.IsCA = false }),
		"expired":     root(t, func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Minute) }),
		"not yet":     root(t, func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Minute) }),
		"may not":     root(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }),
		"headers":     strings.Replace(root(t, nil), "-----\n", "-----\nA: b\n\n", 1),
		"long":        root(t, nil) + strings.Repeat("\n", 20_000) + "x",
		"not PEM":     "hello",
		"empty":       "",
		"another PEM": strings.ReplaceAll(root(t, nil), "CERTIFICATE", "TRUSTED CERTIFICATE"),
	} {
		if got := policy.Anchor(pem, noon); got != "" {
			t.Errorf("%s is an anchor", name)
		}
	}
	if got := policy.Anchor(root(t, nil), noon); len(got) != 64 {
		t.Errorf("a good one has hash %q", got)
	}
}
