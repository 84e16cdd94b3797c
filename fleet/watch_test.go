package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/detect"
	"bollard/fleet"
	"bollard/ocpp"
)

// watcher notes what it is told.
type watcher struct {
	mu    sync.Mutex
	signs []detect.Sign
	err   error // of Record
}

func (w *watcher) Notice(s detect.Sign) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signs = append(w.signs, s)
}

func (w *watcher) Record(_ context.Context, s detect.Sign) error {
	w.Notice(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *watcher) Forget(string) {}

// seen are the signs as kind:station:detail, with "+live" where that is said.
func (w *watcher) seen() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, s := range w.signs {
		text := fmt.Sprintf("%s:%s:%s", s.Kind, s.Station, s.Detail)
		if s.Live {
			text += "+live"
		}
		list = append(list, text)
	}
	return strings.Join(list, " ")
}

func watchedRig(t *testing.T) (*rig, *watcher) {
	t.Helper()
	r := newRig(t)
	w := &watcher{}
	r.watcher = w
	r.start()
	r.add(fleet.Enrolment{})
	return r, w
}

// Refused claims are signs: about the station if it is enrolled, about nobody
// if it isn't, and said to be beside a live session if there is one.
func TestRefusedClaimsAreSigns(t *testing.T) {
	t.Parallel()
	r, w := watchedRig(t)
	r.refusal(withPassword(claim(t, "CS-1"), "wrong"))
	r.refusal(withPassword(claim(t, "nobody-canary"), "wrong"))
	plain := withPassword(claim(t, "CS-1"), "wrong")
	plain.TLS, plain.Profiles = false, []int{1}
	r.refusal(plain)
	r.connected(ocpp.V201, fleet.SecurityBollard)
	r.refusal(withPassword(claim(t, "CS-1"), "wrong"))
	if got, want := w.seen(), "refused-proof:cs-1: refused-unknown:: refused-profile:cs-1: refused-proof:cs-1:+live"; got != want {
		t.Errorf("signs %s, want %s", got, want)
	}
	for _, s := range w.signs {
		if s.Source != source.String() || strings.Contains(fmt.Sprint(s), "canary") {
			t.Errorf("sign %+v", s)
		}
	}
}

// What a station says is a sign before it is told that it was heard.
func TestMessagesAreSigns(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		do   func(*fakeSession)
		want string
	}{
		"critical event":      {func(s *fakeSession) { s.event("TamperDetectionActivated") }, "event:cs-1:TamperDetectionActivated+live"},
		"in the words of 1.6": {func(s *fakeSession) { s.event("InvalidCentralSystemCertificate") }, "event:cs-1:InvalidCsmsCertificate+live"},
		"vendor's own event":  {func(s *fakeSession) { s.event("CanaryEvent") }, ""},
		"clock ahead": {func(s *fakeSession) {
			s.message(ocpp.FromStation, ocpp.ActionSecurityEvent, `{"type":"x","timestamp":"2026-06-01T12:06:00Z"}`)
		}, "clock-ahead:cs-1:it is ahead+live"},
		"clock at 1970": {func(s *fakeSession) {
			s.message(ocpp.FromStation, ocpp.ActionSecurityEvent, `{"type":"x","timestamp":"1970-01-01T00:00:00Z"}`)
		}, "clock-unset:cs-1:it was never set+live"},
		"queued for a month": {func(s *fakeSession) {
			s.message(ocpp.FromStation, ocpp.ActionSecurityEvent, `{"type":"x","timestamp":"2026-05-01T00:00:00Z"}`)
		}, ""},
		"firmware refused": {func(s *fakeSession) {
			s.message(ocpp.FromStation, ocpp.ActionFirmwareStatus, `{"status":"InvalidSignature","requestId":1}`)
		}, "firmware-status:cs-1:InvalidSignature+live"},
		"firmware status of its own": {func(s *fakeSession) {
			s.message(ocpp.FromStation, ocpp.ActionFirmwareStatus, `{"status":"Canary"}`)
		}, ""},
		"CSR for another": {func(s *fakeSession) {
			s.message(ocpp.FromStation, ocpp.ActionSignCertificate, fmt.Sprintf(`{"csr":%q}`, csrPEM(s.r.t, newKey(s.r.t), "SN-other", organisation)))
		}, "csr-mismatch:cs-1:+live"},
		"another's board": {func(s *fakeSession) {
			s.message(ocpp.FromStation, ocpp.ActionBootNotification, `{"reason":"PowerUp","chargingStation":{"model":"m","vendorName":"v","serialNumber":"SN-other"}}`)
		}, "boot-mismatch:cs-1:+live"},
		"ambiguous message": {func(s *fakeSession) {
			s.message(ocpp.FromStation, ocpp.ActionSecurityEvent, `{"type":"x","Type":"y","timestamp":"2026-06-01T12:00:00Z"}`)
		}, "bad-message:cs-1:+live"},
		"back end overruled": {func(s *fakeSession) {
			s.message(ocpp.FromCSMS, ocpp.ActionCertificateSigned, `{"certificateChain":"x"}`)
		}, "overruled:cs-1:+live"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w := watchedRig(t)
			test.do(r.connected(ocpp.V201, fleet.SecurityBollard))
			if got := w.seen(); got != test.want {
				t.Errorf("signs %q, want %q", got, test.want)
			}
		})
	}
}

