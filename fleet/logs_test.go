package fleet_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/ocpp"
)

// logSink is where the rig's stations are sent.
type logSink struct {
	mu    sync.Mutex
	swept map[string]bool
}

func (k *logSink) schedule(every time.Duration) fleet.Logs {
	return fleet.Logs{Every: every, Keep: 90 * 24 * time.Hour,
		URL: func(station string, request int64, expires time.Time) (string, error) {
			return fmt.Sprintf("https://sink/%s/%d/%d", station, request, expires.Unix()), nil
		},
		Sweep: func(known func() (map[string]bool, error)) (err error) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.swept, err = known()
			return err
		}}
}

func (r *rig) logs() []fleet.StationLog {
	r.t.Helper()
	list, err := r.svc.StationLogs(r.t.Context(), "CS-1")
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// look has the schedule looked at, and waits for what it asked.
func (r *rig) look(s *fakeSession) {
	fleet.LookLogs(r.t.Context(), r.svc)
	s.wg.Wait()
}

func (s *fakeSession) requests() []ocpp.GetLogRequest {
	s.r.t.Helper()
	var list []ocpp.GetLogRequest
	for _, raw := range s.sent(ocpp.ActionGetLog) {
		var q ocpp.GetLogRequest
		if err := json.Unmarshal(raw, &q); err != nil {
			s.r.t.Fatal(err)
		}
		list = append(list, q)
	}
	return list
}

func (s *fakeSession) logStatus(request int, status string) fleet.Verdict {
	s.r.t.Helper()
	return s.message(ocpp.FromStation, ocpp.ActionLogStatus, fmt.Sprintf(`{"status":%q,"requestId":%d}`, status, request))
}

// N01: each station is asked for its security log within the schedule, with a
// URL of its own, and what arrives is recorded with its hash.
func TestN01SecurityLogOnSchedule(t *testing.T) {
	t.Parallel()
	for _, v := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.add(fleet.Enrolment{})
			sink := &logSink{}
			r.svc.AttachLogs(sink.schedule(7 * 24 * time.Hour))
			s := r.connected(v, fleet.SecurityBollard)
			r.advance(time.Hour) // the first within an hour
			r.look(s)
			asked := s.requests()
			if len(asked) != 1 || asked[0].LogType != "SecurityLog" || asked[0].RequestID < 1<<30 || *asked[0].Retries != 2 ||
				asked[0].Log.RemoteLocation != fmt.Sprintf("https://sink/cs-1/%d/%d", asked[0].RequestID, r.clock().Add(2*time.Hour).Unix()) {
				t.Fatalf("asked %+v", asked)
			}
			id := asked[0].RequestID
			if l := r.logs(); len(l) != 1 || l[0].State != fleet.LogComing {
				t.Errorf("records %+v", l)
			}
			r.look(s)
			if v := s.logStatus(id, "Uploading"); v.Act != fleet.Answer {
				t.Errorf("Uploading: %+v", v)
			}
			if err := r.svc.LogArrived(t.Context(), "cs-1", int64(id), "file-1", 42, "ab12"); err != nil {
				t.Fatal(err)
			}
			if v := s.logStatus(id, "Uploaded"); v.Act != fleet.Answer {
				t.Errorf("Uploaded: %+v", v)
			}
			if l := r.logs(); len(l) != 1 || l[0].State != fleet.LogHere || l[0].File != "file-1" || l[0].Size != 42 || l[0].SHA256 != "ab12" || !l[0].ArrivedAt.Equal(r.clock()) {
				t.Errorf("records %+v", l)
			}
			if e := r.events("log.received"); len(e) != 1 || e[0].Data["sha256"] != "ab12" {
				t.Errorf("ledger %+v", e)
			}
			r.advance(5 * 24 * time.Hour)
			r.look(s)
			if n := len(s.requests()); n != 1 {
				t.Errorf("asked %d times within five days", n)
			}
			r.advance(2 * 24 * time.Hour)
			r.look(s)
			if n := len(s.requests()); n != 2 {
				t.Errorf("asked %d times within a week", n)
			}
		})
	}
}

