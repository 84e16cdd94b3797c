package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/fleet"
	"bollard/internal/redact"
	"bollard/ocpp"
)

// connected is a session of CS-1 that its back end accepted.
func (r *rig) connected(v ocpp.Version, mode fleet.SecurityMode) *fakeSession {
	r.t.Helper()
	s := r.openWith(fleet.Admission{Station: r.proven("CS-1"), Profile: 2}, v, mode, nil)
	s.booted("Accepted")
	return s
}

// booted is the back end's answer to a BootNotification.
func (s *fakeSession) booted(status string) {
	then := s.r.svc.Answered(context.Background(), s, fleet.Message{Direction: ocpp.FromStation, Action: ocpp.ActionBootNotification},
		ocpp.Head{Type: ocpp.CallResult, Payload: fmt.Appendf(nil, `{"status":%q,"currentTime":"2026-06-01T12:00:00Z","interval":300}`, status)})
	if then != nil {
		then()
	}
}

func (s *fakeSession) event(kind string) fleet.Verdict {
	s.r.t.Helper()
	return s.message(ocpp.FromStation, ocpp.ActionSecurityEvent, fmt.Sprintf(`{"type":%q,"timestamp":"2026-06-01T11:59:58Z","techInfo":"of %s"}`, kind, kind))
}

// answerAbove scripts the back end.
func (s *fakeSession) answerAbove(above func(action string, payload json.RawMessage) (json.RawMessage, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.above = above
}

// delivered returns the types of the events the back end was sent, in order.
func (s *fakeSession) delivered() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []string{}
	for _, c := range s.raised {
		var e ocpp.SecurityEventRequest
		if err := json.Unmarshal(c.payload, &e); err != nil {
			s.r.t.Error(err)
		}
		list = append(list, e.Type)
	}
	return list
}

func (r *rig) securityEvents() []fleet.SecurityEvent {
	r.t.Helper()
	list, _, err := r.svc.SecurityEvents(r.t.Context(), "CS-1", 10_000)
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

func (r *rig) waiting() []fleet.Parcel {
	r.t.Helper()
	list, err := r.store.Parcels(r.t.Context(), "cs-1", 10_000)
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// A04.FR.03: each event is answered with the empty response, and then it is
// durable with all that is known of it.
func TestA04FR03EventIsAnsweredOnceDurable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		version  ocpp.Version
		sent     string
		want     fleet.SecurityEvent
		critical bool
	}{
		{ocpp.V16, "InvalidFirmwareSignature", fleet.SecurityEvent{Type: "InvalidFirmwareSignature", Listed: true}, false},
		{ocpp.V201, "InvalidFirmwareSignature", fleet.SecurityEvent{Type: "InvalidFirmwareSignature", Listed: true, Critical: true}, true},
		{ocpp.V16, "Central SystemFailedToAuthentication", fleet.SecurityEvent{Type: "CentralSystemFailedToAuthentication", SentAs: "Central SystemFailedToAuthentication", Listed: true}, false},
		{ocpp.V21, "DiscardedRenewedClientCertificate", fleet.SecurityEvent{Type: "DiscardedRenewedClientCertificate", Listed: true, Critical: true}, true},
		{ocpp.V21, "VendorsOwn", fleet.SecurityEvent{Type: "VendorsOwn"}, false},
	} {
		t.Run(test.version.String()+" "+test.sent, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.add(fleet.Enrolment{})
			s := r.connected(test.version, fleet.SecurityBollard)
			v := s.event(test.sent)
			if answer, err := json.Marshal(v.Payload); v.Act != fleet.Answer || err != nil || string(answer) != "{}" {
				t.Fatalf("verdict %+v", v)
			}
			want := test.want
			want.ID, want.Station, want.Version, want.Timestamp, want.ReceivedAt = 1, "cs-1", test.version.String(), "2026-06-01T11:59:58Z", r.clock()
			want.TechInfo = redact.Personal("of " + test.sent)
			if diff := cmp.Diff([]fleet.SecurityEvent{want}, r.securityEvents()); diff != "" {
				t.Error(diff)
			}
			eventually(t, "the copy is delivered as it was sent", func() bool { return cmp.Equal(s.delivered(), []string{test.sent}) })
			eventually(t, "the outbox is empty", func() bool { return len(r.waiting()) == 0 })
		})
	}
}

