package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/ocpp"
)

// hands is where logs are handed on to, and what becomes of them there.
type hands struct {
	refuses string // a part of the locations that Check refuses
	answer  error
	got     []string
}

func (h *hands) handOn() *fleet.HandOn {
	seal := func(name string, secret []byte) ([]byte, error) {
		return []byte(name + "|" + strings.ToUpper(string(secret))), nil
	}
	open := func(name string, sealed []byte) ([]byte, error) {
		text, ok := strings.CutPrefix(string(sealed), name+"|")
		if !ok {
			return nil, errors.New("another seal")
		}
		return []byte(strings.ToLower(text)), nil
	}
	return &fleet.HandOn{Seal: seal, Open: open,
		Check: func(location string) error {
			if h.refuses != "" && strings.Contains(location, h.refuses) {
				return errors.New("the scheme isn't allowed")
			}
			return nil
		},
		Send: func(_ context.Context, location string, l fleet.StationLog) error {
			h.got = append(h.got, location+" "+l.File)
			return h.answer
		}}
}

// asked is a station whose back end asked for a log, which came.
func (h *hands) asked(t *testing.T, location string) (*rig, *fleet.HandOn) {
	t.Helper()
	r := newRig(t)
	r.add(fleet.Enrolment{})
	on := h.handOn()
	schedule := (&logSink{}).schedule(0)
	schedule.BackEnds, schedule.HandOn = true, on
	r.svc.AttachLogs(schedule)
	s := r.connected(ocpp.V201, fleet.SecurityBollard)
	if v := s.message(ocpp.FromCSMS, "GetLog", fmt.Sprintf(`{"logType":"DiagnosticsLog","requestId":7,"log":{"remoteLocation":%q}}`, location)); v.Act != fleet.Pass || v.Rewrite == nil {
		t.Fatalf("%+v", v)
	}
	if err := fleet.HandOnDue(t.Context(), r.svc, on); err != nil || len(h.got) > 0 {
		t.Fatalf("%v was handed on before it came, %v", h.got, err)
	}
	if err := r.svc.LogArrived(t.Context(), "cs-1", int64(r.logs()[0].Request), "file-1", 42, "ab12"); err != nil {
		t.Fatal(err)
	}
	return r, on
}

func (r *rig) handOn(on *fleet.HandOn) {
	r.t.Helper()
	if err := fleet.HandOnDue(r.t.Context(), r.svc, on); err != nil {
		r.t.Fatal(err)
	}
}

// What a back end asked for is handed on to where it wanted it, once; its location is
// sealed until then, and forgotten after it.
func TestLogsAreHandedOn(t *testing.T) { // N01
	t.Parallel()
	h := &hands{}
	r, on := h.asked(t, "https://files.example/a?token=x")
	if l := r.logs()[0]; strings.Contains(string(l.Target), "token") {
		t.Errorf("its location stands open: %s", l.Target)
	}
	r.handOn(on)
	r.advance(24 * time.Hour)
	r.handOn(on)
	l := r.logs()[0]
	if len(h.got) != 1 || h.got[0] != "https://files.example/a?token=x file-1" || l.Target != nil || l.HandedAt.IsZero() || l.State != fleet.LogHere || l.Note != "" {
		t.Errorf("%v, %+v", h.got, l)
	}
	if e := r.events("log.handed-on"); len(e) != 1 || e[0].Data["sha256"] != "ab12" || e[0].Data["where"] != "https://files.example" || strings.Contains(fmt.Sprint(e), "token") {
		t.Errorf("ledger %+v", e)
	}
}

// It is tried again at a slowing pace, ten times and no more; what is refused there, or
// by policy, isn't. The file stays, with why.
func TestLogsThatAreNotHandedOn(t *testing.T) { // promise 11
	t.Parallel()
	away := errors.New("nobody answers")
	for name, tt := range map[string]struct {
		location, refuses string
		answer            error
		tries             int
		note              string
	}{
		"nobody there": {"https://files.example/a", "", away, 10, "not handed on: nobody answers"},
		"refused":      {"https://files.example/a", "", fmt.Errorf("%w: the answer to PUT is 403", fleet.ErrNotTaken), 1, "not handed on: it isn't taken there: the answer to PUT is 403"},
		"not allowed":  {"ftp://files.example/a", "ftp", nil, 0, "not handed on: the scheme isn't allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &hands{refuses: tt.refuses, answer: tt.answer}
			r, on := h.asked(t, tt.location)
			var tried []time.Time
			for range 10 * 60 {
				if r.handOn(on); len(h.got) > len(tried) {
					tried = append(tried, r.clock())
				}
				r.advance(time.Minute)
			}
			l := r.logs()[0]
			if len(tried) != tt.tries || l.Target != nil || !l.HandedAt.IsZero() || l.Note != tt.note || l.File != "file-1" || l.State != fleet.LogHere {
				t.Errorf("tried at %v; %+v", tried, l)
			}
			if e := r.events("log.not-handed-on"); len(e) != 1 || e[0].Data["reason"] != tt.note || !strings.HasSuffix(e[0].Data["where"], "://files.example") {
				t.Errorf("ledger %+v", e)
			}
			if tt.tries == 10 && (tried[1].Sub(tried[0]) != time.Minute || tried[9].Sub(tried[8]) != 4*time.Hour) {
				t.Errorf("tried at %v", tried)
			}
		})
	}
}

