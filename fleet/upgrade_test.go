package fleet_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/ocpp"
)

// obedient answers as a station does that can do everything; over replaces
// single answers, by action.
func obedient(over map[string]any) func(string, json.RawMessage) (any, error) {
	return func(action string, payload json.RawMessage) (any, error) {
		if a, ok := over[action]; ok {
			if err, ok := a.(error); ok {
				return nil, err
			}
			return a, nil
		}
		switch action {
		case "SetVariables":
			var set ocpp.SetVariablesRequest
			if err := json.Unmarshal(payload, &set); err != nil {
				return nil, err
			}
			v := set.SetVariableData[0]
			return ocpp.SetVariablesResponse{SetVariableResult: []ocpp.SetVariableResult{
				{AttributeStatus: "Accepted", Component: v.Component, Variable: v.Variable}}}, nil
		case "GetVariables":
			var get ocpp.GetVariablesRequest
			if err := json.Unmarshal(payload, &get); err != nil {
				return nil, err
			}
			values := map[string]string{"NetworkConfigurationPriority": "1,0", "ActiveNetworkProfile": "1", "OcppInterface": "Wireless1"}
			out := ocpp.GetVariablesResponse{}
			for _, g := range get.GetVariableData {
				out.GetVariableResult = append(out.GetVariableResult, ocpp.GetVariableResult{AttributeStatus: "Accepted",
					AttributeValue: values[g.Variable.Name], Component: g.Component, Variable: g.Variable})
			}
			return out, nil
		}
		return map[string]string{"status": "Accepted"}, nil
	}
}

// ready is the back end's Accepted to a BootNotification.
func (s *fakeSession) ready() { s.bootAnswer("Accepted") }

func (s *fakeSession) bootAnswer(status string) {
	payload := `{"reason":"PowerUp","chargingStation":{"model":"M","vendorName":"V","serialNumber":"` + s.adm.Station.Serial + `"}}`
	if s.version == ocpp.V16 {
		payload = `{"chargePointVendor":"V","chargePointModel":"M"}`
	}
	s.message(ocpp.FromStation, "BootNotification", payload)
	then := s.r.svc.Answered(s.ctx, s, fleet.Message{Direction: ocpp.FromStation, Action: "BootNotification", Payload: json.RawMessage(payload)},
		ocpp.Head{Type: ocpp.CallResult, Payload: fmt.Appendf(nil, `{"status":%q,"currentTime":"2026-06-01T12:00:00Z","interval":300}`, status)})
	if then != nil {
		then()
	}
}

func (s *fakeSession) waitCalls(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, strings.Join(want, " "), func() bool { return len(s.actions()) >= len(want) })
	if got := s.actions(); !slices.Equal(got, want) {
		t.Fatalf("CALLs %v, want %v", got, want)
	}
}

func TestUpgradeToProfile3(t *testing.T) { // A05, TC_A_19, TC_083
	t.Parallel()
	reboot := map[string]any{"ChangeConfiguration": map[string]string{"status": "RebootRequired"}}
	for _, tt := range []struct {
		name    string
		version ocpp.Version
		over    map[string]any
		first   []string // for the certificate
		then    []string // for the profile
	}{
		{"1.6", ocpp.V16, nil, []string{"ChangeConfiguration", "ExtendedTriggerMessage"}, []string{"CertificateSigned", "ChangeConfiguration"}},
		{"1.6 RebootRequired", ocpp.V16, reboot, []string{"ChangeConfiguration", "ExtendedTriggerMessage"}, []string{"CertificateSigned", "ChangeConfiguration", "Reset"}},
		{"2.0.1", ocpp.V201, nil, []string{"SetVariables", "TriggerMessage"}, []string{"CertificateSigned", "GetVariables", "GetVariables", "SetNetworkProfile", "SetVariables", "Reset"}},
		{"2.1", ocpp.V21, nil, []string{"SetVariables", "TriggerMessage"}, []string{"CertificateSigned", "GetVariables", "GetVariables", "SetNetworkProfile", "SetVariables", "Reset"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, c := r.basic("CS-1", tt.version, obedient(tt.over))
			s.ready()
			if _, err := r.svc.SetProfile(t.Context(), "operator", "CS-1", 3); err != nil {
				t.Fatal(err)
			}
			s.waitCalls(t, tt.first...)
			s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
			s.waitCalls(t, append(slices.Clone(tt.first), tt.then...)...)
			// Nothing is locked before the station was seen on the new profile.
			r.admit(c)
			if st := r.station("CS-1"); st.FloorProfile != 2 || st.WantedProfile != 3 {
				t.Errorf("station = %+v", st)
			}
			if tt.version == ocpp.V16 {
				if got := string(s.sent("ChangeConfiguration")[1]); got != `{"key":"SecurityProfile","value":"3"}` {
					t.Errorf("ChangeConfiguration = %s", got)
				}
			} else {
				checkNetworkProfile(t, s)
			}
			chain := chainOf(t, s.sent("CertificateSigned")[0])
			s.close()
			on3 := r.openWith(r.admit(withCertificates(claim(t, "CS-1"), chain...)), tt.version, fleet.SecurityBollard, obedient(nil))
			on3.ready()
			r.waitOrder("CS-1", fleet.OrderConfirmed)
			r.refusal(c)
			if st := r.station("CS-1"); st.PlanNote != "" {
				t.Errorf("plan note stays: %q", st.PlanNote)
			}
			r.advance(time.Hour)
			if got := on3.actions(); len(got) != 0 {
				t.Errorf("an upgraded station is sent %v", got)
			}
		})
	}
}

