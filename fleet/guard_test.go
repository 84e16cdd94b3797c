package fleet_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ocpp"
)

func TestInterest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	all := []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21}
	want := map[ocpp.Direction]map[string][]ocpp.Version{
		ocpp.FromStation: {"BootNotification": all, "SignCertificate": all, "DataTransfer": {ocpp.V16}},
		ocpp.FromCSMS: {"CertificateSigned": all, "ChangeConfiguration": all, "DataTransfer": all, "Reset": all,
			"SetVariables": all, "SetNetworkProfile": all, "InstallCertificate": all, "DeleteCertificate": all},
	}
	actions := []string{"BootNotification", "SignCertificate", "DataTransfer", "CertificateSigned", "ChangeConfiguration", "SetVariables",
		"SetNetworkProfile", "Heartbeat", "MeterValues", "Reset", "InstallCertificate", "DeleteCertificate", "GetInstalledCertificateIds", ""}
	for d, wanted := range want {
		for _, action := range actions {
			for _, v := range all {
				for _, variant := range []string{strings.ToLower(action), strings.ToUpper(action), action + " "} {
					if r.svc.Interest(v, d, variant) != slices.Contains(wanted[action], v) {
						t.Errorf("Interest(%s, %s, %q) differs from that of %q", v, d, variant, action)
					}
				}
				if got := r.svc.Interest(v, d, action); got != slices.Contains(wanted[action], v) {
					t.Errorf("Interest(%s, %s, %q) = %v", v, d, action, got)
				}
			}
		}
	}
}

func TestBootSerial(t *testing.T) { // B01.FR.11, .12
	t.Parallel()
	r := newRig(t)
	password := r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Alias: "SN-1b"})
	basic := r.admit(withPassword(claim(t, "CS-1"), password))
	mutual := r.admit(withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-1")...))
	const v2 = `{"reason":"PowerUp","chargingStation":{"model":"M","vendorName":"V"%s}}`
	const v16 = `{"chargePointVendor":"V","chargePointModel":"M"%s}`
	body := func(format, more string) string { return strings.Replace(format, "%s", more, 1) }
	for _, tt := range []struct {
		name    string
		adm     fleet.Admission
		version ocpp.Version
		payload string
		act     fleet.Act
	}{
		{"2.0.1 equal", mutual, ocpp.V201, body(v2, `,"serialNumber":"SN-1"`), fleet.Pass},
		{"2.1 alias", mutual, ocpp.V21, body(v2, `,"serialNumber":"SN-1b"`), fleet.Pass},
		{"2.0.1 other", mutual, ocpp.V201, body(v2, `,"serialNumber":"SN-2"`), fleet.End},
		{"2.0.1 another case", mutual, ocpp.V201, body(v2, `,"serialNumber":"sn-1"`), fleet.End},
		{"2.0.1 missing on profile 3", mutual, ocpp.V201, body(v2, ``), fleet.End},
		{"2.0.1 missing on profile 2", basic, ocpp.V201, body(v2, ``), fleet.Pass},
		{"2.0.1 other on profile 2", basic, ocpp.V201, body(v2, `,"serialNumber":"SN-2"`), fleet.End},
		{"1.6 equal", mutual, ocpp.V16, body(v16, `,"chargePointSerialNumber":"SN-1"`), fleet.Pass},
		{"1.6 box serial", mutual, ocpp.V16, body(v16, `,"chargeBoxSerialNumber":"SN-1"`), fleet.Pass},
		{"1.6 one of two", mutual, ocpp.V16, body(v16, `,"chargePointSerialNumber":"P","chargeBoxSerialNumber":"SN-1"`), fleet.Pass},
		{"1.6 other", mutual, ocpp.V16, body(v16, `,"chargePointSerialNumber":"SN-2"`), fleet.End},
		{"1.6 missing", mutual, ocpp.V16, body(v16, ``), fleet.Pass},
		{"key twice", mutual, ocpp.V201, body(v2, `,"serialNumber":"SN-1","serialNumber":"SN-2"`), fleet.Refuse},
		{"key in another case", mutual, ocpp.V201, body(v2, `,"SerialNumber":"SN-1"`), fleet.Refuse},
		{"wrong type", mutual, ocpp.V201, body(v2, `,"serialNumber":1`), fleet.Refuse},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := r.open(tt.adm, tt.version)
			defer s.close()
			v := s.judge(ocpp.FromStation, "BootNotification", tt.payload)
			if v.Act != tt.act || v.Watch != (tt.act == fleet.Pass) {
				t.Errorf("verdict = %+v, want act %d", v, tt.act)
			}
		})
	}
	fleet.FlushRefusals(t.Context(), r.svc)
	if list := r.events("claim.refused"); len(list) != 1 || list[0].Data["count"] != "5" || !strings.Contains(list[0].Data["reason"], "B01.FR.11") || strings.Contains(list[0].Data["reason"], "SN-2") {
		t.Errorf("recorded: %+v", list)
	}
	if _, err := r.svc.SetCheck(t.Context(), "operator", "CS-1", fleet.CheckBootSerial, true); err != nil {
		t.Fatal(err)
	}
	s := r.open(mutual, ocpp.V201)
	for range 2 {
		if v := s.judge(ocpp.FromStation, "BootNotification", body(v2, `,"serialNumber":"SN-2"`)); v.Act != fleet.Pass {
			t.Errorf("set to warn: %+v", v)
		}
	}
	if n := len(r.events("check.warned")); n != 1 {
		t.Errorf("%d records of the warning, want 1", n)
	}
	eventually(t, "vendor and model", func() bool { st := r.station("CS-1"); return st.Vendor == "V" && st.Model == "M" })
}

