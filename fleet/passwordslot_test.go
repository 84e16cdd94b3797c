package fleet_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/ocpp"
)

// slotted is a 2.1 station with two network profile slots, each with a password
// of its own, and none in SecurityCtrlr.
type slotted struct {
	t        testing.TB
	profiles bool // knows SetNetworkProfile
	carries  bool // and takes the password in it
	refuses  bool // writing any
	roots    *shelf

	mu        sync.Mutex
	priority  []string
	active    string
	passwords map[string]string
	urls      map[string]string
	resets    int
}

func (h *slotted) write(slot, password string) string {
	switch {
	case h.refuses:
		return "Rejected"
	case slot != "0" && slot != "1":
		return "UnknownComponent"
	case slot == h.active || slices.Contains(h.priority, slot):
		h.t.Errorf("slot %s is in use and was written (B09.FR.21)", slot)
		return "Rejected"
	case password != "":
		h.passwords[slot] = password
	}
	return "Accepted"
}

func (h *slotted) answer(action string, payload json.RawMessage) (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	read := func(into any) {
		if err := json.Unmarshal(payload, into); err != nil {
			h.t.Error(err)
		}
	}
	switch action {
	case "GetInstalledCertificateIds", "InstallCertificate":
		return h.roots.answer(action, payload)
	case "GetVariables":
		sh := newShelf(h.t, ocpp.V21)
		sh.inSlots = true
		sh.values = map[string]string{"NetworkConfigurationPriority": strings.Join(h.priority, ","), "ActiveNetworkProfile": h.active}
		return sh.answer(action, payload)
	case "SetVariables":
		var set ocpp.SetVariablesRequest
		read(&set)
		d := set.SetVariableData[0]
		status := "Accepted"
		switch {
		case d.Component.Name == "SecurityCtrlr" && d.Variable.Name == "BasicAuthPassword":
			status = "UnknownVariable"
		case d.Component.Name == "NetworkConfiguration" && d.Variable.Name == "BasicAuthPassword":
			status = h.write(d.Component.Instance, d.AttributeValue)
		case d.Component.Name == "NetworkConfiguration":
			if status = h.write(d.Component.Instance, ""); d.Variable.Name == "OcppCsmsUrl" {
				h.urls[d.Component.Instance] = d.AttributeValue
			}
		case d.Variable.Name == "NetworkConfigurationPriority":
			h.priority = strings.Split(d.AttributeValue, ",")
		}
		return ocpp.SetVariablesResponse{SetVariableResult: []ocpp.SetVariableResult{{AttributeStatus: status, Component: d.Component, Variable: d.Variable}}}, nil
	case "SetNetworkProfile":
		if !h.profiles {
			return nil, &ocpp.CallFailure{Code: ocpp.NotSupported}
		}
		var set ocpp.SetNetworkProfileRequest
		read(&set)
		password := set.ConnectionData.BasicAuthPassword
		if !h.carries {
			password = ""
		}
		if h.write(string(rune('0'+set.ConfigurationSlot)), password) != "Accepted" {
			return ocpp.GenericStatus{Status: "Rejected"}, nil
		}
	case "Reset":
		h.resets++
		h.active = h.priority[0]
	}
	return ocpp.GenericStatus{Status: "Accepted"}, nil
}

func (h *slotted) look() (password string, resets int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.passwords[h.active], h.resets
}

