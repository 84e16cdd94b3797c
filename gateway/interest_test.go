package gateway

import (
	"strconv"
	"testing"

	"bollard/ocpp"
)

// oddGuard is interested in every second action.
type oddGuard struct {
	Guard
	asked int
}

func (g *oddGuard) Interest(_ ocpp.Version, _ ocpp.Direction, action string) bool {
	g.asked++
	n, _ := strconv.Atoi(action)
	return n%2 == 1
}

// A station that makes up action names fills no memory, and is judged as before.
func TestMadeUpActionsAreNotRemembered(t *testing.T) {
	t.Parallel()
	guard := &oddGuard{}
	table := newInterests(guard)
	wanted := func(d ocpp.Direction, action string) bool { return table.wants(ocpp.V21, d, action) }
	for range 2 {
		for n := range 2 * maxInterests {
			if got := wanted(ocpp.FromStation, strconv.Itoa(n)); got != (n%2 == 1) {
				t.Fatalf("interest in %d is %v", n, got)
			}
		}
	}
	if n := len(*table.known[ocpp.V21][ocpp.FromStation].Load()); n != maxInterests {
		t.Errorf("%d actions are remembered, want %d", n, maxInterests)
	}
	if want := 3 * maxInterests; guard.asked != want { // the first half once, the rest each time
		t.Errorf("the guard was asked %d times, want %d", guard.asked, want)
	}
	asked := guard.asked
	for range 2 {
		wanted(ocpp.FromStation, "Heartbeat")
	}
	if n := guard.asked - asked; n != 1 {
		t.Errorf("the guard was asked %d times about one of the standard's actions, want once", n)
	}
	if !wanted(ocpp.FromStation, "1") || wanted(ocpp.FromCSMS, "2") || table.wants(ocpp.V16, ocpp.FromStation, "4") {
		t.Error("directions or versions are mixed up")
	}
}

// A guard that changed its mind is asked again, also about what was being asked
// meanwhile.
func TestReconsiderAsksAgain(t *testing.T) {
	t.Parallel()
	guard := &fickleGuard{}
	table := newInterests(guard)
	wanted := func(d ocpp.Direction, action string) bool { return table.wants(ocpp.V16, d, action) }
	if wanted(ocpp.FromCSMS, "Reset") {
		t.Fatal("interest before there is any")
	}
	guard.wants = true
	if wanted(ocpp.FromCSMS, "Reset") {
		t.Error("the answer wasn't remembered")
	}
	table.forget()
	if !wanted(ocpp.FromCSMS, "Reset") {
		t.Error("the guard wasn't asked again")
	}
	guard.meanwhile = table.forget // the old answer arrives after the change
	if !wanted(ocpp.FromCSMS, "ClearCache") {
		t.Error("the old answer is the one given")
	}
	guard.meanwhile, guard.wants = nil, false
	if wanted(ocpp.FromCSMS, "ClearCache") {
		t.Error("the old answer was remembered over the change")
	}
}

// fickleGuard changes its mind.
type fickleGuard struct {
	Guard
	wants     bool
	meanwhile func()
}

func (g *fickleGuard) Interest(ocpp.Version, ocpp.Direction, string) bool {
	if g.meanwhile != nil {
		g.meanwhile()
	}
	return g.wants
}