// What comes of it is told, and asked again at a slowing pace; a station that
// has no such message is left alone.
func TestN01SecurityLogFailures(t *testing.T) {
	t.Parallel()
	unsupported := func(string, json.RawMessage) (any, error) {
		return nil, &ocpp.CallFailure{Code: ocpp.NotImplemented}
	}
	rejects := func(string, json.RawMessage) (any, error) { return map[string]string{"status": "Rejected"}, nil }
	accepts := func(string, json.RawMessage) (any, error) { return map[string]string{"status": "Accepted"}, nil }
	for name, test := range map[string]struct {
		answer func(string, json.RawMessage) (any, error)
		status string
		note   string
		again  time.Duration // by then it is asked again
		not    time.Duration // by then it isn't
	}{
		"not implemented": {unsupported, "", "the station has no such message", 31 * 24 * time.Hour, 20 * 24 * time.Hour},
		"rejected":        {rejects, "", "station answered Rejected", time.Hour, 30 * time.Minute},
		"upload fails":    {accepts, "UploadFailure", "the station reports UploadFailure", time.Hour, 30 * time.Minute},
		"nothing came":    {accepts, "Uploaded", "the station says it has uploaded, but nothing came", time.Hour, 30 * time.Minute},
		"says no more":    {accepts, "", "", 2 * time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.add(fleet.Enrolment{})
			sink := &logSink{}
			r.svc.AttachLogs(sink.schedule(7 * 24 * time.Hour))
			s := r.openWith(fleet.Admission{Station: r.proven("CS-1"), Profile: 2}, ocpp.V201, fleet.SecurityObserve, test.answer)
			s.booted("Accepted")
			r.advance(time.Hour)
			r.look(s)
			if len(s.requests()) != 1 {
				t.Fatalf("asked %d times", len(s.requests()))
			}
			if test.status != "" {
				s.logStatus(s.requests()[0].RequestID, test.status)
			}
			if l := r.logs(); l[0].Note != test.note || test.note != "" && l[0].State != fleet.LogFailed {
				t.Errorf("record %+v", l[0])
			}
			r.advance(test.not)
			r.look(s)
			if n := len(s.requests()); n != 1 {
				t.Errorf("asked %d times after %s", n, test.not)
			}
			r.advance(test.again - test.not)
			r.look(s)
			if n := len(s.requests()); n != 2 {
				t.Errorf("asked %d times after %s", n, test.again)
			}
		})
	}
}

// A clock that was a year ahead for a moment puts no security log off for a year.
func TestSecurityLogAfterAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	r.svc.AttachLogs((&logSink{}).schedule(7 * 24 * time.Hour))
	s := r.openWith(fleet.Admission{Station: r.proven("CS-1"), Profile: 2}, ocpp.V201, fleet.SecurityBollard, nil)
	s.booted("Accepted")
	right := r.clock()
	r.advance(365 * 24 * time.Hour)
	s.message(ocpp.FromCSMS, ocpp.ActionGetLog, `{"logType":"SecurityLog","requestId":7,"log":{"remoteLocation":"ftp://x"}}`)
	r.advance(2 * time.Hour)
	if r.look(s); len(s.requests()) != 1 {
		t.Fatalf("asked %d times by the clock that is ahead", len(s.requests()))
	}
	s.message(ocpp.FromCSMS, ocpp.ActionGetLog, `{"logType":"SecurityLog","requestId":8,"log":{"remoteLocation":"ftp://x"}}`)
	r.mu.Lock()
	r.now, r.timers = right.Add(time.Hour), nil
	r.mu.Unlock()
	if r.look(s); len(s.requests()) != 2 {
		t.Errorf("asked %d times once it was set right", len(s.requests()))
	}
	if r.look(s); len(s.requests()) != 2 {
		t.Error("asked again at once")
	}
}

// Bollard's requests stay its own, the back end's pass and aren't disturbed; a
// station that isn't accepted is asked nothing.
func TestSecurityLogBesidesTheBackEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	sink := &logSink{}
	r.svc.AttachLogs(sink.schedule(24 * time.Hour))
	s := r.openWith(fleet.Admission{Station: r.proven("CS-1"), Profile: 2}, ocpp.V201, fleet.SecurityBollard, nil)
	s.message(ocpp.FromStation, ocpp.ActionBootNotification, `{"reason":"PowerUp","chargingStation":{"model":"m","vendorName":"v","serialNumber":"SN-CS-1"}}`)
	r.advance(time.Hour)
	r.look(s)
	if len(s.requests()) > 0 {
		t.Fatal("asked before it was accepted")
	}
	s.booted("Accepted")
	if v := s.message(ocpp.FromCSMS, ocpp.ActionGetLog, `{"logType":"DiagnosticsLog","requestId":7,"log":{"remoteLocation":"ftp://x"}}`); v.Act != fleet.Pass {
		t.Errorf("the back end's GetLog: %+v", v)
	}
	r.look(s)
	if len(s.requests()) > 0 {
		t.Error("asked while the back end's upload may run")
	}
	for _, id := range []int{7, 1<<30 + 5} { // the second is nobody's
		if v := s.logStatus(id, "Uploaded"); v.Act != fleet.Pass {
			t.Errorf("status of request %d: %+v", id, v)
		}
	}
	r.advance(time.Hour)
	r.look(s)
	if len(s.requests()) != 1 {
		t.Errorf("asked %d times", len(s.requests()))
	}
	if err := r.svc.LogArrived(t.Context(), "cs-1", 7, "f", 1, "x"); err == nil {
		t.Error("an upload nobody asked for was recorded")
	}
}