func TestBackEndCannotLockOut(t *testing.T) { // promise 4, threat A6
	t.Parallel()
	const (
		b = 1 << iota // refused in bollard
		o             // refused in backend and observe too
	)
	set := func(entries ...string) string { return `{"setVariableData":[` + strings.Join(entries, ",") + `]}` }
	entry := func(component, variable, value string) string {
		return `{"attributeValue":"` + value + `","component":{"name":"` + component + `"},"variable":{"name":"` + variable + `"}}`
	}
	harmless := entry("ClockCtrlr", "NtpServerUri", "ntp.example")
	const profile = `{"configurationSlot":3,"connectionData":{"ocppVersion":"OCPP20","ocppTransport":"JSON","ocppCsmsUrl":"wss://elsewhere","messageTimeout":30,"securityProfile":3,"ocppInterface":"Wired0"}}`
	for _, tt := range []struct {
		name, action, payload string
		versions              []ocpp.Version
		refused               int
	}{
		{"password", "ChangeConfiguration", `{"key":"AuthorizationKey","value":"00"}`, []ocpp.Version{ocpp.V16}, b | o},
		{"password in another case", "ChangeConfiguration", `{"key":"aUTHORIZATIONkEY","value":"00"}`, []ocpp.Version{ocpp.V16}, b | o},
		{"password with spaces", "ChangeConfiguration", `{"key":" AuthorizationKey ","value":"00"}`, []ocpp.Version{ocpp.V16}, b | o},
		{"password escaped", "ChangeConfiguration", `{"key":"\u0041uthorizationKey","value":"00"}`, []ocpp.Version{ocpp.V16}, b | o},
		{"profile", "ChangeConfiguration", `{"key":"securityprofile","value":"1"}`, []ocpp.Version{ocpp.V16}, b | o},
		{"higher profile", "ChangeConfiguration", `{"key":"SecurityProfile","value":"3"}`, []ocpp.Version{ocpp.V16}, b},
		{"URL in a vendor's key", "ChangeConfiguration", `{"key":"X-Broker","value":" WSS:\\/\\/elsewhere"}`, []ocpp.Version{ocpp.V16}, b | o},
		{"vendor's key of a URL", "ChangeConfiguration", `{"key":"Cst_BackendUrl","value":"elsewhere"}`, []ocpp.Version{ocpp.V16}, b | o},
		{"wait without end", "ChangeConfiguration", `{"key":"RetryBackOffWaitMinimum","value":"86401"}`, []ocpp.Version{ocpp.V16}, b | o},
		{"other organisation", "ChangeConfiguration", `{"key":"CpoName","value":"Other"}`, []ocpp.Version{ocpp.V16}, b},
		{"own organisation", "ChangeConfiguration", `{"key":"CpoName","value":"Example CPO"}`, []ocpp.Version{ocpp.V16}, 0},
		{"harmless key", "ChangeConfiguration", `{"key":"HeartbeatInterval","value":"60"}`, []ocpp.Version{ocpp.V16}, 0},
		{"password", "SetVariables", set(entry("SecurityCtrlr", "BasicAuthPassword", "x")), []ocpp.Version{ocpp.V201, ocpp.V21}, b | o},
		{"password in another case", "SetVariables", set(entry("securityctrlr", "BASICAUTHPASSWORD", "x")), []ocpp.Version{ocpp.V201, ocpp.V21}, b | o},
		{"identity", "SetVariables", set(entry("SecurityCtrlr", "Identity", "x")), []ocpp.Version{ocpp.V201, ocpp.V21}, b | o},
		{"password of a network", "SetVariables", set(entry("NetworkConfiguration", "BasicAuthPassword", "x")), []ocpp.Version{ocpp.V21}, b | o},
		{"URL of a network", "SetVariables", set(entry("NetworkConfiguration", "OcppCsmsUrl", "x")), []ocpp.Version{ocpp.V21}, b | o},
		{"own URL of a network", "SetVariables", set(entry("NetworkConfiguration", "OcppCsmsUrl", "wss://bollard.example:8443/ocpp/")), []ocpp.Version{ocpp.V21}, b},
		{"lower profile of a network", "SetVariables", set(entry("NetworkConfiguration", "SecurityProfile", "1")), []ocpp.Version{ocpp.V21}, b | o},
		{"wildcards", "SetVariables", set(entry("SecurityCtrlr", "AllowCSMSTLSWildcards", "true")), []ocpp.Version{ocpp.V201, ocpp.V21}, b | o},
		{"wait without end", "SetVariables", set(entry("OCPPCommCtrlr", "RetryBackOffWaitMinimum", "86401")), []ocpp.Version{ocpp.V201, ocpp.V21}, b | o},
		{"short wait", "SetVariables", set(entry("OCPPCommCtrlr", "RetryBackOffWaitMinimum", "60")), []ocpp.Version{ocpp.V201, ocpp.V21}, 0},
		{"profile", "SetVariables", set(entry("SecurityCtrlr", "SecurityProfile", "1")), []ocpp.Version{ocpp.V201, ocpp.V21}, b | o},
		{"downgrade permission", "SetVariables", set(entry("SecurityCtrlr", "AllowSecurityProfileDowngrade", "true")), []ocpp.Version{ocpp.V21}, b | o},
		{"priority", "SetVariables", set(entry("OCPPCommCtrlr", "NetworkConfigurationPriority", "3,1")), []ocpp.Version{ocpp.V201, ocpp.V21}, b | o},
		{"other organisation", "SetVariables", set(entry("SecurityCtrlr", "OrganizationName", "Other")), []ocpp.Version{ocpp.V201, ocpp.V21}, b},
		{"harmless variable", "SetVariables", set(harmless), []ocpp.Version{ocpp.V201, ocpp.V21}, 0},
		{"network profile", "SetNetworkProfile", profile, []ocpp.Version{ocpp.V201, ocpp.V21}, b | o},
		{"own network profile", "SetNetworkProfile", strings.Replace(profile, "wss://elsewhere", "wss://bollard.example:8443/ocpp", 1), []ocpp.Version{ocpp.V201, ocpp.V21}, b},
		{"lower network profile", "SetNetworkProfile", strings.NewReplacer("wss://elsewhere", "wss://bollard.example:8443/ocpp", `"securityProfile":3`, `"securityProfile":1`).Replace(profile), []ocpp.Version{ocpp.V201, ocpp.V21}, b | o},
		{"password in a network profile", "SetNetworkProfile", strings.Replace(profile, `"ocppTransport"`, `"basicAuthPassword":"x","ocppTransport"`, 1), []ocpp.Version{ocpp.V21}, b | o},
		{"identity in a network profile", "SetNetworkProfile", strings.Replace(profile, `"ocppTransport"`, `"identity":"x","ocppTransport"`, 1), []ocpp.Version{ocpp.V21}, b | o},
	} {
		t.Run(tt.action+"/"+tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
			for _, v := range tt.versions {
				for mode, bit := range map[fleet.SecurityMode]int{fleet.SecurityBollard: b, fleet.SecurityBackend: o, fleet.SecurityObserve: o} {
					s := r.openWith(adm, v, mode, nil)
					r.advance(2 * time.Minute) // each is the first for a while, so recorded
					before := len(r.events("backend.refused"))
					got := s.judge(ocpp.FromCSMS, tt.action, tt.payload)
					s.close()
					if tt.refused&bit == 0 {
						if got.Act != fleet.Pass {
							t.Errorf("%s %s: %+v, want it passed", v, mode, got)
						}
						continue
					}
					if got.Act != fleet.Answer || got.Reason == "" || len(r.events("backend.refused")) != before+1 {
						t.Errorf("%s %s: %+v, want it answered and recorded", v, mode, got)
					}
					checkRejected(t, tt.action, tt.payload, status(got))
				}
			}
		})
	}
}

