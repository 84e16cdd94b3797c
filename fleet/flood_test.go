package fleet_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/ocpp"
)

// However often a station doubts its certificate, the ledger tells of it now and then,
// with the count.
func TestFloodOfDoubtsIsCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	s := r.connected(ocpp.V201, fleet.SecurityBollard)
	const flood = 50
	for range flood {
		if v := s.event("InvalidChargingStationCertificate"); v.Act != fleet.Answer {
			t.Fatalf("verdict %+v", v)
		}
	}
	s.wg.Wait()
	r.advance(time.Hour)
	fleet.FlushDoubts(t.Context(), r.svc)
	got := r.events("certificate.doubted")
	if len(got) != 2 || got[0].Data["count"] != "1" || got[1].Data["count"] != fmt.Sprint(flood-1) {
		t.Errorf("%d entries: %+v", len(got), got)
	}
}

// A check that only warns is no way to fill the ledger with serial numbers.
func TestFloodOfWarningsIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	if _, err := r.svc.SetCheck(t.Context(), "operator", "CS-1", fleet.CheckBootSerial, true); err != nil {
		t.Fatal(err)
	}
	s := r.connected(ocpp.V201, fleet.SecurityBollard)
	boot := func(serial int) {
		t.Helper()
		v := s.message(ocpp.FromStation, ocpp.ActionBootNotification,
			fmt.Sprintf(`{"reason":"PowerUp","chargingStation":{"model":"M","vendorName":"V","serialNumber":"other-%d"}}`, serial))
		if v.Act != fleet.Pass {
			t.Fatalf("verdict %+v", v)
		}
	}
	for i := range 40 {
		boot(i)
	}
	const burst = 10
	if n := len(r.events("check.warned")); n != burst {
		t.Errorf("%d entries, want %d", n, burst)
	}
	r.advance(time.Hour)
	boot(39) // wasn't on record
	if n := len(r.events("check.warned")); n != burst+1 {
		t.Errorf("%d entries an hour later, want %d", n, burst+1)
	}
}

// What a station's messages have the disk do is done one after the other, and of what
// comes meanwhile the newest alone.
func TestFloodOfMessagesMakesNoCrowd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	s := r.connected(ocpp.V201, fleet.SecurityBollard)
	s.wg.Wait()
	var tasks []func(context.Context)
	s.mu.Lock()
	s.put = func(f func(context.Context)) { tasks = append(tasks, f) } // called by the messages below alone
	s.mu.Unlock()
	const flood = 30
	for i := range flood {
		s.message(ocpp.FromStation, ocpp.ActionFirmwareStatus, `{"status":"Installed","requestId":1}`)
		s.message(ocpp.FromStation, ocpp.ActionBootNotification,
			fmt.Sprintf(`{"reason":"PowerUp","chargingStation":{"model":"M","vendorName":"V","serialNumber":"SN-CS-1","firmwareVersion":"v%d"}}`, i))
	}
	if len(tasks) != 2 {
		t.Fatalf("%d tasks of %d messages, want 2", len(tasks), 2*flood)
	}
	for _, f := range tasks {
		f(t.Context())
	}
	plan, err := r.store.Plan(t.Context(), "cs-1")
	if err != nil || plan.Firmware != fmt.Sprintf("v%d", flood-1) || plan.FirmwareTold.IsZero() {
		t.Errorf("plan %+v, %v", plan, err)
	}
	s.message(ocpp.FromStation, ocpp.ActionFirmwareStatus, `{"status":"Installed","requestId":1}`)
	if len(tasks) != 3 {
		t.Errorf("%d tasks, want one more once the others are done", len(tasks))
	}
}