// Logs go after their time, and when there are newer ones; the files of the
// others are named to the sweep.
func TestSecurityLogsAreDropped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	sink := &logSink{}
	r.svc.AttachLogs(sink.schedule(0))
	s := r.connected(ocpp.V201, fleet.SecurityBollard)
	for n := range fleet.LogsKept + 2 {
		l, err := r.svc.FetchLog(t.Context(), "CS-1")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.svc.LogArrived(t.Context(), "cs-1", int64(l.Request), fmt.Sprint("file-", n), 1, "x"); err != nil {
			t.Fatal(err)
		}
		r.advance(24 * time.Hour)
	}
	r.look(s)
	if n := len(s.requests()); n != fleet.LogsKept+2 {
		t.Errorf("asked %d times without a schedule", n)
	}
	if n := len(r.logs()); n != fleet.LogsKept {
		t.Errorf("%d logs are kept", n)
	}
	r.advance(82 * 24 * time.Hour)
	fleet.SweepLogs(context.Background(), r.svc)
	sink.mu.Lock()
	defer sink.mu.Unlock()
	if len(r.logs()) != 8 || len(sink.swept) != 8 || sink.swept["file-3"] || !sink.swept["file-11"] {
		t.Errorf("%d logs, files %v", len(r.logs()), sink.swept)
	}
}

// What a back end asks for is uploaded here where that is configured: nothing else of
// its request changes, the newest of both kinds stay, and a back end that is only
// watched is left alone.
func TestBackEndsLogsComeHere(t *testing.T) { // N01, 1.6 §6.23, promise 11
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	schedule := (&logSink{}).schedule(0)
	schedule.BackEnds = true
	r.svc.AttachLogs(schedule)
	s := r.connected(ocpp.V16, fleet.SecurityBollard)
	for name, tt := range map[string]struct{ action, payload, want, kind string }{
		"log":         {"GetLog", `{"logType":"DiagnosticsLog","requestId":7,"retries":3,"customData":{"vendorId":"x"},"log":{"remoteLocation":"https://files.example.com/a?b","oldestTimestamp":"2026-01-01T00:00:00Z"}}`, `{"customData":{"vendorId":"x"},"log":{"oldestTimestamp":"2026-01-01T00:00:00Z","remoteLocation":"HERE"},"logType":"DiagnosticsLog","requestId":7,"retries":3}`, "DiagnosticsLog"},
		"diagnostics": {"GetDiagnostics", `{"location":"ftp://files.example.com/a","retries":1,"startTime":"2026-01-01T00:00:00Z"}`, `{"location":"HERE","retries":1,"startTime":"2026-01-01T00:00:00Z"}`, "Diagnostics"},
	} {
		v := s.message(ocpp.FromCSMS, tt.action, tt.payload)
		l := r.logs()[0]
		here := fmt.Sprintf("https://sink/cs-1/%d/%d", l.Request, l.AskedAt.Add(2*time.Hour).Unix())
		if v.Act != fleet.Pass || string(v.Rewrite) != strings.Replace(tt.want, "HERE", here, 1) || l.Kind != tt.kind || l.Backend == "" {
			t.Errorf("%s: %+v %s; %+v", name, v, v.Rewrite, l)
		}
		if err := r.svc.LogArrived(t.Context(), "cs-1", int64(l.Request), "file", 1, "x"); err != nil || r.logs()[0].State != fleet.LogHere {
			t.Errorf("%s: %v, %+v", name, err, r.logs()[0])
		}
		r.advance(time.Hour)
	}
	if v := s.message(ocpp.FromCSMS, "GetLog", `{"logType":"DiagnosticsLog","requestId":7,"log":{"remoteLocation":"https://x","RemoteLocation":"https://y"}}`); v.Act != fleet.Refuse || v.Code != ocpp.FormatViolation {
		t.Errorf("a request with two places: %+v", v)
	}
	for range fleet.LogsKept + 1 {
		if _, err := r.svc.FetchLog(t.Context(), "CS-1"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.logs()); n != fleet.LogsKept+2 {
		t.Errorf("%d logs are kept: one kind drives the other out", n)
	}
	watched := r.connected(ocpp.V16, fleet.SecurityObserve)
	if v := watched.message(ocpp.FromCSMS, "GetDiagnostics", `{"location":"ftp://x"}`); v.Act != fleet.Pass || v.Rewrite != nil {
		t.Errorf("of a watched back end: %+v", v)
	}
}