// A04.FR.03: what couldn't be stored isn't acknowledged; the station keeps it.
func TestA04FR03NothingIsAnsweredThatIsNotStored(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	s := r.connected(ocpp.V201, fleet.SecurityBollard)
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	if v := s.judge(ocpp.FromStation, ocpp.ActionSecurityEvent, `{"type":"ResetOrReboot","timestamp":"x"}`); v.Act != fleet.Refuse || v.Code != ocpp.InternalError {
		t.Errorf("verdict %+v", v)
	}
	watching := r.openWith(s.adm, ocpp.V201, fleet.SecurityObserve, nil)
	if v := watching.judge(ocpp.FromStation, ocpp.ActionSecurityEvent, `{"type":"ResetOrReboot","timestamp":"x"}`); v.Act != fleet.Pass {
		t.Errorf("observing, verdict %+v", v)
	}
}

// Where the back end answers, the event goes on and Bollard keeps a copy.
func TestA04EventsOfBackEndsThatAnswer(t *testing.T) {
	t.Parallel()
	for _, mode := range []fleet.SecurityMode{fleet.SecurityBackend, fleet.SecurityObserve} {
		r := newRig(t)
		r.add(fleet.Enrolment{})
		s := r.connected(ocpp.V201, mode)
		if v := s.event("ResetOrReboot"); v.Act != fleet.Pass || v.Watch {
			t.Errorf("%s: verdict %+v", mode, v)
		}
		if got := r.securityEvents(); len(got) != 1 || got[0].Type != "ResetOrReboot" {
			t.Errorf("%s: stored %+v", mode, got)
		}
		if len(r.waiting()) != 0 || len(s.delivered()) != 0 {
			t.Errorf("%s: the back end would hear twice", mode)
		}
	}
}

// Events before the station is accepted are answered and never close the
// connection; their copies wait for the back end's Accepted (B02, B03).
func TestA04EventsBeforeBootAreAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	s := r.openWith(fleet.Admission{Station: r.proven("CS-1"), Profile: 2}, ocpp.V201, fleet.SecurityBollard, nil)
	for i, status := range []string{"", "Rejected", "Pending"} {
		if status != "" {
			s.booted(status)
		}
		if v := s.event(fmt.Sprintf("E%d", i)); v.Act != fleet.Answer {
			t.Errorf("after %q: verdict %+v", status, v)
		}
	}
	s.wg.Wait()
	if got := s.delivered(); len(got) != 0 || s.endedWith() != "" {
		t.Fatalf("delivered %v, ended %q", got, s.endedWith())
	}
	s.booted("Accepted")
	eventually(t, "all are delivered in order", func() bool { return cmp.Equal(s.delivered(), []string{"E0", "E1", "E2"}) })
	eventually(t, "none waits", func() bool { return len(r.waiting()) == 0 }) // or the last comes twice

	// A reconnect without BootNotification counts as accepted after a while.
	s.close()
	s = r.openWith(s.adm, ocpp.V201, fleet.SecurityBollard, nil)
	s.event("E3")
	s.wg.Wait()
	if got := s.delivered(); len(got) != 0 {
		t.Fatalf("delivered %v at once", got)
	}
	r.advance(11 * time.Second)
	eventually(t, "delivered", func() bool { return cmp.Equal(s.delivered(), []string{"E3"}) })

	// While a BootNotification is on its way nothing else is sent.
	s.message(ocpp.FromStation, ocpp.ActionBootNotification, `{"reason":"PowerUp","chargingStation":{"model":"m","vendorName":"v"}}`)
	s.event("E4")
	s.wg.Wait()
	if got := s.delivered(); len(got) != 1 {
		t.Errorf("delivered %v", got)
	}
}

// The signed form is stored by its content and handed on as it came.
func TestA04SignedEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	s := r.openWith(fleet.Admission{Station: r.proven("CS-1"), Profile: 2}, ocpp.V21, fleet.SecurityBollard, nil)
	inner, outer := `{"type":"ResetOrReboot","timestamp":"t"}`, `{"payload":"eyJ9","protected":"e30","signature":"AA"}`
	v := r.svc.Message(t.Context(), s, fleet.Message{Direction: ocpp.FromStation, Action: ocpp.ActionSecurityEvent, Payload: json.RawMessage(inner),
		Head: ocpp.Head{Type: ocpp.Call, ID: []byte("1"), Action: ocpp.ActionSecurityEvent + "-Signed", Payload: []byte(outer)}})
	if got := r.securityEvents(); v.Act != fleet.Answer || len(got) != 1 || got[0].Type != "ResetOrReboot" || !got[0].Critical {
		t.Errorf("verdict %+v, stored %+v", v, got)
	}
	if got := r.waiting(); len(got) != 1 || got[0].Action != "SecurityEventNotification-Signed" || string(got[0].Payload) != outer {
		t.Errorf("copy %+v", got)
	}
}

