package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/admin"
	"bollard/firmware/campaign"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/internal/config"
	"bollard/internal/rollout"
	"bollard/ocpp"
	"bollard/station"
)

// A release goes to stations of every version over real sockets, without their back end
// asking and without its hearing of it; a halt keeps it from everybody, and takes people
// to end.
func TestFirmwareRollout(t *testing.T) { // L01.FR.01, promise 10
	t.Parallel()
	y := newYard(t, "firmware: {windows: [{group: night, open: [\"mon 01:00-01:15 UTC\"]}]}\n")
	r := y.publish("2.0.0", 20, station.Image("2.0.0", 100_000))
	stations := map[string]*station.Station{"ro16": y.charger("ro16", ocpp.V16, nil), "ro201": y.charger("ro201", ocpp.V201, nil), "ro21": y.charger("ro21", ocpp.V21, nil)}
	y.must("station", "group", "ro21", "lab", "--site", "north")
	y.must("station", "add", "away", "--serial", "SN-away", "--vendor", "ACME", "--model", "Volt")
	y.must("station", "add", "other", "--serial", "SN-other", "--vendor", "ACME", "--model", "Ampere")
	how := []string{"firmware", "rollout", "2.0.0", "--rings", "lab=0,all=100%", "--soak", "0", "--jitter", "0", "--per-minute", "600"}
	dry := y.must(append(how, "--dry-run")...)
	for _, want := range []string{"ro16 +all", "ro21 +lab +north", "away .* no ", "4 of 4 stations would take part"} {
		if !regexp.MustCompile(want).MatchString(dry) {
			t.Errorf("the dry run lacks %q:\n%s", want, dry)
		}
	}
	if _, errs, code := y.cli(how...); code != 1 || !strings.Contains(errs, "firmware.start") {
		t.Errorf("without approval: %d %s", code, errs)
	}
	for _, bad := range [][]string{{"--rings", "lab"}, {"--jitter", "soon"}, {"--fail-limit", "x"}} {
		if _, errs, code := y.cli(append(how, bad...)...); code != 2 {
			t.Errorf("%v: %d %s", bad, code, errs)
		}
	}
	start := append([]string{"--action", "start", "--ring", "lab"}, how[3:]...)
	y.approve(r.ID, start...)
	// Whoever approved the lab didn't approve that all of the fleet is it, nor that nothing halts it.
	for _, other := range [][]string{{"--rings", "lab=100%"}, {"--fail-limit", "99%"}, {"--group", "lab"}} {
		if _, errs, code := y.cli(append(how, other...)...); code != 1 || !strings.Contains(errs, "firmware.start") {
			t.Errorf("another plan than was approved, %v: %d %s", other, code, errs)
		}
	}
	y.must(how...)
	show := func() admin.ReleaseProgress {
		return ask[admin.ReleaseRef, admin.ReleaseProgress](y, "firmware.rollout.show", admin.ReleaseRef{Release: r.ID})
	}
	wait := func(what string, ok func(p admin.ReleaseProgress) bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !ok(show()); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v\n%s", what, show(), y.log)
			}
		}
	}
	wait("the lab is done", func(p admin.ReleaseProgress) bool { return p.Asks == "all" && p.Count[rollout.Done] == 1 })
	if out := y.must("firmware", "rollouts", "2.0.0"); !strings.Contains(out, "--action widen --ring all --rollout "+show().ID) {
		t.Error(out)
	}
	if y.update("ro201").ID != "" {
		t.Error("a ring began that wasn't approved")
	}
	if answer, err := y.send("ro201", "UpdateFirmware", y.request(7, r)); err != nil || answer["statusInfo"].(map[string]any)["reasonCode"] != "GwRing" {
		t.Errorf("its back end comes before its ring: %v, %v", answer, err)
	}
	// While a ring soaks, what stations show is counted, and goes on.
	if _, err := stations["ro16"].Call(t.Context(), "StatusNotification", map[string]any{"connectorId": 1, "errorCode": "GroundFailure", "status": "Faulted"}); err != nil {
		t.Error(err)
	}
	wait("the fault is counted", func(p admin.ReleaseProgress) bool {
		return slices.ContainsFunc(p.Stations, func(m admin.ReleaseMember) bool { return m.Station == "ro16" && m.Signs["faults"] == 1 })
	})
	if out := y.must("firmware", "rollouts", "2.0.0"); !strings.Contains(out, "1 faults") {
		t.Error(out)
	}
	if _, errs, code := y.cli("firmware", "approve", r.ID, "--action", "widen", "--ring", "all", "--rollout", "beef"); code != 1 || !strings.Contains(errs, show().ID) {
		t.Errorf("a further ring of no rollout: %d %s", code, errs)
	}
	if _, errs, code := y.cli("firmware", "approve", r.ID, "--action", "widen", "--ring", "all", "--soak", "1h"); code != 2 {
		t.Errorf("a plan beside the rollout there is: %d %s", code, errs)
	}
	// One person isn't enough for a further ring, nor to go on after a halt.
	y.approve(r.ID, "--action", "widen", "--ring", "all")
	y.must("firmware", "halt", "2.0.0", "--reason", "stations smell")
	if answer, err := y.send("ro201", "UpdateFirmware", y.request(7, r)); err != nil || answer["statusInfo"].(map[string]any)["reasonCode"] != "GwHalted" {
		t.Errorf("its back end gets it through a halt: %v, %v", answer, err)
	}
	if _, errs, code := y.cli("firmware", "resume", "2.0.0", "--reason", "they don't"); code != 1 || show().Phase != rollout.Halted {
		t.Errorf("one person ends a halt: %d %s", code, errs)
	}
	if out := y.must("firmware", "rollouts"); !strings.Contains(out, "halted") {
		t.Error(out)
	}
	y.must("firmware", "revoke", r.ID, "--reason", "it smells")
	wait("it is over", func(p admin.ReleaseProgress) bool { return p.Phase == rollout.Cancelled })

	// The next one has one ring.
	r = y.publish("3.0.0", 30, station.Image("3.0.0", 100_000))
	y.approve(r.ID, "--action", "start", "--ring", "all", "--rings", "all=100%", "--jitter", "0", "--per-minute", "600")
	y.must("station", "remove", "away")
	y.must("firmware", "rollout", "3.0.0", "--rings", "all=100%", "--jitter", "0", "--per-minute", "600")
	wait("it is finished", func(p admin.ReleaseProgress) bool { return p.Phase == rollout.Finished })
	if p := show(); p.Count[rollout.Done] != 3 {
		t.Errorf("%+v", p)
	}
	for identity, st := range stations {
		if j := y.update(identity); j.State != job.Done || j.Rollout == "" || st.State().Firmware != "3.0.0" {
			t.Errorf("%s: %s, runs %s", identity, j.State, st.State().Firmware)
		}
		for _, action := range []string{"FirmwareStatusNotification", "SignedFirmwareStatusNotification"} {
			if told := y.statuses(identity, action); len(told) > 0 {
				t.Errorf("the back end of %s was told %v", identity, told)
			}
		}
	}
	if shown := ask[admin.ReleaseRef, admin.Release](y, "firmware.show", admin.ReleaseRef{Release: r.ID}); shown.State != "complete" {
		t.Errorf("its release is %s", shown.State)
	}
	if _, errs, code := y.cli("ledger", "verify"); code != 0 {
		t.Errorf("ledger verify: %s", errs)
	}
}

