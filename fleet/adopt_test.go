package fleet_test

import (
	"net/netip"
	"strings"
	"testing"

	"bollard/fleet"
	"bollard/ocpp"
)

// adoptable is a claim whose back end adopts.
func adoptable(c fleet.Claim, yes bool) fleet.Claim {
	c.Adopts = func(fleet.Admission) bool { return yes }
	return c
}

func TestAdoption(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", NoPassword: true})
	right := withPassword(claim(t, "CS-1"), "known to the back end")

	// Nobody adopts: refused as before.
	if got := r.refusal(right); got.Status != 401 || !strings.Contains(got.Reason, "no password is set") {
		t.Errorf("refusal = %+v", got)
	}
	r.refusal(adoptable(right, false)) // after the date, or another back end's
	foreign := adoptable(right, true)
	foreign.Basic = &fleet.Basic{User: "CS-2", Password: right.Basic.Password}
	r.refusal(foreign)
	r.refusal(adoptable(withPassword(claim(t, "CS-1"), ""), true))

	// A wrong password: the back end says so, nothing is stored.
	adm := r.admit(adoptable(withPassword(claim(t, "CS-1"), "a guess, long enough"), true))
	if !adm.Adopting {
		t.Fatalf("admission = %+v", adm)
	}
	if _, err := r.svc.Adopted(t.Context(), withPassword(claim(t, "CS-1"), "a guess, long enough"), adm, false); err == nil {
		t.Error("adopted what the back end refused")
	}
	if r.station("CS-1").Password != nil || len(r.events("station.adopted")) != 0 {
		t.Error("something was stored of a refused password")
	}

	// The right one is stored, recorded, and proves the station here.
	first := r.admit(adoptable(right, true))
	late := r.admit(adoptable(withPassword(claim(t, "CS-1"), "another stranger's"), true))
	got, err := r.svc.Adopted(t.Context(), right, first, true)
	if err != nil || got.Adopting || got.Profile != 2 {
		t.Fatalf("Adopted = %+v, %v", got, err)
	}
	if n := len(r.events("station.adopted")); n != 1 {
		t.Errorf("%d records of the adoption", n)
	}
	s := r.open(got, ocpp.V16)
	if s.endedWith() != "" {
		t.Errorf("session ended: %s", s.endedWith())
	}
	// Once: neither one that was under way nor one that comes later.
	if _, err := r.svc.Adopted(t.Context(), withPassword(claim(t, "CS-1"), "another stranger's"), late, true); err == nil {
		t.Error("a second password was adopted")
	}
	r.refusal(adoptable(withPassword(claim(t, "CS-1"), "another stranger's"), true))
	r.restart()
	r.admit(right)
	if plan, err := r.svc.Plan(t.Context(), "CS-1"); err != nil || plan.AdoptedAt.IsZero() {
		t.Errorf("plan = %+v, %v", plan, err)
	}
}

func TestAdoptionGuessesAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", NoPassword: true})
	c := adoptable(withPassword(claim(t, "CS-1"), "a guess"), true)
	for n := range 1000 {
		adm, err := r.svc.Admit(t.Context(), c)
		if err != nil {
			if n == 0 {
				t.Fatal(err)
			}
			return
		}
		if _, err := r.svc.Adopted(t.Context(), c, adm, false); err == nil {
			t.Fatal("a refused password was adopted")
		}
	}
	t.Error("1000 guesses went to the back end")
}

// A stranger's guesses must not keep the station from being adopted.
func TestAdoptionWithAStrangerGuessing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", NoPassword: true})
	guess := adoptable(withPassword(claim(t, "CS-1"), "a guess"), true)
	guess.Source = netip.MustParseAddr("203.0.113.66")
	for range 1000 {
		adm, err := r.svc.Admit(t.Context(), guess)
		if err != nil {
			r.admit(adoptable(withPassword(claim(t, "CS-1"), "known to the back end"), true))
			return
		}
		if _, err := r.svc.Adopted(t.Context(), guess, adm, false); err == nil {
			t.Fatal("a refused password was adopted")
		}
	}
	t.Error("1000 guesses went to the back end")
}

func TestAdoptionNeverLowersTheProfile(t *testing.T) { // A05.FR.09
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	c := adoptable(withPassword(claim(t, "CS-1"), "known to the back end"), true)
	if got := r.refusal(c); !strings.Contains(got.Reason, "nothing below 3") {
		t.Errorf("refusal = %+v", got)
	}
}
