package fleet_test

import (
	"context"
	"runtime"
	"testing"
	"time"
	"weak"

	"bollard/fleet"
	"bollard/ocpp"
)

// Sessions whose stations sent no BootNotification are accepted ten seconds after each
// opened, by one timer.
func TestQuietSessionsShareATimer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	enter := func(id string) *fakeSession {
		r.add(fleet.Enrolment{Identity: id, Serial: "SN-" + id, Profile: 3})
		return r.open(r.admit(withCertificates(claim(t, id), r.issue(id, "SN-"+id)...)), ocpp.V201)
	}
	ready := func(step string, want map[string]bool) {
		t.Helper()
		for id, w := range want {
			if _, got := r.svc.Ready(keyOf(id)); got != w {
				t.Errorf("%s: %s ready %t, want %t", step, id, got, w)
			}
		}
	}
	enter("CS-1")
	timers := len(r.timers)
	r.advance(3 * time.Second)
	enter("CS-2")
	enter("CS-3").close()
	if n := len(r.timers) - timers; n != 0 {
		t.Errorf("%d timers more for two sessions", n)
	}
	ready("at first", map[string]bool{"CS-1": false, "CS-2": false})
	r.advance(7 * time.Second)
	ready("10 s after the first", map[string]bool{"CS-1": true, "CS-2": false, "CS-3": false})
	r.advance(3 * time.Second)
	ready("10 s after all", map[string]bool{"CS-1": true, "CS-2": true, "CS-3": false})
	enter("CS-4")
	r.advance(10 * time.Second)
	ready("after a pause", map[string]bool{"CS-4": true})
}

// A session that has ended is held by nothing, although the time hasn't come at which it
// would have been looked at: of a fleet that reconnects in a storm there are many.
func TestEndedSessionsAreForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-CS-1", Profile: 3})
	adm := r.admit(withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-CS-1")...))
	come := func() weak.Pointer[fakeSession] {
		ctx, cancel := context.WithCancel(t.Context())
		s := &fakeSession{r: r, id: "passing", adm: adm, version: ocpp.V201, security: fleet.SecurityBollard, ctx: ctx, cancel: cancel}
		r.svc.Opened(s)
		cancel()
		s.wg.Wait()
		r.svc.Closed(s)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.timers = nil // the rig's, of alarms that were stopped
		return weak.Make(s)
	}
	session := come()
	for n := 0; session.Value() != nil; n++ {
		if n == 10 {
			t.Fatal("it is still held")
		}
		runtime.GC()
	}
	runtime.KeepAlive(r)
}