func TestA04BadEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	s := r.connected(ocpp.V201, fleet.SecurityBollard)
	for payload, code := range map[string]ocpp.ErrorCode{
		`{}`:                            ocpp.OccurrenceConstraintViolation,
		`{"type":7}`:                    ocpp.TypeConstraintViolation,
		`{"type":"A","Type":"B"}`:       ocpp.FormatViolation,
		`{"type":"A","type":"B"}`:       ocpp.FormatViolation,
		`[]`:                            ocpp.FormatViolation,
		`{"type":"A","techInfo":["x"]}`: ocpp.TypeConstraintViolation,
	} {
		if v := s.message(ocpp.FromStation, ocpp.ActionSecurityEvent, payload); v.Act != fleet.Refuse || v.Code != code {
			t.Errorf("%s: verdict %+v", payload, v)
		}
	}
	if got := r.securityEvents(); len(got) != 0 {
		t.Errorf("stored %+v", got)
	}
	if v := s.message(ocpp.FromStation, ocpp.ActionSecurityEvent, `{"type":"NoTimestamp"}`); v.Act != fleet.Answer {
		t.Errorf("without timestamp: %+v", v)
	}
}

// Text of the station is kept, cut to what the schema allows, and shows up
// neither in the log nor in the ledger.
func TestA04HostileText(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	s := r.connected(ocpp.V201, fleet.SecurityBollard)
	tech := "eMAID NLABC123\r\nlevel=ERROR \x1b[2J" + strings.Repeat("ä", 300)
	kind := "Evil\r\n\x1b]0;" + strings.Repeat("x", 9_000)
	payload, err := json.Marshal(ocpp.SecurityEventRequest{Type: kind, Timestamp: "\x1b[1m" + strings.Repeat("9", 100), TechInfo: tech})
	if err != nil {
		t.Fatal(err)
	}
	s.message(ocpp.FromStation, ocpp.ActionSecurityEvent, string(payload))
	payload, err = json.Marshal(ocpp.SecurityEventRequest{Type: "TamperDetectionActivated", TechInfo: tech})
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		s.message(ocpp.FromStation, ocpp.ActionSecurityEvent, string(payload))
	}
	got := r.securityEvents()
	if len(got) != 31 {
		t.Fatalf("%d events stored", len(got))
	}
	if e := got[30]; e.Type != kind[:50] || string(e.TechInfo) != string([]rune(tech)[:255]) || len(e.Timestamp) != 64 || e.Listed || e.Critical {
		t.Errorf("stored %+v", e)
	}
	eventually(t, "all delivered", func() bool { return len(s.delivered()) == 31 })
	if first := s.delivered()[0]; first != kind[:50] {
		t.Errorf("a huge event was copied whole: %d bytes", len(first))
	}
	log := r.logged()
	for _, bad := range []string{"NLABC123", "Evil", "ä", "\x1b"} {
		if strings.Contains(log, bad) {
			t.Errorf("the log has %q", bad)
		}
		for e, err := range r.store.Entries(t.Context(), 1) {
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(fmt.Sprint(e), bad) {
				t.Errorf("the ledger has %q", bad)
			}
		}
	}
	if n := strings.Count(log, "event=TamperDetectionActivated"); n != 20 {
		t.Errorf("30 critical events left %d log lines", n)
	}
}

// A back end that can't take the message is asked once, in this version, and
// again only after a week (c-jimenez/open-ocpp #37).
func TestA04BackEndThatCannot(t *testing.T) {
	t.Parallel()
	for _, code := range []ocpp.ErrorCode{ocpp.NotSupported, ocpp.NotImplemented} {
		r := newRig(t)
		r.add(fleet.Enrolment{})
		s := r.connected(ocpp.V16, fleet.SecurityBollard)
		s.answerAbove(func(string, json.RawMessage) (json.RawMessage, error) { return nil, &ocpp.CallFailure{Code: code} })
		s.event("E0")
		eventually(t, "it is remembered", func() bool { return len(r.events("backend.unable")) == 1 })
		s.event("E1")
		s.wg.Wait()
		r.restart()
		s = r.connected(ocpp.V16, fleet.SecurityBollard)
		s.event("E2")
		s.wg.Wait()
		if got := s.delivered(); len(got) != 0 || len(r.waiting()) != 0 {
			t.Errorf("after the restart: delivered %v, waiting %v", got, r.waiting())
		}
		if v := s.event("E3"); v.Act != fleet.Answer || len(r.securityEvents()) != 4 {
			t.Errorf("verdict %+v", v)
		}
		s.close()
		other := r.connected(ocpp.V201, fleet.SecurityBollard)
		other.event("E4")
		eventually(t, "another version is another matter", func() bool { return cmp.Equal(other.delivered(), []string{"E4"}) })
		eventually(t, "none waits", func() bool { return len(r.waiting()) == 0 })
		other.close()
		r.advance(8 * 24 * time.Hour)
		s = r.connected(ocpp.V16, fleet.SecurityBollard)
		s.event("E5")
		eventually(t, "asked again after a week", func() bool { return cmp.Equal(s.delivered(), []string{"E5"}) })
	}
}

