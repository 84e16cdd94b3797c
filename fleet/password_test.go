package fleet_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/ocpp"
)

// taker is a station that is sent passwords: got is the newest, and how says
// what it answers.
type taker struct {
	mu      sync.Mutex
	version ocpp.Version
	got     string
	sent    int
	how     string // Accepted, Rejected, NotSupported, RebootRequired, lost, not arrived, error
	resets  int
	over    func(string, json.RawMessage) (any, error)
}

func (k *taker) answer(action string, payload json.RawMessage) (any, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	secret := ""
	switch action {
	case "ChangeConfiguration":
		var c ocpp.ChangeConfigurationRequest16
		if err := json.Unmarshal(payload, &c); err != nil {
			return nil, err
		}
		if c.Key == "AuthorizationKey" {
			raw, err := hex.DecodeString(c.Value)
			if err != nil || len(raw) < 16 || len(raw) > 20 {
				return nil, errors.New("AuthorizationKey is not 16 to 20 bytes in hex")
			}
			secret = string(raw)
		}
	case "SetVariables":
		var v ocpp.SetVariablesRequest
		if err := json.Unmarshal(payload, &v); err != nil {
			return nil, err
		}
		if d := v.SetVariableData[0]; d.Component.Name == "SecurityCtrlr" && d.Variable.Name == "BasicAuthPassword" {
			secret = d.AttributeValue
		}
	case "Reset":
		k.resets++
	}
	if secret == "" {
		return k.over(action, payload)
	}
	k.sent++
	switch k.how {
	case "lost":
		k.got = secret
		return nil, errors.New("connection lost")
	case "not arrived":
		return nil, errors.New("connection lost")
	case "error":
		k.got = secret
		return nil, &ocpp.CallFailure{Code: ocpp.InternalError}
	case "unknown":
		return nil, &ocpp.CallFailure{Code: ocpp.NotSupported}
	case "Accepted", "RebootRequired":
		k.got = secret
	}
	if k.version == ocpp.V16 {
		return ocpp.GenericStatus{Status: k.how}, nil
	}
	return ocpp.SetVariablesResponse{SetVariableResult: []ocpp.SetVariableResult{{AttributeStatus: k.how,
		Component: ocpp.Component{Name: "SecurityCtrlr"}, Variable: ocpp.Variable{Name: "BasicAuthPassword"}}}}, nil
}

func (k *taker) state() (got string, sent, resets int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.got, k.sent, k.resets
}

// rotate enrols a station on profile 2, has it connected and asked to rotate.
func (r *rig) rotate(v ocpp.Version, how string) (*fakeSession, *taker, fleet.Claim) {
	r.t.Helper()
	old := withPassword(claim(r.t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"}))
	k := &taker{version: v, how: how, over: obedient(nil)}
	s := r.openWith(r.admit(old), v, fleet.SecurityBollard, k.answer)
	s.ready()
	if _, err := r.svc.Rotate(r.t.Context(), "operator", "CS-1"); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "the new password's way to the station", func() bool { _, n, _ := k.state(); return n > 0 })
	return s, k, old
}

func (k *taker) claim(t *testing.T) fleet.Claim {
	got, _, _ := k.state()
	return withPassword(claim(t, "CS-1"), got)
}

func versions() []ocpp.Version { return []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} }

func TestPasswordAccepted(t *testing.T) { // A01.FR.02, A01.FR.03, A01.FR.08, A01.FR.09, TC_A_09, TC_073
	t.Parallel()
	for _, v := range versions() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, k, old := r.rotate(v, "Accepted")
			eventually(t, "the change on record", func() bool { return len(r.events("password.changed")) == 1 })
			r.refusal(old)
			secret, _, _ := k.state()
			if strings.Contains(r.logged(), secret) {
				t.Error("the password is in the log")
			}
			// The session goes on until the station ends it, but not for ever.
			if s.endedWith() != "" {
				t.Errorf("session was cut: %s", s.endedWith())
			}
			eventually(t, "end of a session the station doesn't end", func() bool { r.advance(2 * time.Minute); return s.endedWith() != "" })
			s.close()
			again := r.openWith(r.admit(k.claim(t)), v, fleet.SecurityBollard, k.answer)
			again.ready()
			again.wg.Wait()
			if _, n, _ := k.state(); n != 1 || again.endedWith() != "" {
				t.Errorf("%d passwords sent, session ended %q", n, again.endedWith())
			}
			r.advance(time.Hour)
			if again.endedWith() != "" {
				t.Errorf("session ended: %s", again.endedWith())
			}
		})
	}
}