// What is still to be handed on and has to go, for its age or for newer ones, is on record.
func TestLogsThatGoBeforeTheyAreHandedOn(t *testing.T) {
	t.Parallel()
	ask := func(r *rig, s *fakeSession) {
		if v := s.message(ocpp.FromCSMS, "GetLog", `{"logType":"DiagnosticsLog","requestId":7,"log":{"remoteLocation":"https://files.example/b"}}`); v.Rewrite == nil {
			r.t.Fatalf("%+v", v)
		}
	}
	h := &hands{}
	r, _ := h.asked(t, "https://files.example/a")
	s := r.connected(ocpp.V201, fleet.SecurityBollard)
	for range fleet.LogsKept {
		ask(r, s)
	}
	if e := r.events("log.not-handed-on"); len(e) != 1 || e[0].Data["reason"] != "not handed on: newer ones took its place" {
		t.Errorf("newer ones: %+v", e)
	}
	r.advance(91 * 24 * time.Hour)
	fleet.SweepLogs(t.Context(), r.svc)
	if n, e := len(r.logs()), r.events("log.not-handed-on"); n > 0 || len(e) != 1+fleet.LogsKept {
		t.Errorf("%d are left, %d entries", n, len(e))
	}
}

// What a clock that was a year ahead arrived by, or was tried by, doesn't wait for a year.
func TestHandOnAfterAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, test := range map[string]struct {
		until time.Duration
		due   bool
	}{"cs-1": {365 * 24 * time.Hour, true}, "cs-2": {4 * time.Hour, false}, "cs-3": {0, true}} {
		r.add(fleet.Enrolment{Identity: name})
		if err := r.store.AddLog(t.Context(), fleet.StationLog{Station: name, Request: 1, Kind: "DiagnosticsLog", Backend: name,
			State: fleet.LogHere, AskedAt: r.clock(), TryAt: r.clock().Add(test.until), File: "file-" + name, Target: []byte("log/" + name + "/1|https://files.example/a")}); err != nil {
			t.Fatal(err)
		}
	}
	on := (&hands{}).handOn()
	sent := make(chan string, 3)
	on.Send = func(_ context.Context, _ string, l fleet.StationLog) error {
		sent <- l.Station
		return nil
	}
	schedule := (&logSink{}).schedule(0)
	schedule.BackEnds, schedule.HandOn = true, on
	r.svc.AttachLogs(schedule)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.svc.HandOnLogs(ctx) }()
	got := map[string]bool{}
	for range 2 {
		select {
		case name := <-sent:
			got[name] = true
		case <-time.After(5 * time.Second):
			t.Error("one waits")
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !got["cs-1"] || !got["cs-3"] || len(got) != 2 {
		t.Errorf("handed on %v", got)
	}
}

// A back end that is slow to take its logs holds up no other's.
func TestSlowBackEndHoldsUpItsOwnLogsAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	on := (&hands{}).handOn()
	release, sent := make(chan struct{}), make(chan string)
	on.Send = func(_ context.Context, location string, l fleet.StationLog) error {
		sent <- l.Backend
		if l.Backend == "slow" {
			<-release
		}
		return nil
	}
	schedule := (&logSink{}).schedule(0)
	schedule.BackEnds, schedule.HandOn = true, on
	r.svc.AttachLogs(schedule)
	for i, backend := range []string{"slow", "slow", "slow", "quick", "quick"} {
		r.add(fleet.Enrolment{Identity: fmt.Sprintf("CS-%d", i+1)})
		if err := r.store.AddLog(t.Context(), fleet.StationLog{Station: fmt.Sprintf("cs-%d", i+1), Request: 1, Kind: "DiagnosticsLog", Backend: backend,
			State: fleet.LogHere, AskedAt: r.clock(), TryAt: r.clock(), File: fmt.Sprintf("file-%d", i), Target: fmt.Appendf(nil, "log/cs-%d/1|HTTPS://FILES.EXAMPLE/A", i+1)}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.svc.HandOnLogs(ctx) }()
	got := map[string]int{}
	for range 3 { // one slow, and both quick ones
		got[<-sent]++
	}
	if got["slow"] != 1 || got["quick"] != 2 {
		t.Errorf("%v", got)
	}
	close(release)
	for range 2 {
		if to := <-sent; to != "slow" {
			t.Errorf("%s has another", to)
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