// checkRejected wants an answer in the request's shape with nothing accepted.
func checkRejected(t *testing.T, action, request, answer string) {
	t.Helper()
	if action != "SetVariables" {
		if !strings.HasPrefix(answer, `{"status":"Rejected"`) {
			t.Errorf("answer = %s", answer)
		}
		return
	}
	var asked ocpp.SetVariablesRequest
	var got ocpp.SetVariablesResponse
	if json.Unmarshal([]byte(request), &asked) != nil || json.Unmarshal([]byte(answer), &got) != nil || len(got.SetVariableResult) != len(asked.SetVariableData) {
		t.Fatalf("answer = %s", answer)
	}
	for i, res := range got.SetVariableResult {
		if res.AttributeStatus != "Rejected" || res.Component != asked.SetVariableData[i].Component || res.Variable != asked.SetVariableData[i].Variable {
			t.Errorf("result %d = %+v", i, res)
		}
	}
	for _, v := range asked.SetVariableData {
		if v.AttributeValue == "x" && strings.Contains(answer, `"x"`) {
			t.Error("answer repeats a value")
		}
	}
}

func TestAmbiguousMessagesAreRefused(t *testing.T) { // promise 13, threat B4
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V16, nil)
	for _, tt := range []struct {
		d               ocpp.Direction
		action, payload string
	}{
		{ocpp.FromCSMS, "ChangeConfiguration", `{"key":"X","key":"AuthorizationKey","value":"1"}`},
		{ocpp.FromCSMS, "ChangeConfiguration", `{"key":"X","Key":"AuthorizationKey","value":"1"}`},
		{ocpp.FromCSMS, "CertificateSigned", `{"certificateChain":"a","CertificateChain":"b"}`},
		{ocpp.FromCSMS, "CertificateSigned", `{"certificateChain":"a","cert":["b"]}`},
		{ocpp.FromCSMS, "CertificateSigned", `{"certificateChain":"","cert":["b"]}`},
		{ocpp.FromCSMS, "CertificateSigned", `{"cert":["b"],"certificateType":"V2GCertificate","typeOfCertificate":"ChargingStationCertificate"}`},
		{ocpp.FromCSMS, "InstallCertificate", `{"certificateType":"V2GRootCertificate","CertificateType":"CSMSRootCertificate","certificate":"a"}`},
		{ocpp.FromCSMS, "DeleteCertificate", `{"certificateHashData":{"serialNumber":"1","serialNumber":"2"}}`},
		{ocpp.FromStation, "SignCertificate", `{"csr":"a","CSR":"b"}`},
		{ocpp.FromStation, "SignCertificate", `[]`},
		{ocpp.FromStation, "DataTransfer", `{"vendorId":"a","vendorID":"org.openchargealliance.iso15118pnc"}`},
		{ocpp.FromStation, "DataTransfer", `{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"SignCertificate","data":{"csr":"x"}}`},
		{ocpp.FromStation, "DataTransfer", `{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"SignCertificate","data":"{\"csr\":\"a\",\"csr\":\"b\"}"}`},
	} {
		if v := s.judge(tt.d, tt.action, tt.payload); v.Act != fleet.Refuse || v.Code == "" || v.Reason == "" {
			t.Errorf("%s %s: %+v", tt.action, tt.payload, v)
		}
	}
	for _, action := range []string{"changeConfiguration", "CHANGECONFIGURATION", "ChangeConfiguration ", "\tcertificateSigned"} {
		if v := s.judge(ocpp.FromCSMS, action, `{"key":"AuthorizationKey","value":"1"}`); v.Act != fleet.Refuse || v.Code != ocpp.NotImplemented {
			t.Errorf("action %q: %+v", action, v)
		}
	}
	v := r.svc.Message(t.Context(), s, fleet.Message{Direction: ocpp.FromStation, Action: "SignCertificate", Head: ocpp.Head{Type: ocpp.Send}, Payload: []byte(`{}`)})
	if v.Act != fleet.Drop {
		t.Errorf("SEND: %+v", v)
	}
}