func TestPasswordNotChanged(t *testing.T) { // A01.FR.04, TC_A_10
	t.Parallel()
	for _, tt := range []struct {
		how   string
		v     ocpp.Version
		again bool // it is asked again later
	}{
		{"Rejected", ocpp.V16, true}, {"NotSupported", ocpp.V16, false}, {"Rejected", ocpp.V201, true},
		{"UnknownVariable", ocpp.V201, false}, {"unknown", ocpp.V201, false}, {"unknown", ocpp.V16, false},
	} {
		t.Run(tt.v.String()+" "+tt.how, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, k, old := r.rotate(tt.v, tt.how)
			eventually(t, "the refusal on record", func() bool { return len(r.events("password.kept")) == 1 })
			s.wg.Wait()
			r.admit(old)
			if st := r.station("CS-1"); st.Pending != nil || !strings.Contains(st.PlanNote, "couldn't change the password") {
				t.Errorf("station = %+v", st)
			}
			for range 12 * 60 {
				r.advance(time.Minute)
				s.wg.Wait()
			}
			switch _, n, _ := k.state(); {
			case tt.again && (n < 2 || n > 6):
				t.Errorf("%d tries in half a day", n)
			case !tt.again && n != 1:
				t.Errorf("%d tries with a station that can't", n)
			}
			// The operator may ask again.
			k.mu.Lock()
			k.how = "Accepted"
			k.mu.Unlock()
			if _, err := r.svc.Rotate(t.Context(), "operator", "CS-1"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the change", func() bool { return len(r.events("password.changed")) == 1 })
			r.refusal(old)
		})
	}
}

func TestPasswordAnswerLost(t *testing.T) { // A01.FR.03, A01.FR.04: the gap between them
	t.Parallel()
	for _, tt := range []struct {
		how     string
		changed bool
	}{{"lost", true}, {"not arrived", false}, {"error", true}} {
		for _, restart := range []bool{false, true} {
			t.Run(tt.how, func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				s, k, old := r.rotate(ocpp.V16, tt.how)
				s.close()
				if restart {
					r.restart()
				}
				// Both are taken until one was used.
				r.admit(old)
				used := old
				if tt.changed {
					used = k.claim(t)
				}
				adm := r.admit(used)
				k.mu.Lock()
				k.how = "Accepted"
				newest := k.got
				k.mu.Unlock()
				s = r.open(adm, ocpp.V16)
				if s.endedWith() != "" {
					t.Fatal(s.endedWith())
				}
				r.admit(used)
				if tt.changed {
					r.refusal(old)
				} else if r.station("CS-1").Pending != nil || newest != "" {
					t.Error("the password that didn't arrive is still taken")
				}
				// An old session's late record decides nothing.
				if tt.changed && len(r.events("password.changed")) != 1 {
					t.Errorf("%d records of the change", len(r.events("password.changed")))
				}
			})
		}
	}
}

func TestPasswordTakesARestart(t *testing.T) { // A01.FR.03 with RebootRequired [1.6]
	t.Parallel()
	r := newRig(t)
	s, k, old := r.rotate(ocpp.V16, "RebootRequired")
	eventually(t, "a Reset", func() bool { _, _, n := k.state(); return n == 1 })
	s.close()
	// It comes back before it restarted: nothing is decided.
	s = r.openWith(r.admit(old), ocpp.V16, fleet.SecurityBollard, k.answer)
	if r.station("CS-1").Pending == nil {
		t.Fatal("the new password was given up before the restart")
	}
	s.close()
	s = r.openWith(r.admit(k.claim(t)), ocpp.V16, fleet.SecurityBollard, k.answer)
	r.refusal(old)
	if s.endedWith() != "" {
		t.Error(s.endedWith())
	}
}

func TestPasswordUndecidedSessionEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, k, _ := r.rotate(ocpp.V201, "lost")
	for range 40 {
		r.advance(time.Minute)
		time.Sleep(time.Millisecond)
	}
	eventually(t, "end of a session that decides nothing", func() bool { r.advance(time.Minute); return s.endedWith() != "" })
	if _, n, _ := k.state(); n != 1 {
		t.Errorf("%d passwords sent, want one until it is decided", n)
	}
}

func TestRotateRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	r.add(fleet.Enrolment{Identity: "CS-2", NoPassword: true})
	for _, id := range []string{"CS-1", "CS-2", "CS-3"} {
		if _, err := r.svc.Rotate(t.Context(), "operator", id); err == nil {
			t.Errorf("%s: no error", id)
		}
	}
}