func checkNetworkProfile(t *testing.T, s *fakeSession) {
	t.Helper()
	var set ocpp.SetNetworkProfileRequest
	if err := json.Unmarshal(s.sent("SetNetworkProfile")[0], &set); err != nil {
		t.Fatal(err)
	}
	version := map[ocpp.Version]string{ocpp.V201: "OCPP20", ocpp.V21: "OCPP21"}[s.version]
	if d := set.ConnectionData; set.ConfigurationSlot != 2 || d.SecurityProfile != 3 || d.OCPPVersion != version || d.OCPPTransport != "JSON" ||
		d.OCPPCSMSURL != "wss://bollard.example:8443/ocpp" || d.OCPPInterface != "Wireless1" || d.MessageTimeout != 30 {
		t.Errorf("SetNetworkProfile = %+v", set)
	}
	if got := string(s.sent("SetVariables")[1]); !strings.Contains(got, `"attributeValue":"2,1,0"`) {
		t.Errorf("priority = %s", got)
	}
	if got := string(s.sent("Reset")[0]); got != `{"type":"OnIdle"}` {
		t.Errorf("Reset = %s", got)
	}
}

func TestUpgradeRefusedByStation(t *testing.T) {
	t.Parallel()
	rejected := map[string]string{"status": "Rejected"}
	for _, tt := range []struct {
		name string
		v    ocpp.Version
		over map[string]any
		note string
	}{
		{"trigger not implemented", ocpp.V16, map[string]any{"ExtendedTriggerMessage": map[string]string{"status": "NotImplemented"}}, "NotImplemented"},
		{"trigger unknown", ocpp.V201, map[string]any{"TriggerMessage": &ocpp.CallFailure{Code: ocpp.NotSupported}}, "ask for a certificate"},
		{"trigger rejected", ocpp.V201, map[string]any{"TriggerMessage": rejected}, "Rejected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, c := r.basic("CS-1", tt.v, obedient(tt.over))
			s.ready()
			if _, err := r.svc.SetProfile(t.Context(), "operator", "CS-1", 3); err != nil {
				t.Fatal(err)
			}
			eventually(t, "note", func() bool { return strings.Contains(r.station("CS-1").PlanNote, tt.note) })
			r.admit(c)
			before := len(s.actions())
			fleet.Poke(r.svc) // not its time yet
			s.close()
			// A reconnect doesn't drive the station in circles either.
			again := r.openWith(r.admit(c), tt.v, fleet.SecurityBollard, obedient(tt.over))
			again.ready()
			eventually(t, "the retry", func() bool { r.advance(30 * time.Second); return len(again.actions()) > 0 })
			if got := len(again.actions()); before != 2 || got > 2 {
				t.Errorf("%d and %d CALLs, want two per try", before, got)
			}
		})
	}
}

func TestTriesAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V16, obedient(map[string]any{"ExtendedTriggerMessage": map[string]string{"status": "Rejected"}}))
	s.ready()
	if _, err := r.svc.Renew(t.Context(), "operator", "CS-1", 0); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 6; n++ {
		eventually(t, "a try", func() bool { r.advance(time.Minute); return len(s.sent("ExtendedTriggerMessage")) >= n })
	}
	for range 20 {
		r.advance(time.Hour)
	}
	if n := len(s.sent("ExtendedTriggerMessage")); n != 6 {
		t.Errorf("%d tries within a day, want 6", n)
	}
}

