package fleet_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ocpp"
)

// due has a station connected on a certificate that is due for renewal.
func (r *rig) due(v ocpp.Version, answer func(string, json.RawMessage) (any, error)) *fakeSession {
	r.t.Helper()
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	chain := r.issue("CS-1", "SN-CS-1")
	r.mu.Lock()
	r.now = ca.RenewAt(chain[0]).Add(time.Hour)
	r.mu.Unlock()
	s := r.openWith(r.admit(withCertificates(claim(r.t, "CS-1"), chain...)), v, fleet.SecurityBollard, answer)
	s.ready()
	return s
}

func TestRejectedCertificateIsNotRetriedWithoutEnd(t *testing.T) { // A02.FR.20, TC_A_14, TC_077
	t.Parallel()
	synctest.Test(t, rejectsForever)
}

func rejectsForever(t *testing.T) {
	r := newRig(t)
	s := r.due(ocpp.V201, obedient(map[string]any{"CertificateSigned": ocpp.GenericStatus{Status: "Rejected"}}))
	for range 400 { // more than half a day; the station asks whenever it is triggered
		before := len(s.sent("TriggerMessage"))
		r.advance(2 * time.Hour)
		synctest.Wait()
		if len(s.sent("TriggerMessage")) > before {
			s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
			s.wait()
		}
	}
	if n := len(s.sent("CertificateSigned")); n != 3 {
		t.Errorf("%d certificates were made for a station that rejects them, want 3", n)
	}
	if plan := r.plan("CS-1"); plan.Rejected != 3 || !plan.Tries[fleet.StepCertificate].Stopped || !strings.Contains(r.station("CS-1").PlanNote, "bollard station renew CS-1") {
		t.Errorf("plan = %+v, note %q", plan, r.station("CS-1").PlanNote)
	}
	r.admit(withCertificates(claim(t, "CS-1"), r.presented(s.adm))) // the old one stays good
	// Only the operator starts it again.
	if _, err := r.svc.Renew(t.Context(), "operator", "CS-1", 0); err != nil {
		t.Fatal(err)
	}
	before := len(s.sent("TriggerMessage"))
	eventually(t, "a trigger", func() bool { r.advance(time.Minute); return len(s.sent("TriggerMessage")) > before })
}

func TestDiscardedCertificateIsRenewedAgain(t *testing.T) { // A02.FR.29, A03.FR.25
	t.Parallel()
	for _, tt := range []struct {
		event string
		again bool
	}{{"DiscardedRenewedClientCertificate", true}, {"InvalidChargingStationCertificate", false}} {
		t.Run(tt.event, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, _ := r.basic("CS-1", ocpp.V21, obedient(nil))
			s.ready()
			if _, err := r.svc.Renew(t.Context(), "operator", "CS-1", 0); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a trigger", func() bool { return len(s.sent("TriggerMessage")) == 1 })
			s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
			r.waitOrder("CS-1", fleet.OrderDelivered)
			s.message(ocpp.FromStation, "SecurityEventNotification", fmt.Sprintf(`{"type":%q,"timestamp":"2026-06-01T12:00:00Z"}`, tt.event))
			if o := r.waitOrder("CS-1", fleet.OrderRejected); !strings.Contains(o.Reason, "A02.FR") {
				t.Errorf("order = %+v", o)
			}
			if tt.again {
				// Each look moves the clock, so a third may have followed already.
				eventually(t, "another trigger", func() bool { r.advance(time.Minute); return len(s.sent("TriggerMessage")) >= 2 })
				return
			}
			r.advance(time.Hour)
			s.wg.Wait()
			if n := len(s.sent("TriggerMessage")); n != 1 {
				t.Errorf("%d triggers", n)
			}
			// A second event finds no order it could mean.
			s.message(ocpp.FromStation, "SecurityEventNotification", fmt.Sprintf(`{"type":%q,"timestamp":"2026-06-01T12:00:00Z"}`, tt.event))
			s.wg.Wait()
			if plan := r.plan("CS-1"); plan.Rejected != 1 {
				t.Errorf("plan = %+v", plan)
			}
		})
	}
}

func TestCombinedCertificateIsTriggered(t *testing.T) { // A02.FR.13, A02.FR.14, TC_A_13
	t.Parallel()
	for _, combined := range []bool{true, false} {
		r := newRig(t)
		only := func(action string, payload json.RawMessage) (any, error) {
			if action == "TriggerMessage" && !strings.Contains(string(payload), "SignCombinedCertificate") {
				return ocpp.GenericStatus{Status: "NotImplemented"}, nil
			}
			return obedient(nil)(action, payload)
		}
		s, _ := r.basic("CS-1", ocpp.V201, only)
		csr := csrPayload(t, newKey(t), "SN-CS-1")
		if !combined {
			csr = strings.Replace(csr, "{", `{"certificateType":"ChargingStationCertificate",`, 1)
		}
		s.message(ocpp.FromStation, "SignCertificate", csr)
		o := r.waitOrder("CS-1", fleet.OrderDelivered)
		if got := strings.Contains(string(s.sent("CertificateSigned")[0]), "ChargingStationCertificate"); got == combined || (o.Type == "") != combined {
			t.Errorf("combined %v: type in CertificateSigned: %v, order %q", combined, got, o.Type)
		}
		s.wg.Wait() // a request made while one is fulfilled may be met by it
		s.ready()
		if _, err := r.svc.Renew(t.Context(), "operator", "CS-1", 0); err != nil {
			t.Fatal(err)
		}
		want := 2
		if !combined {
			want = 1
		}
		eventually(t, "the trigger", func() bool { return len(s.sent("TriggerMessage")) >= want })
		s.wg.Wait()
		if n := len(s.sent("TriggerMessage")); n != want {
			t.Errorf("combined %v: %d triggers, want %d", combined, n, want)
		}
	}
}