// By a clock that was a year ahead it isn't left unasked for a year.
func TestA04BackEndThatCouldNotByAClockAhead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	right := r.clock()
	r.advance(365 * 24 * time.Hour)
	s := r.connected(ocpp.V16, fleet.SecurityBollard)
	s.answerAbove(func(string, json.RawMessage) (json.RawMessage, error) {
		return nil, &ocpp.CallFailure{Code: ocpp.NotSupported}
	})
	s.event("E0")
	eventually(t, "it is remembered", func() bool { return len(r.events("backend.unable")) == 1 && len(r.waiting()) == 0 })
	s.close()
	r.mu.Lock()
	r.now, r.timers = right.Add(time.Hour), nil
	r.mu.Unlock()
	s = r.connected(ocpp.V16, fleet.SecurityBollard)
	s.event("E1")
	eventually(t, "asked again", func() bool { return cmp.Equal(s.delivered(), []string{"E1"}) })
}

// A copy that was not answered is sent again, later each time, and those behind
// it wait: order is kept.
func TestA04OutboxRetriesInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	s := r.connected(ocpp.V201, fleet.SecurityBollard)
	fail := errors.New("no answer")
	s.answerAbove(func(string, json.RawMessage) (json.RawMessage, error) { return nil, fail })
	for i := range 3 {
		s.event(fmt.Sprintf("E%d", i))
		s.wg.Wait()
	}
	tries := len(s.delivered())
	for range 6 {
		r.advance(time.Hour)
		s.wg.Wait()
	}
	got := s.delivered()
	if len(got) < tries+6 {
		t.Errorf("%d tries, then %d", tries, len(got))
	}
	for _, kind := range got {
		if kind != "E0" {
			t.Fatalf("order was lost: %v", got)
		}
	}
	s.answerAbove(nil)
	r.advance(time.Hour)
	eventually(t, "all delivered", func() bool { return len(r.waiting()) == 0 })
	if got := s.delivered(); !cmp.Equal(got[len(got)-3:], []string{"E0", "E1", "E2"}) {
		t.Errorf("delivered %v", got)
	}

	s.wg.Wait() // no delivery is under way that would take the next event along

	// After a failure there is a pause, growing.
	s.answerAbove(func(string, json.RawMessage) (json.RawMessage, error) { return nil, fail })
	s.event("E3")
	s.wg.Wait()
	n := len(s.delivered())
	r.advance(900 * time.Millisecond)
	s.wg.Wait()
	if len(s.delivered()) != n {
		t.Error("no pause after a failure")
	}
	r.advance(2 * time.Second)
	s.wg.Wait()
	if len(s.delivered()) != n+1 {
		t.Error("not tried again")
	}
	r.advance(2500 * time.Millisecond)
	s.wg.Wait()
	if len(s.delivered()) != n+1 {
		t.Error("the pause doesn't grow")
	}
}

// A copy the back end refuses again and again is given up with a count, so that
// those behind it arrive.
func TestA04OutboxGivesUpWhatIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	s := r.connected(ocpp.V201, fleet.SecurityBollard)
	s.answerAbove(func(_ string, payload json.RawMessage) (json.RawMessage, error) {
		if strings.Contains(string(payload), "Poison") {
			return nil, &ocpp.CallFailure{Code: ocpp.InternalError}
		}
		return json.RawMessage("{}"), nil
	})
	s.event("Poison")
	s.event("After")
	for range 5 {
		s.wg.Wait()
		r.advance(time.Hour)
	}
	eventually(t, "the next arrives", func() bool { return len(r.waiting()) == 0 })
	if got := s.delivered(); !cmp.Equal(got, []string{"Poison", "Poison", "Poison", "Poison", "Poison", "After"}) {
		t.Errorf("delivered %v", got)
	}
	_, losses, err := r.svc.SecurityEvents(t.Context(), "CS-1", 1)
	if dropped := r.events("outbox.dropped"); err != nil || losses.Copies != 1 || len(dropped) != 1 || dropped[0].Data["total"] != "1" {
		t.Errorf("losses %+v, %v; recorded %v", losses, err, dropped)
	}
}