func TestPlanWaitsForTheBackEnd(t *testing.T) { // B01, B02.FR.01, B03.FR.03
	t.Parallel()
	for _, tt := range []struct {
		name  string
		start func(*rig, *fakeSession)
		calls bool
	}{
		{"accepted", func(_ *rig, s *fakeSession) { s.bootAnswer("Accepted") }, true},
		{"pending", func(_ *rig, s *fakeSession) { s.bootAnswer("Pending") }, true},
		{"rejected", func(r *rig, s *fakeSession) { s.bootAnswer("Rejected"); r.advance(time.Minute) }, false},
		{"quiet for less than 10 s", func(r *rig, _ *fakeSession) { r.advance(9 * time.Second) }, false},
		{"quiet for 10 s", func(r *rig, _ *fakeSession) { r.advance(10 * time.Second) }, true},
	} {
		r := newRig(t)
		s, _ := r.basic("CS-1", ocpp.V201, obedient(nil))
		if _, err := r.svc.Renew(t.Context(), "operator", "CS-1", 0); err != nil {
			t.Fatal(err)
		}
		tt.start(r, s)
		if tt.calls {
			eventually(t, tt.name, func() bool { return len(s.sent("TriggerMessage")) == 1 })
			continue
		}
		fleet.Poke(r.svc)
		s.wg.Wait()
		if got := s.actions(); len(got) != 0 {
			t.Errorf("%s: sent %v", tt.name, got)
		}
	}
}

func TestFactoryCertificateIsReplaced(t *testing.T) { // A00.FR.406, A02.FR.01
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	m := newMaker(t, r.clock())
	r.trust(m)
	factory := withCertificates(claim(t, "CS-1"), m.Leaf(r.clock(), "SN-CS-1", nil))
	s := r.openWith(r.admit(factory), ocpp.V201, fleet.SecurityBollard, obedient(nil))
	s.ready()
	s.waitCalls(t, "SetVariables", "TriggerMessage")
	s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
	order := r.waitOrder("CS-1", fleet.OrderDelivered)
	chain := chainOf(t, s.sent("CertificateSigned")[0])
	s.close()
	// Back on the old one at first: patience, no second certificate (A02.FR.28).
	s = r.openWith(r.admit(factory), ocpp.V201, fleet.SecurityBollard, obedient(nil))
	s.ready()
	s.wg.Wait()
	if got := s.actions(); len(got) != 0 {
		t.Errorf("sent %v", got)
	}
	s.close()
	s = r.openWith(r.admit(withCertificates(claim(t, "CS-1"), chain...)), ocpp.V201, fleet.SecurityBollard, obedient(nil))
	if o := r.waitOrder("CS-1", fleet.OrderConfirmed); o.ID != order.ID || r.station("CS-1").LeafSerial != o.Serial {
		t.Errorf("order = %+v", o)
	}
	s.close()
	r.admit(factory) // not revoked, not locked out by itself
}

func TestRenewalBeforeExpiry(t *testing.T) { // A03
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	s := r.openWith(r.admit(withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-CS-1")...)), ocpp.V16, fleet.SecurityBollard, obedient(nil))
	s.ready()
	s.wg.Wait()
	if got := s.actions(); len(got) != 0 {
		t.Errorf("a fresh certificate is renewed: %v", got)
	}
	r.advance(250 * 24 * time.Hour)
	fleet.Poke(r.svc)
	s.waitCalls(t, "ChangeConfiguration", "ExtendedTriggerMessage")
	if got := string(s.sent("ChangeConfiguration")[0]); got != `{"key":"CpoName","value":"Example CPO"}` {
		t.Errorf("ChangeConfiguration = %s", got)
	}
}

func TestNoPlanWhereTheBackEndIssues(t *testing.T) {
	t.Parallel()
	for _, mode := range []fleet.SecurityMode{fleet.SecurityBackend, fleet.SecurityObserve} {
		r := newRig(t)
		adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
		s := r.openWith(adm, ocpp.V201, mode, obedient(nil))
		s.ready()
		if _, err := r.svc.SetProfile(t.Context(), "operator", "CS-1", 3); err != nil {
			t.Fatal(err)
		}
		s.wg.Wait()
		if got := s.actions(); len(got) != 0 {
			t.Errorf("%s: sent %v", mode, got)
		}
	}
}