func TestBackEndCertificates(t *testing.T) { // threat C5
	t.Parallel()
	r := newRig(t)
	adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
	m := newMaker(t, r.clock())
	key := newKey(t)
	template := func() *x509.Certificate {
		return &x509.Certificate{NotBefore: r.clock().Add(-time.Hour), NotAfter: r.clock().AddDate(1, 0, 0)}
	}
	signed := func(certs ...*x509.Certificate) string {
		text := ""
		for _, c := range certs {
			text += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		}
		return marshal(t, map[string]any{"certificateChain": text, "certificateType": "ChargingStationCertificate"})
	}
	good, foreign := m.Issue(template(), key), m.Issue(template(), newKey(t))
	request := marshal(t, map[string]any{"csr": csrPEM(t, key, "anything", "any"), "certificateType": "ChargingStationCertificate"})

	s := r.openWith(adm, ocpp.V201, fleet.SecurityBollard, nil)
	if v := s.judge(ocpp.FromCSMS, "CertificateSigned", signed(good)); v.Act != fleet.Answer || !strings.Contains(status(v), "Rejected") {
		t.Errorf("bollard: %+v", v)
	}
	s.close()

	s = r.openWith(adm, ocpp.V201, fleet.SecurityBackend, nil)
	if v := s.judge(ocpp.FromCSMS, "CertificateSigned", signed(good)); v.Act != fleet.Answer {
		t.Errorf("backend, nothing was asked: %+v", v)
	}
	if v := s.judge(ocpp.FromStation, "SignCertificate", request); v.Act != fleet.Pass {
		t.Errorf("backend SignCertificate: %+v", v)
	}
	for name, payload := range map[string]string{"foreign key": signed(foreign), "no certificate": `{"certificateChain":"x"}`, "empty": `{}`} {
		if v := s.judge(ocpp.FromCSMS, "CertificateSigned", payload); v.Act != fleet.Answer || !strings.Contains(status(v), "InvalidCertificate") {
			t.Errorf("backend, %s: %+v", name, v)
		}
	}
	v := s.judge(ocpp.FromCSMS, "CertificateSigned", signed(good))
	if v.Act != fleet.Pass || !v.Watch {
		t.Fatalf("backend, right key: %+v", v)
	}
	call := fleet.Message{Direction: ocpp.FromCSMS, Action: "CertificateSigned", Payload: json.RawMessage(signed(good))}
	r.svc.Answered(t.Context(), s, call, ocpp.Head{Type: ocpp.CallResult, Payload: []byte(`{"status":"Rejected"}`)})
	if _, known, err := r.auth.Status(t.Context(), good); err != nil || known {
		t.Errorf("recorded although the station rejected it: %v", err)
	}
	r.svc.Answered(t.Context(), s, call, ocpp.Head{Type: ocpp.CallResult, Payload: []byte(`{"status":"Accepted"}`)})
	if rec, known, err := r.auth.Status(t.Context(), good); err != nil || !known || !rec.External || rec.Station != "cs-1" {
		t.Errorf("record = %+v, %v", rec, err)
	}
	s.close()

	s = r.openWith(adm, ocpp.V21, fleet.SecurityBackend, nil)
	for _, kind := range []string{"", "V2GCertificate", "V2G20Certificate", "Made up", "ChargingStationCertificate"} {
		renewal := newKey(t)
		s.judge(ocpp.FromStation, "SignCertificate", marshal(t, map[string]any{"csr": csrPEM(t, renewal, "anything", "any"), "certificateType": kind}))
		v := s.judge(ocpp.FromCSMS, "CertificateSigned", marshal(t, map[string]any{"certificateType": kind,
			"certificateChain": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.Issue(template(), renewal).Raw}))}))
		if passed := v.Act == fleet.Pass; passed != (kind != "Made up") {
			t.Errorf("backend, renewal of %q: %+v", kind, v) // the fifth type is one too many
		}
	}
	s.close()

	s = r.openWith(adm, ocpp.V201, fleet.SecurityObserve, nil)
	if v := s.judge(ocpp.FromCSMS, "CertificateSigned", signed(foreign)); v.Act != fleet.Pass || !v.Watch {
		t.Errorf("observe: %+v", v)
	}
	// A certificate the back end issued proves its station, and only it.
	r.trust(m)
	if got := r.admit(withCertificates(claim(t, "CS-1"), m.Leaf(r.clock(), "SN-CS-1", nil))); !got.Factory {
		t.Error("unrecorded certificate counts as the operator's")
	}
	issued := m.Leaf(r.clock(), "SN-CS-1", nil)
	if err := r.auth.RecordExternal(t.Context(), issued, "cs-1", "backend"); err != nil {
		t.Fatal(err)
	}
	if got := r.admit(withCertificates(claim(t, "CS-1"), issued)); got.Factory {
		t.Error("recorded certificate counts as the maker's")
	}
	if _, err := r.svc.Revoke(t.Context(), "operator", ca.SerialOf(issued), "superseded"); err != nil {
		t.Fatal(err)
	}
	r.refusal(withCertificates(claim(t, "CS-1"), issued))
}

