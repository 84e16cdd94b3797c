package main

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/firmware/catalogue"
	"bollard/firmware/gate"
	"bollard/fleet"
	"bollard/internal/config"
	"bollard/ocpp"
	"bollard/store"
)

// A station may be of any model until its vendor and its model are known.
func TestFirmwareLevelOfUnknownModels(t *testing.T) { // promise 10
	t.Parallel()
	volt := func(level string) []config.FirmwareModel {
		return []config.FirmwareModel{{Model: "Volt", Level: level, SignFill: true, Upgrade: true}}
	}
	for name, tt := range map[string]struct {
		level  string
		models []config.FirmwareModel
		st     gate.Station
		want   gate.Rule
	}{
		"its model":               {"observe", volt("enforce"), gate.Station{Vendor: "ACME", Model: "Volt"}, gate.Rule{Level: gate.Enforce, SignFill: true, Upgrade: true}},
		"another model":           {"observe", volt("enforce"), gate.Station{Vendor: "ACME", Model: "Watt"}, gate.Rule{Level: gate.Observe}},
		"neither known":           {"observe", volt("enforce"), gate.Station{}, gate.Rule{Level: gate.Enforce}},
		"no vendor":               {"observe", volt("enforce"), gate.Station{Model: "Volt"}, gate.Rule{Level: gate.Enforce}},
		"no model":                {"observe", volt("enforce"), gate.Station{Vendor: "ACME"}, gate.Rule{Level: gate.Enforce}},
		"a model is looser":       {"enforce", append([]config.FirmwareModel{{Level: "observe"}}, volt("")...), gate.Station{}, gate.Rule{Level: gate.Enforce}},
		"everybody only observes": {"observe", volt(""), gate.Station{}, gate.Rule{Level: gate.Observe}},
	} {
		a := &app{cfg: &config.File{}}
		a.cfg.Firmware.Level, a.cfg.Firmware.Models = tt.level, tt.models
		if diff := cmp.Diff(tt.want, a.updateRule(tt.st)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A signer whose standing can't be read isn't one that nobody trusts.
func TestUnreadTrustIsNoVerdict(t *testing.T) {
	t.Parallel()
	dir := newDataDir(t, "")
	cfg, err := loadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := openApp(t.Context(), dir, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	m := newMaker(t)
	if _, err := a.trustsSigner(t.Context(), m.cert, nil); err == nil || errors.Is(err, catalogue.ErrUnjudged) {
		t.Errorf("a stranger: %v", err)
	}
	if err := a.standing(t.Context(), []*x509.Certificate{m.cert, m.root}); err != nil {
		t.Errorf("of whom nothing is known: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := a.trustsSigner(ended, m.cert, nil); !errors.Is(err, catalogue.ErrUnjudged) {
		t.Errorf("roots weren't read: %v", err)
	}
	if err := a.standing(ended, []*x509.Certificate{m.cert, m.root}); !errors.Is(err, catalogue.ErrUnjudged) {
		t.Errorf("records weren't read: %v", err)
	}
}

// someone is a session of a station.
type someone struct{ fleet.Session }

func (someone) Admission() fleet.Admission {
	return fleet.Admission{Station: fleet.Proven{Identity: "CS-1", Vendor: "ACME", Model: "Volt"}}
}

// What the fleet says of a CALL that waited is what becomes of it.
func TestWaitingCallIsJudgedByTheFleet(t *testing.T) { // promise 4
	t.Parallel()
	answer := ocpp.GenericStatus{Status: ocpp.StatusRejected}
	for name, tt := range map[string]struct {
		fleet fleet.Verdict
		want  gate.Verdict
	}{
		"pass":   {fleet.Verdict{Act: fleet.Pass, Watch: true}, gate.Verdict{}},
		"answer": {fleet.Verdict{Act: fleet.Answer, Payload: answer, Reason: "x"}, gate.Verdict{Answer: answer, Reason: "x"}},
		"refuse": {fleet.Verdict{Act: fleet.Refuse, Code: ocpp.FormatViolation}, gate.Verdict{Code: ocpp.FormatViolation}},
		"drop":   {fleet.Verdict{Act: fleet.Drop}, gate.Verdict{Code: ocpp.SecurityError}},
	} {
		got := judged{someone{}, func(context.Context) fleet.Verdict { return tt.fleet }}.Anew(t.Context())
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A record that can't be read isn't taken for one that has nothing in it.
func TestUnreadableStationIsUnread(t *testing.T) { // promise 10
	t.Parallel()
	kept, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "bollard.db"), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.AddStations(t.Context(), []fleet.Station{{Identity: "CS-1"}}); err != nil {
		t.Fatal(err)
	}
	u := &updateGuard{app: &app{store: kept}}
	if st := u.station(t.Context(), someone{}); st.Unread != nil {
		t.Error(st.Unread)
	}
	if err := kept.Close(); err != nil {
		t.Fatal(err)
	}
	if st := u.station(t.Context(), someone{}); st.Unread == nil {
		t.Error("its record and its plan couldn't be read")
	}
}