// A 2.1 station that keeps its password with its network profiles gets a new one
// in the slot that isn't in use, again and again, and has a slot left for a
// higher profile.
func TestPasswordInNetworkConfiguration(t *testing.T) { // A01.FR.02, A01.FR.03, B09.FR.21 [2.1]
	t.Parallel()
	for _, tt := range []struct {
		name              string
		profiles, carries bool
	}{
		{"NetworkConfiguration alone", false, false},
		{"SetNetworkProfile without the password", true, false},
		{"SetNetworkProfile with the password", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			first := r.add(fleet.Enrolment{Identity: "CS-1"})
			h := &slotted{t: t, profiles: tt.profiles, carries: tt.carries, priority: []string{"0"}, active: "0", passwords: map[string]string{"0": first}, urls: map[string]string{}}
			for n := 1; n <= 3; n++ {
				password, _ := h.look()
				old := withPassword(claim(t, "CS-1"), password)
				s := r.openWith(r.admit(old), ocpp.V21, fleet.SecurityBollard, h.answer)
				s.ready()
				if _, err := r.svc.Rotate(t.Context(), "operator", "CS-1"); err != nil {
					t.Fatal(err)
				}
				eventually(t, "a Reset", func() bool { _, resets := h.look(); return resets == n })
				s.close()
				r.admit(old) // until the station was seen with the new one
				password, _ = h.look()
				if strings.Contains(r.logged(), password) {
					t.Error("the password is in the log")
				}
				s = r.openWith(r.admit(withPassword(claim(t, "CS-1"), password)), ocpp.V21, fleet.SecurityBollard, h.answer)
				r.refusal(old)
				if st := r.station("CS-1"); st.Pending != nil || st.RotateWanted || s.endedWith() != "" {
					t.Errorf("station %+v; session ended %q", st, s.endedWith())
				}
				s.close()
			}
			password, _ := h.look()
			s := r.openWith(r.admit(withPassword(claim(t, "CS-1"), password)), ocpp.V21, fleet.SecurityBollard, h.answer)
			s.ready()
			if _, err := r.svc.SetProfile(t.Context(), "operator", "CS-1", 3); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a trigger", func() bool { return len(s.sent("TriggerMessage")) == 1 })
			s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
			eventually(t, "a Reset to profile 3", func() bool { _, resets := h.look(); return resets == 4 })
		})
	}
}

// A station that can't connect by the new slot comes back by the old one, with
// the old password, and is given another.
func TestPasswordInNetworkConfigurationFallsBack(t *testing.T) { // A01.FR.04, B10.FR.07
	t.Parallel()
	r := newRig(t)
	first := r.add(fleet.Enrolment{Identity: "CS-1"})
	h := &slotted{t: t, priority: []string{"0"}, active: "0", passwords: map[string]string{"0": first}, urls: map[string]string{}}
	old := withPassword(claim(t, "CS-1"), first)
	s := r.openWith(r.admit(old), ocpp.V21, fleet.SecurityBollard, h.answer)
	s.ready()
	if _, err := r.svc.Rotate(t.Context(), "operator", "CS-1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a Reset", func() bool { _, resets := h.look(); return resets == 1 })
	s.close()
	given, _ := h.look()
	h.mu.Lock()
	h.active = "0" // it fell back
	h.mu.Unlock()
	r.advance(20 * time.Minute)
	s = r.openWith(r.admit(old), ocpp.V21, fleet.SecurityBollard, h.answer)
	if r.station("CS-1").Pending != nil {
		t.Error("the password it can't connect with is still taken")
	}
	r.refusal(withPassword(claim(t, "CS-1"), given))
	s.ready()
	eventually(t, "another Reset", func() bool { r.advance(time.Minute); _, resets := h.look(); return resets == 2 })
	s.close()
	if again, _ := h.look(); again == given || again == first {
		t.Error("it was given no other password")
	} else {
		r.open(r.admit(withPassword(claim(t, "CS-1"), again)), ocpp.V21)
		r.refusal(old)
	}
}

// On profile 1 the slot would need another URL than Bollard knows.
func TestPasswordInNetworkConfigurationNeedsTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1", Profile: 1}))
	c.TLS, c.Profiles = false, []int{1}
	h := &slotted{t: t, priority: []string{"0"}, active: "0", passwords: map[string]string{}, urls: map[string]string{}}
	s := r.openWith(r.admit(c), ocpp.V21, fleet.SecurityBollard, h.answer)
	s.ready()
	if _, err := r.svc.Rotate(t.Context(), "operator", "CS-1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "note", func() bool { return strings.Contains(r.station("CS-1").PlanNote, "on profile 2 only") })
	s.wg.Wait()
	if _, resets := h.look(); resets != 0 || r.station("CS-1").Pending != nil {
		t.Error("something was changed")
	}
	r.admit(c)
}