// The plug & charge form is found however vendor and message are spelt: stations
// compare them with and without case.
func TestWrappedMessagesAreFoundInEverySpelling(t *testing.T) { // promises 5 and 13
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V16, nil)
	const vendor = "org.openchargealliance.iso15118pnc"
	wrapped := func(vendor, message, data string) string {
		return marshal(t, map[string]any{"vendorId": vendor, "messageId": message, "data": data})
	}
	for _, v := range []string{vendor, strings.ToUpper(vendor), " " + vendor + "\t"} {
		for _, m := range []string{"CertificateSigned", "certificatesigned", " CertificateSigned "} {
			if got := s.judge(ocpp.FromCSMS, "DataTransfer", wrapped(v, m, `{"certificateChain":"x"}`)); got.Act != fleet.Answer {
				t.Errorf("%q %q: %+v, want it answered", v, m, got)
			}
		}
		for _, m := range []string{"SignCertificate", "signcertificate", " SignCertificate "} {
			if got := s.judge(ocpp.FromStation, "DataTransfer", wrapped(v, m, `{"csr":"x"}`)); got.Act != fleet.Answer {
				t.Errorf("%q %q: %+v, want it answered", v, m, got)
			}
		}
	}
	if got := s.judge(ocpp.FromCSMS, "DataTransfer", wrapped(vendor+"\x00", "CertificateSigned", `{}`)); got.Act != fleet.Refuse {
		t.Errorf("vendor with U+0000: %+v", got)
	}
	if got := s.judge(ocpp.FromCSMS, "DataTransfer", wrapped("another", "CertificateSigned", `{}`)); got.Act != fleet.Answer {
		t.Errorf("another vendor's: %+v", got)
	}
}