func TestRepeatedRequestsGetTheirCertificates(t *testing.T) { // A02.FR.17-.19, TC_A_23
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V201, obedient(nil))
	first, second := csrPayload(t, newKey(t), "SN-CS-1"), csrPayload(t, newKey(t), "SN-CS-1")
	for _, csr := range []string{first, first, second, second} {
		s.message(ocpp.FromStation, "SignCertificate", csr)
		s.wg.Wait()
	}
	serials := map[string]bool{}
	for _, payload := range s.sent("CertificateSigned") {
		serials[serialOf(chainOf(t, payload)[0])] = true
	}
	if n := len(s.sent("CertificateSigned")); n != 4 || len(serials) != 2 {
		t.Errorf("%d CertificateSigned with %d certificates, want 4 with 2", n, len(serials))
	}
}

func TestOldCertificateAfterTheNewOneWasSeen(t *testing.T) { // A02.FR.28: fallback; superseded by option only
	t.Parallel()
	for _, revoke := range []bool{false, true} {
		r := newRig(t)
		r.revoke = revoke
		r.restart()
		s := r.due(ocpp.V201, obedient(nil))
		old := r.presented(s.adm)
		eventually(t, "a trigger", func() bool { return len(s.sent("TriggerMessage")) == 1 })
		s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
		r.waitOrder("CS-1", fleet.OrderDelivered)
		chain := chainOf(t, s.sent("CertificateSigned")[0])
		s.close()
		// Not before the new one was seen.
		s = r.open(r.admit(withCertificates(claim(t, "CS-1"), old)), ocpp.V201)
		s.close()
		r.open(r.admit(withCertificates(claim(t, "CS-1"), chain...)), ocpp.V201)
		if revoke {
			r.refusal(withCertificates(claim(t, "CS-1"), old))
			if rec, _, err := r.auth.Status(t.Context(), old); err != nil || rec.Reason != "superseded" {
				t.Errorf("record = %+v, %v", rec, err)
			}
		} else {
			r.admit(withCertificates(claim(t, "CS-1"), old))
		}
	}
}

func TestUrgentRenewalsDontWait(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.renewals = 1
	r.restart()
	var sessions []*fakeSession
	var leafs []time.Time
	for n := range 4 {
		id := fmt.Sprintf("CS-%d", n)
		r.add(fleet.Enrolment{Identity: id, Profile: 3})
		chain := r.issue(id, "SN-"+id)
		leafs = append(leafs, chain[0].NotAfter)
		adm := r.admit(withCertificates(claim(t, id), chain...))
		sessions = append(sessions, r.openWith(adm, ocpp.V201, fleet.SecurityBollard, obedient(nil)))
	}
	r.mu.Lock()
	r.now = slices.MinFunc(leafs, time.Time.Compare).Add(-time.Hour)
	r.mu.Unlock()
	for _, s := range sessions {
		s.ready()
	}
	for _, s := range sessions {
		eventually(t, "the trigger", func() bool { return len(s.sent("TriggerMessage")) == 1 })
	}
}

// A clock that was a year ahead for a moment puts no renewal off for a year: neither by
// the tries it counted, nor by a certificate it gave out, which begins then.
func TestRenewalAfterAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	for name, accepted := range map[string]string{"tries": "Rejected", "certificate": "Accepted"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s := r.due(ocpp.V201, obedient(map[string]any{"TriggerMessage": ocpp.GenericStatus{Status: accepted}}))
				right := r.clock()
				ahead := func() int {
					r.advance(time.Minute)
					synctest.Wait()
					return len(s.sent("TriggerMessage"))
				}
				before := len(s.sent("TriggerMessage"))
				r.advance(365 * 24 * time.Hour)
				for n := 0; ahead() <= before && n < 100; n++ {
				}
				if accepted == "Accepted" {
					s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
					r.waitOrder("CS-1", fleet.OrderDelivered)
				}
				before = len(s.sent("TriggerMessage"))
				r.mu.Lock()
				r.now = right.Add(time.Hour)
				r.timers = nil
				r.mu.Unlock()
				for range 3 * 24 * 4 {
					r.advance(15 * time.Minute)
					fleet.Poke(r.svc)
					synctest.Wait()
				}
				if len(s.sent("TriggerMessage")) == before {
					t.Error("the station isn't asked for a request any more")
				}
			})
		})
	}
}
