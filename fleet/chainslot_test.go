package fleet_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ledger"
	"bollard/ocpp"
)

// inSlots is a station that keeps its password with its network profiles, while
// the CSMS root is changed: it has the new root and is to come once under it.
func inSlots(t *testing.T) (*rig, *slotted, string) {
	t.Helper()
	r := newRig(t)
	change := r.nextRoot()
	r.rolloverURL = "wss://bollard.example:9443/ocpp"
	r.restart()
	first := r.add(fleet.Enrolment{Identity: "CS-1"})
	h := &slotted{t: t, roots: newShelf(t, ocpp.V21), priority: []string{"0"}, active: "0",
		passwords: map[string]string{"0": first}, urls: map[string]string{"0": "wss://bollard.example:8443/ocpp"}}
	h.roots.roots["CSMSRootCertificate"] = []*x509.Certificate{change.Old}
	next := ca.SerialOf(change.New)
	if _, err := r.store.UpdatePlan(t.Context(), "cs-1", func(p *fleet.Plan) ([]ledger.Event, error) { p.ChainWanted = next; return nil, nil }); err != nil {
		t.Fatal(err)
	}
	return r, h, next
}

// login is the station coming by the network profile it uses.
func (h *slotted) login(r *rig) fleet.Claim {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := withPassword(claim(h.t, "CS-1"), h.passwords[h.active])
	c.NewChain = h.urls[h.active] == r.rolloverURL
	return c
}

// sentOn has the station connect as it does and waits for its n-th Reset.
func (h *slotted) sentOn(r *rig, n int) {
	h.t.Helper()
	s := r.openWith(r.admit(h.login(r)), ocpp.V21, fleet.SecurityBollard, h.answer)
	s.ready()
	eventually(h.t, "a Reset", func() bool { _, resets := h.look(); return resets == n })
	s.close()
	if password, _ := h.look(); strings.Contains(r.logged(), password) {
		h.t.Error("the password is in the log")
	}
}

// Bollard has only the hash of a station's password: a network profile for the
// listener of the next root gets a new one, and so does the one it comes back by.
func TestSlotPasswordFollowsTheNextRoot(t *testing.T) { // M05, A01.FR.03, B09.FR.21 [2.1]
	t.Parallel()
	r, h, next := inSlots(t)
	at := h.login(r)
	h.sentOn(r, 1)
	r.admit(at) // until it was seen with the new one
	there := h.login(r)
	if !there.NewChain {
		t.Fatalf("it is to connect to %v", h.urls)
	}
	h.sentOn(r, 2)
	r.refusal(at)
	if p := r.plan("CS-1"); p.ChainProven != next {
		t.Errorf("proven %q, want %q", p.ChainProven, next)
	}
	back := h.login(r)
	if back.NewChain {
		t.Errorf("it is to come back to %v", h.urls)
	}
	s := r.openWith(r.admit(back), ocpp.V21, fleet.SecurityBollard, h.answer)
	s.ready()
	r.refusal(there)
	if st := r.station("CS-1"); st.Pending != nil {
		t.Error("a password is undecided")
	}
	s.wg.Wait()
	if _, resets := h.look(); resets != 2 || len(h.passwords) != 2 {
		t.Errorf("%d resets, %d network profiles", resets, len(h.passwords))
	}
}

// One that can't connect there comes back by the profile it has, with its old
// password, and is sent again with another.
func TestSlotPasswordOfANextRootThatFails(t *testing.T) { // A01.FR.04, B10.FR.07 [2.1]
	t.Parallel()
	r, h, _ := inSlots(t)
	at := h.login(r)
	h.sentOn(r, 1)
	given := h.login(r)
	h.mu.Lock()
	h.active = "0" // it fell back
	h.mu.Unlock()
	r.advance(20 * time.Minute)
	s := r.openWith(r.admit(at), ocpp.V21, fleet.SecurityBollard, h.answer)
	r.refusal(given)
	s.ready()
	eventually(t, "another Reset", func() bool { r.advance(time.Minute); _, resets := h.look(); return resets == 2 })
	s.close()
	if again := h.login(r); !again.NewChain || string(again.Basic.Password) == string(given.Basic.Password) {
		t.Error("it was given the same password again")
	}
}

// On the way from profile 1 to 2 the new profile needs a password too.
func TestSlotPasswordFollowsToProfile2(t *testing.T) { // A05, A01.FR.03 [2.1]
	t.Parallel()
	r := newRig(t)
	plain := withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1", Profile: 1}))
	plain.TLS, plain.Profiles = false, []int{1}
	h := &slotted{t: t, roots: newShelf(t, ocpp.V21), profiles: true, priority: []string{"0"}, active: "0",
		passwords: map[string]string{"0": string(plain.Basic.Password)}, urls: map[string]string{}}
	s := r.openWith(r.admit(plain), ocpp.V21, fleet.SecurityBollard, h.answer)
	s.ready()
	if _, err := r.svc.SetProfile(t.Context(), "operator", "CS-1", 2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a Reset", func() bool { _, resets := h.look(); return resets == 1 })
	s.close()
	r.admit(plain) // the way back stays until it was seen on 2
	r.open(r.admit(h.login(r)), ocpp.V21)
	r.refusal(plain)
	if st := r.station("CS-1"); st.FloorProfile != 2 || st.Pending != nil {
		t.Errorf("station %+v", st)
	}
}

// A station that answers no to the new profile keeps its password.
func TestSlotPasswordOfANextRootThatIsRefused(t *testing.T) { // A01.FR.04 [2.1]
	t.Parallel()
	r, h, _ := inSlots(t)
	h.refuses = true
	at := h.login(r)
	s := r.openWith(r.admit(at), ocpp.V21, fleet.SecurityBollard, h.answer)
	s.ready()
	eventually(t, "note", func() bool {
		return strings.Contains(r.station("CS-1").PlanNote, "couldn't move the station to the chain")
	})
	s.wg.Wait()
	if _, resets := h.look(); resets != 0 || r.station("CS-1").Pending != nil {
		t.Error("something was changed")
	}
	s.close()
	r.admit(at)
}