// Windows are those of the first entry that fits site and group.
func TestFirmwareWindows(t *testing.T) {
	t.Parallel()
	w, err := parseWindows("dir", []config.FirmwareWindow{
		{Site: "North-*", Group: "street", Open: []string{"daily 01:00-02:00 UTC"}}, {Site: "north-*"}, {Open: []string{"daily 03:00-04:00 UTC"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		site, group string
		hour        int // at which it is open; -1: always
	}{"both": {"north-1", "Street", 1}, "another group": {"north-1", "garage", -1}, "another site": {"south", "street", 3}, "neither": {"", "", 3}} {
		list := w.of(campaign.Station{Station: gate.Station{Key: name}, Site: tt.site, Group: tt.group})
		for hour := range 24 {
			if want := hour == tt.hour || tt.hour < 0; list.Open(time.Date(2026, 6, 1, hour, 30, 0, 0, time.UTC)) != want {
				t.Errorf("%s: at %d:30 it is open: %t", name, hour, !want)
			}
		}
	}
	if _, err := parseWindows("dir", []config.FirmwareWindow{{Open: []string{"daily 03:00-03:14 UTC"}}}); err == nil || !strings.Contains(err.Error(), "too short") {
		t.Errorf("a window that nothing ever begins in: %v", err)
	}
	if _, err := parseWindows("dir", []config.FirmwareWindow{{Open: []string{"daily 03:00-04:00 Mars"}}}); err == nil || !strings.Contains(err.Error(), "firmware.windows[0].open") {
		t.Error(err)
	}
}
