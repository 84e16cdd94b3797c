package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ocpp"
	"bollard/station"
)

// What no station gets it gets by an exception that three people made, for it and for
// one release, once; everybody sees that. What it didn't verify is told apart for ever.
func TestFirmwareExceptions(t *testing.T) { // L01, L02, promise 10
	t.Parallel()
	y := newYardOf(t, newMaker(t), "firmware: {level: enforce}\n", "bob", "carol")
	ours := "https://localhost:" + y.at.Firmware[strings.LastIndex(y.at.Firmware, ":")+1:]
	y.hosts(y.dir, "127.0.0.1:1", strings.TrimPrefix(ours, "https://"))
	y.must("policy", "reload")
	old, image := y.publish("1.5.0", 15, station.Image("1.5.0", 1000)), station.Image("2.0.0", 100_000)
	dir, r := y.maker.release(t, "2.0.0", 20, image, func(r *release.Release) { r.Models = append(r.Models, release.Model{Vendor: "ACME", Model: "Old"}) })
	y.must("firmware", "add", dir)
	y.approve(r.ID)
	y.must("firmware", "publish", r.ID)
	except := func(action, id, station string, people ...string) {
		t.Helper()
		for _, name := range people {
			y.approveAs(name, id, "--action", action, "--station", station)
		}
	}
	reason := func(identity string, payload any) any {
		t.Helper()
		answer, err := y.send(identity, "UpdateFirmware", payload)
		var failure *ocpp.CallFailure
		if errors.As(err, &failure) {
			return string(failure.Code)
		}
		if info, ok := answer["statusInfo"].(map[string]any); ok {
			return info["reasonCode"]
		}
		return answer["status"]
	}
	for _, identity := range []string{"down", "other"} {
		y.charger(identity, ocpp.V201, func(c *station.Config) { c.Firmware = "2.0.0" })
	}
	if got := reason("down", y.request(7, old)); got != "GwRollback" {
		t.Errorf("without an exception: %v", got)
	}
	except("downgrade", old.ID, "down", "alice", "bob")
	if got := reason("down", y.request(7, old)); got != "GwRollback" {
		t.Errorf("two of three: %v", got)
	}
	except("downgrade", old.ID, "down", "carol")
	if got := reason("other", y.request(7, old)); got != "GwRollback" {
		t.Errorf("another station: %v", got)
	}
	if got := reason("down", y.request(7, old)); got != "Accepted" {
		t.Fatalf("by exception: %v\n%s", got, y.log)
	}
	if j := y.awaitUpdate("down", job.Done); !cmp.Equal(j.Exceptions, []string{"downgrade"}) || j.Unsigned || j.Booted != "1.5.0" {
		t.Errorf("%+v", j)
	}
	if got := reason("down", y.request(8, old)); got != "GwRollback" {
		t.Errorf("once more: %v", got)
	}
	if _, errs, code := y.cli("firmware", "approve", old.ID, "--action", "downgrade"); code == 0 {
		t.Errorf("an exception for nobody: %s", errs)
	}
	if _, errs, code := y.cli("firmware", "approve", old.ID, "--station", "down"); code == 0 {
		t.Errorf("a publication for one station: %s", errs)
	}

	// A station that knows no signatures: nothing but an exception, and from here alone.
	plain := y.charger("plain", ocpp.V16, func(c *station.Config) { c.Model, c.Verify = "Old", station.Unsigned })
	legacy := map[string]any{"location": ours + "/d/" + r.SHA256 + "/x", "retrieveDate": "2026-01-01T00:00:00Z"}
	if got := reason("plain", legacy); got != "SecurityError" {
		t.Errorf("without an exception: %v", got)
	}
	except("unsigned", r.ID, "plain", "alice", "bob", "carol")
	if got := reason("plain", legacy); got != nil {
		t.Fatalf("by exception: %v\n%s", got, y.log)
	}
	if j := y.awaitUpdate("plain", job.Done); !j.Unsigned || !cmp.Equal(j.Exceptions, []string{"unsigned"}) || j.Dialect != "" {
		t.Errorf("%+v", j)
	}
	y.await(plain, "it says installed", func(s station.State) bool { return s.Update == "Installed" && s.Firmware == "2.0.0" })
	want := []string{"Downloading", "Downloaded", "Installing", "Installed"}
	for deadline := time.Now().Add(patience); !slices.Equal(y.statuses("plain", "FirmwareStatusNotification"), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the back end was told %v, want %v", y.statuses("plain", "FirmwareStatusNotification"), want)
		}
	}
	for _, frame := range plain.Sent(ocpp.FromCSMS) {
		if head, err := ocpp.ParseHead(frame); err == nil && strings.Contains(head.Action, "UpdateFirmware") && (head.Action != "UpdateFirmware" || !strings.Contains(string(head.Payload), ours+"/d/"+r.SHA256)) {
			t.Errorf("it was sent %s", frame)
		}
	}
	// What it said as it booted is recorded a moment after it said so.
	out := y.must("firmware", "report", "--below", "2.0.0")
	for deadline := time.Now().Add(patience); !strings.Contains(out, "2.0.0 (not verified)"); out = y.must("firmware", "report", "--below", "2.0.0") {
		if time.Now().After(deadline) {
			t.Fatalf("the report doesn't say that it verified nothing:\n%s", out)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if out := y.must("firmware", "updates"); !strings.Contains(out, "by exception: downgrade") || !strings.Contains(out, "didn't verify it") {
		t.Errorf("updates:\n%s", out)
	}
	if out := y.must("alert", "list"); !strings.Contains(out, "firmware-exception") {
		t.Errorf("nobody was told:\n%s", out)
	}
	exported := y.must("ledger", "export")
	if n := strings.Count(exported, `"firmware.excepted"`); n != 2 || !strings.Contains(exported, `"verified-by-station":"no"`) {
		t.Errorf("%d exceptions stand in the ledger", n)
	}
}