// No back end has firmware installed inside a transfer, past the gate that vets
// it, unless the operator allowed it for a model.
func TestWrappedUpdateIsRefused(t *testing.T) { // promise 10
	t.Parallel()
	r := newRig(t)
	r.guard = []fleet.GuardRule{{Vendor: "Odd", Allow: []string{"Odd/UpdateFirmware"}}}
	r.restart()
	for station, vendor := range map[string]string{"CS-1": "V", "CS-2": "Odd"} {
		adm := r.admit(withPassword(claim(t, station), r.add(fleet.Enrolment{Identity: station, Vendor: vendor, Model: "M"})))
		for _, v := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
			s := r.openWith(adm, v, fleet.SecurityObserve, nil)
			for _, message := range []string{"UpdateFirmware", "updatefirmware", " Update-Firmware ", "SignedUpdateFirmware", "PublishFirmware", "UpdateFirmware-Signed"} {
				got := s.judge(ocpp.FromCSMS, "DataTransfer", marshal(t, map[string]any{"vendorId": vendor, "messageId": message, "data": "{\"location\":\"https://evil.example/x\"}"}))
				allowed := vendor == "Odd" && strings.EqualFold(strings.Trim(strings.ReplaceAll(message, "-F", "F"), " "), "UpdateFirmware")
				if (got.Act == fleet.Pass) != allowed {
					t.Errorf("%s %s %q: %+v", station, v, message, got)
				}
			}
			s.close()
		}
	}
}