// A flood is answered and stays bounded on disk, in the outbox and in the
// ledger, and can't wash critical events away.
func TestA04FloodIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	s := r.openWith(fleet.Admission{Station: r.proven("CS-1"), Profile: 2}, ocpp.V201, fleet.SecurityBollard, nil)
	s.event("TamperDetectionActivated")
	flood := 4000 // over every bound several times
	if raceDetector {
		flood = 2000
	}
	var wg sync.WaitGroup
	for range 250 { // as one station never could, to be quick about it
		wg.Go(func() {
			for range flood / 250 {
				if v := s.judge(ocpp.FromStation, ocpp.ActionSecurityEvent, `{"type":"InvalidMessages","timestamp":"x"}`); v.Act != fleet.Answer {
					t.Errorf("verdict %+v", v)
					return
				}
			}
		})
	}
	wg.Wait()
	list, losses, err := r.svc.SecurityEvents(t.Context(), "CS-1", 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	if want := (fleet.EventLosses{Station: "cs-1", Events: flood - fleet.EventsKept, Copies: flood + 1 - fleet.ParcelsKept}); len(list) != fleet.EventsKept+1 || losses != want {
		t.Errorf("%d events kept, losses %+v", len(list), losses)
	}
	if len(list) == 0 || list[len(list)-1].Type != "TamperDetectionActivated" {
		t.Error("the critical event is gone")
	}
	if n := len(r.waiting()); n != fleet.ParcelsKept {
		t.Errorf("%d copies wait", n)
	}
	for _, kind := range []string{"event.dropped", "outbox.dropped"} {
		if n := len(r.events(kind)); n == 0 || n > 17 {
			t.Errorf("%d entries %s", n, kind)
		}
	}
}

// Copies nobody took for a week are given up with a count.
func TestA04OutboxAge(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	s := r.openWith(fleet.Admission{Station: r.proven("CS-1"), Profile: 2}, ocpp.V201, fleet.SecurityBollard, nil)
	s.message(ocpp.FromStation, ocpp.ActionBootNotification, `{"reason":"PowerUp","chargingStation":{"model":"m","vendorName":"v"}}`)
	s.booted("Rejected")
	s.event("Old")
	r.advance(6 * 24 * time.Hour)
	s.event("New")
	s.close()
	r.advance(25 * time.Hour)
	fleet.SweepOutbox(t.Context(), r.svc)
	if got := r.waiting(); len(got) != 1 || !strings.Contains(string(got[0].Payload), "New") {
		t.Errorf("waiting %+v", got)
	}
	if dropped := r.events("outbox.dropped"); len(dropped) != 1 {
		t.Errorf("recorded %v", dropped)
	}
}

// The certificate life hears of the events that concern it; a removed station
// takes its events along.
func TestA04EffectsAndRemoval(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	s := r.connected(ocpp.V16, fleet.SecurityBollard)
	for _, kind := range []string{"InvalidChargePointCertificate", "InvalidChargingStationCertificate", "FirmwareUpdated"} {
		s.event(kind)
	}
	s.wg.Wait()
	if got := r.events("certificate.doubted"); len(got) != 1 || got[0].Subject != "cs-1" || got[0].Data["event"] != ocpp.EventInvalidStationCertificate {
		t.Errorf("recorded %+v", got)
	}
	if err := r.svc.Remove(t.Context(), "operator", "CS-1"); err != nil {
		t.Fatal(err)
	}
	if v := s.event("ResetOrReboot"); v.Act != fleet.End {
		t.Errorf("an event of a removed station: %+v", v)
	}
	r.add(fleet.Enrolment{})
	if got := r.securityEvents(); len(got) != 0 || len(r.waiting()) != 0 {
		t.Errorf("events of the removed station: %+v", got)
	}
}

// SecurityEventNotification is a station's, in every version.
func TestSecurityEventInterest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, v := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
		if !r.svc.Interest(v, ocpp.FromStation, ocpp.ActionSecurityEvent) || r.svc.Interest(v, ocpp.FromCSMS, ocpp.ActionSecurityEvent) {
			t.Errorf("%v: interest in SecurityEventNotification", v)
		}
	}
}