// A station whose event couldn't be looked at is told to send it again.
func TestEventIsKeptByTheStationUntilItIsLookedAt(t *testing.T) {
	t.Parallel()
	r, w := watchedRig(t)
	s := r.connected(ocpp.V201, fleet.SecurityBollard)
	w.err = errors.New("disk is full")
	if v := s.event("TamperDetectionActivated"); v.Act != fleet.Refuse {
		t.Errorf("verdict %+v", v)
	}
	w.err = nil
	if v := s.event("TamperDetectionActivated"); v.Act != fleet.Answer {
		t.Errorf("verdict %+v", v)
	}
}

// Another firmware at boot is a surprise unless the station had told of an
// update, in whichever way; over restarts of Bollard too.
func TestUnannouncedFirmware(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		announce func(*fakeSession)
		later    time.Duration
		surprise bool
	}{
		"nothing was said": {func(*fakeSession) {}, 0, true},
		"by its status": {func(s *fakeSession) {
			s.message(ocpp.FromStation, ocpp.ActionFirmwareStatus, `{"status":"Installing"}`)
		}, time.Hour, false},
		"by an event": {func(s *fakeSession) { s.event("FirmwareUpdated") }, time.Hour, false},
		"a failure says no new": {func(s *fakeSession) {
			s.message(ocpp.FromStation, ocpp.ActionFirmwareStatus, `{"status":"InstallationFailed"}`)
		}, time.Hour, true},
		"long ago": {func(s *fakeSession) { s.message(ocpp.FromStation, ocpp.ActionFirmwareStatus, `{"status":"Installed"}`) }, 25 * time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w := watchedRig(t)
			boot := func(version string) *fakeSession {
				s := r.connected(ocpp.V201, fleet.SecurityBollard)
				s.message(ocpp.FromStation, ocpp.ActionBootNotification, fmt.Sprintf(`{"reason":"PowerUp","chargingStation":{"model":"m","vendorName":"v","serialNumber":"SN-CS-1","firmwareVersion":%q}}`, version))
				eventually(t, "the version is known", func() bool {
					plan, err := r.svc.Plan(t.Context(), "CS-1")
					return err == nil && plan.Firmware == version
				})
				return s
			}
			s := boot("1.0")
			test.announce(s)
			s.wg.Wait() // what runs beside it
			s.close()
			r.restart()
			r.advance(test.later)
			boot("2.0").close()
			boot("2.0").close()
			if got := strings.Count(w.seen(), "firmware-version:cs-1"); got != map[bool]int{true: 1}[test.surprise] {
				t.Errorf("signs %s", w.seen())
			}
		})
	}
}
